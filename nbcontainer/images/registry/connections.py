"""Connections to a registry and to hosts that it redirects to: TLS, proxies, timeouts, and aborting all at once."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from nbcontainer._version import __version__
from nbcontainer.errors import RegistryError
from nbcontainer.images.registry import urls
from nbcontainer.images.registry.endpoints import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

    from urllib3 import HTTPResponse

    from nbcontainer.images.registry.endpoints import Endpoint

_CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
_PORTS = {"http": 80, "https": 443}
_SEND_SIZE = 1 << 20
_AT_ONCE = 8


@dataclass(frozen=True)
class Patience:
    """Timeouts in seconds, and the number of attempts.

    `headers` is the time for the status and all headers of a response.
    `silence` is the time without a byte, and the interval in which a transfer must reach `slowest` bytes a second.
    """

    connect: float = 10.0
    headers: float = 60.0
    silence: float = 30.0
    slowest: int = 1 << 10
    tries: int = 5
    pause: float = 0.5
    longest_pause: float = 15.0


class Connections:
    """Sends the requests of one registry's client once, without following redirects. Thread-safe.

    An insecure `endpoint` needs no valid certificate. Hosts to which it redirects do, and its own authorities in
    certs.d are trusted for them, too, as in docker and podman.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._endpoint = endpoint
        self._headers = patience.headers
        self._timeout = urllib3.Timeout(connect=patience.connect, read=patience.silence)
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Any = None) -> urllib3.BaseHTTPResponse:
        """Return the response; the caller reads its body and releases the connection.

        Raises `RegistryError` for an invalid URL, `urllib3.exceptions.HTTPError` for a failed request.
        """
        parts = urls.split(url)
        proxy = _proxy_for(parts)
        insecure = self._endpoint.insecure and parts.netloc == self._endpoint.address
        try:
            return self._manager(proxy, insecure=insecure).request(
                method,
                url,
                headers={"User-Agent": f"nbcontainer/{__version__}", "Accept-Encoding": "identity", **headers},
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._timeout,
            )
        except urllib3.exceptions.ProxyError as error:
            address = proxy.rpartition("@")[2].rpartition("//")[2].rstrip("/")  # without a password
            raise urllib3.exceptions.ProxyError(f"the proxy {address}", error.original_error) from error
        except urllib3.exceptions.HTTPError:
            raise
        except (ValueError, http.client.HTTPException) as error:
            raise RegistryError(f"cannot send a request to {url[:200]!r}: {error}") from None

    def abort(self) -> None:
        """Shut all connections down: the requests of other threads fail at once."""
        with self._lock:
            for one in self._sockets:
                _shut_down(one)

    def close(self) -> None:
        """Close the idle connections."""
        for manager in self._managers.values():
            manager.clear()

    def _manager(self, proxy: str, *, insecure: bool) -> urllib3.PoolManager:
        with self._lock:
            key = (proxy, insecure)
            if key not in self._managers:
                self._managers[key] = self._make(proxy, insecure=insecure)
            return self._managers[key]

    def _make(self, proxy: str, *, insecure: bool) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "maxsize": _AT_ONCE,
            "blocksize": _SEND_SIZE,
            "ssl_context": _context(self._endpoint.host, insecure=insecure),
        }
        manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        manager.pool_classes_by_scheme = _pools(self._opened, self._headers, insecure=insecure)
        return manager

    def _opened(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets = {known for known in self._sockets if known.fileno() >= 0} | {one}


def _proxy_for(url: SplitResult) -> str:
    """Return the URL of the proxy for a host; empty for this machine, and for the entries of `no_proxy`."""
    host = url.hostname or ""
    names = (host, f"{host}:{url.port or _PORTS[url.scheme]}")  # an entry is a host, or a host with a port
    if is_loopback(url.netloc.rpartition("@")[2]) or any(map(urllib.request.proxy_bypass, names)):
        return ""
    return urllib.request.getproxies().get(url.scheme, "")


def _context(host: str, *, insecure: bool) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those of a registry alone (containers-certs.d(5))."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    for top in _CERTIFICATES:
        for path in Path(top, host).glob("*.crt"):
            try:
                context.load_verify_locations(path)
            except OSError:  # ssl.SSLError too
                continue
    return context


@contextlib.contextmanager
def _within(seconds: float, one: socket.socket | None) -> Iterator[None]:
    """End the connection of a socket if the block takes longer: a byte now and then resets the time for silence.

    Raises `TimeoutError`, which urllib3 makes a `ReadTimeoutError`.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        _shut_down(one)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if over.is_set():
            raise TimeoutError


def _shut_down(one: socket.socket | None) -> None:
    with contextlib.suppress(OSError):
        if one is not None:
            socket.socket.shutdown(one, socket.SHUT_RDWR)  # without the end of TLS


def _pools(opened: Any, seconds: float, *, insecure: bool) -> dict[str, Any]:
    """Return pools of connections that call `opened` with each new socket; headers must come within `seconds`."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            opened(self.sock)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            with _within(seconds, self.sock):
                return super().getresponse()

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            opened(self.sock)
            if insecure:
                self.is_verified = True  # it is not, but the user allowed that, and need not be warned at each request

        def getresponse(self) -> HTTPResponse:  # type: ignore[override]
            with _within(seconds, self.sock):
                return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
