"""Connections to a registry and to where it sends us: TLS, proxies, time limits, and an end to all of them at once."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from nbcontainer._version import __version__
from nbcontainer.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
_BLOCK = 1 << 20
_AT_ONCE = 8


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often to try again.

    `silence` is without a byte, and how often a transfer is looked at: it must have had `slowest` bytes a second.
    """

    connect: float = 10.0
    silence: float = 30.0
    slowest: int = 1 << 10
    tries: int = 5
    pause: float = 0.5
    longest_pause: float = 15.0


class Connections:
    """Sends requests, follows nothing, tries once. Thread-safe. `insecure` hosts' certificates are not looked at."""

    def __init__(self, insecure_host: str, patience: Patience) -> None:
        self._insecure_host = insecure_host
        self._timeout = urllib3.Timeout(connect=patience.connect, read=patience.silence)
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Any = None) -> urllib3.BaseHTTPResponse:
        """The response, with its body still to be read and the connection to be released.

        Raises `RegistryError` for what is no URL, `urllib3.exceptions.HTTPError` for all that can go wrong.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RegistryError(f"the registry sends us to {url[:200]!r}, which is no address")
        insecure = parts.netloc == self._insecure_host
        return self._manager(parts.hostname, parts.scheme, insecure=insecure).request(
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

    def abort(self) -> None:
        """Ends what other threads are sending or waiting for: their calls fail at once."""
        with self._lock:
            for one in self._sockets:
                try:
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # TLS has nothing to say any more
                except OSError:
                    continue

    def close(self) -> None:
        """Closes the idle connections."""
        for manager in self._managers.values():
            manager.clear()

    def _manager(self, host: str, scheme: str, *, insecure: bool) -> urllib3.PoolManager:
        proxy = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme, "")
        with self._lock:
            key = (proxy, insecure)
            if key not in self._managers:
                self._managers[key] = self._make(proxy, insecure=insecure)
            return self._managers[key]

    def _make(self, proxy: str, *, insecure: bool) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": _AT_ONCE, "blocksize": _BLOCK, "ssl_context": _context(insecure=insecure)}
        made = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        made.pool_classes_by_scheme = _pools(self._opened, insecure=insecure)
        return made

    def _opened(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets = {known for known in self._sockets if known.fileno() >= 0} | {one}


def _context(*, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    for top in _CERTIFICATES:
        for path in Path(top).glob("*/*.crt"):
            try:
                context.load_verify_locations(path)
            except OSError:  # ssl.SSLError too
                continue
    return context


def _pools(opened: Any, *, insecure: bool) -> dict[str, Any]:
    """Pools of connections that say when they have a socket."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            opened(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            opened(self.sock)
            if insecure:
                self.is_verified = True  # it is not: the person said so, and need not be warned at each request

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
