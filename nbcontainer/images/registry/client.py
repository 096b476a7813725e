"""The client of one registry: authenticated requests, with retries; secrets go to the registry alone.

Sources: OCI distribution-spec 1.1; distribution, docs/spec/auth/token.md and oauth.md; RFC 9110.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlencode

from urllib3 import exceptions

from nbcontainer.errors import ImageError, RegistryError
from nbcontainer.images.registry import challenge as challenges
from nbcontainer.images.registry import credentials, urls
from nbcontainer.images.registry.bodies import read_beginning, read_document
from nbcontainer.images.registry.connections import Connections, Patience
from nbcontainer.images.registry.endpoints import is_loopback
from nbcontainer.oci import untrusted_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from urllib3 import BaseHTTPResponse

    from nbcontainer.images.registry.challenge import Challenge
    from nbcontainer.images.registry.credentials import Credentials
    from nbcontainer.images.registry.endpoints import Endpoint
    from nbcontainer.progress import Tracker

T = TypeVar("T")

_REDIRECTS = 5
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_FOLLOWED = frozenset({301, 302, 303, 307, 308})
_ERROR_LIMIT = 64 << 10
_TOKEN_LIMIT = 1 << 20
_TOKEN_SECONDS = 60  # for which a token without a lifetime is valid
_TOKEN_LIFE = 1e9  # seconds; longer lifetimes are ignored
_TOKEN_MARGIN = 10
_TO_HTTPS = b"HTTPS server"  # the response of servers in Go to a request without TLS


class Transient(Exception):
    """A failure that may not occur again; `after` is the pause that the registry asks for, in seconds."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Client:
    """Talks to one repository of the registry at `endpoint`. Thread-safe.

    `push` asks for permission to write. `find` looks credentials up by host and path. All calls raise `RegistryError`,
    or `Stopped` once the tracker is stopped.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tracker: Tracker,
        *,
        push: bool = False,
        patience: Patience | None = None,
        find: Callable[[str, str], Credentials | None] = credentials.find,
    ) -> None:
        self.endpoint = endpoint
        self.patience = patience or Patience()
        self.tracker = tracker
        self._scope = f"repository:{endpoint.path}:{'pull,push' if push else 'pull'}"
        self._connections = Connections(endpoint, self.patience)
        self._find = find
        self._lock = threading.RLock()
        self._base = ""
        self._challenge: Challenge | None = None
        self._known: Credentials | Literal[False] | None = False
        self._token = ""
        self._token_until = 0.0

    def abort(self) -> None:
        """End the requests in which other threads wait."""
        self._connections.abort()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    # Requests

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        where: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        fine: tuple[int, ...] = (200,),
    ) -> Iterator[BaseHTTPResponse]:
        """Send one request and yield the response, whose body the caller reads.

        `where` is below the repository, or a whole URL. Redirects of GET and HEAD are followed, without the
        Authorization header if they lead to another host. Raises `Transient` for a failure that may not occur again,
        `RegistryError` with the registry's message for a status that is not in `fine`.
        """
        try:
            response = self._answered(method, self._url(where), headers or {}, body)
            try:
                if response.status not in fine:
                    raise self._refused(response)
                yield response
                if method == "HEAD":
                    response.drain_conn()  # there is no body, and the connection may be used again
            finally:
                response.close()
                response.release_conn()
        except exceptions.HTTPError as error:
            self.tracker.check()
            raise Transient(_why(error)) from None

    def patiently(self, do: Callable[[], T], done: Callable[[], int] = lambda: 0) -> T:
        """Call `do`, again after a pause if it raises `Transient`, and return its result.

        After the last attempt it raises `RegistryError`. Attempts are counted anew if `done` (bytes) grew enough.
        """
        tries, reached = 0, done()
        while True:
            try:
                return do()
            except Transient as error:
                self.tracker.check()
                now = done()
                tries = 1 if now - reached >= _ERROR_LIMIT else tries + 1
                reached = now
                if tries >= self.patience.tries:
                    hint = "try again later; the fetched bytes are kept" if now else "try again later"
                    raise RegistryError(f"{self.endpoint.host} failed {tries} times: {error}", hint=hint) from None
                self.tracker.pause(self._pause(tries, error.after))

    def _pause(self, tries: int, after: float) -> float:
        """Return a pause in seconds: twice as long each time, with jitter, and as long as the registry asks for."""
        longest = self.patience.longest_pause
        pause: float = min(self.patience.pause * 2 ** (tries - 1), longest) * random.uniform(0.5, 1.0)
        return max(pause, min(after, longest))

    def _url(self, where: str) -> str:
        base = self.reach()
        if where.startswith(("http://", "https://")):
            return where
        return f"{base}/v2/{self.endpoint.path}/{where}"

    def location(self, response: BaseHTTPResponse) -> str:
        """Return the URL of a response's Location header. Raises `RegistryError`."""
        found = response.headers.get("Location", "")
        if not found:
            raise RegistryError(f"{self.endpoint.host} sent no Location header for the upload")
        return self._safe(urls.join(self._base, found))

    def _answered(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> BaseHTTPResponse:
        """Return the response to a request; after a 401 it is sent once more, with the challenge answered."""
        for last in (False, True):
            response, final = self._followed(method, url, headers, body)
            if response.status != 401 or last or not self._is_ours(final):
                break
            wanted = challenges.choose(response.headers.get("WWW-Authenticate", ""))
            response.close()
            if wanted is None:
                raise RegistryError(f"{self.endpoint.host} requires authentication but sent no usable challenge")
            with self._lock:
                self._challenge, self._token = wanted, ""
            if body is not None and not isinstance(body, bytes):
                raise Transient("it requires authentication again")  # the body is consumed: start from the beginning
        return response

    def _followed(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> tuple[BaseHTTPResponse, str]:
        for _ in range(_REDIRECTS + 1):
            self.tracker.check()
            secret = {"Authorization": value} if self._is_ours(url) and (value := self._authorization()) else {}
            response = self._connections.send(method, url, {**headers, **secret}, body)
            if response.status not in _FOLLOWED or method not in ("GET", "HEAD"):
                return response, url
            response.close()
            url = self._safe(urls.join(url, response.headers.get("Location", "")))
        raise RegistryError(f"{self.endpoint.host} redirects more than {_REDIRECTS} times")

    def _safe(self, url: str) -> str:
        """Return a URL that the registry redirects to. Raises `RegistryError` if it is less safe than the registry."""
        if self._base.startswith("https:") and not url.startswith("https:"):
            raise RegistryError(f"{self.endpoint.host} redirects from https to {url[:200]!r}")
        return url

    def _is_ours(self, url: str) -> bool:
        """Whether a URL is on the registry itself: only there we authenticate."""
        return urls.split(url)[:2] == urls.split(self._base)[:2]

    def _refused(self, response: BaseHTTPResponse) -> Exception:
        status, message = response.status, self._message_in(response)
        host, name = self.endpoint.host, f"{self.endpoint.host}/{self.endpoint.path}"
        if status in _AGAIN:
            after = untrusted_json.number(response.headers.get("Retry-After", "")) or 0
            return Transient(f"HTTP {status}{message}", float(after))
        if status in (401, 403):
            hint = f"check the name, or run `docker login {host}` or `podman login {host}`"
            return RegistryError(f"{host} denied access to {name}{message}", hint=hint)
        return StatusError(f"{host} returned HTTP {status}{message} for {name}", status)

    def _message_in(self, response: BaseHTTPResponse) -> str:
        try:
            return _message(read_beginning(response, _ERROR_LIMIT, self.patience))
        except (RegistryError, exceptions.HTTPError):
            return ""

    # Reaching it

    def reach(self) -> str:
        """Return the registry's base URL, found by the first call. Raises `RegistryError` if it cannot be reached."""
        with self._lock:
            if not self._base:
                self._base = self.patiently(self._ping)
            return self._base

    def _ping(self) -> str:
        broken = tls = ""
        for scheme in self._schemes():
            url = f"{scheme}://{self.endpoint.address}"
            try:
                response = self._connections.send("GET", f"{url}/v2/", {})
                body = read_beginning(response, _ERROR_LIMIT, self.patience)
                response.close()
            except exceptions.SSLError as error:
                tls = _why(error)  # perhaps it has none
                continue
            except exceptions.ProtocolError as error:
                broken = _why(error)  # perhaps it has TLS
                continue
            except exceptions.ProxyError as error:
                self.tracker.check()
                raise self._unreachable(_why(error), f"check the environment variable {scheme}_proxy") from None
            except exceptions.HTTPError as error:
                self.tracker.check()
                raise self._unreachable(_why(error)) from None
            if response.status == 400 and _TO_HTTPS in body and scheme == "http":
                continue
            if response.status in _AGAIN:
                raise Transient(f"HTTP {response.status}")
            if response.status == 401:
                self._challenge = challenges.choose(response.headers.get("WWW-Authenticate", ""))
            return url
        self.tracker.check()
        if broken:
            raise Transient(broken)
        raise self._unreachable(tls)

    def _schemes(self) -> tuple[str, ...]:
        """Return the schemes to try: http only if the endpoint is insecure; first on loopback, which rarely has TLS."""
        if not self.endpoint.insecure:
            return ("https",)
        return ("http", "https") if is_loopback(self.endpoint.host) else ("https", "http")

    def _unreachable(self, why: str, check: str = "check the name and the network") -> RegistryError:
        hint = f"{check}, or load an image file with `%container load FILE`"
        return RegistryError(f"cannot reach {self.endpoint.host}: {why}", hint=hint)

    # Authentication

    def _authorization(self) -> str:
        """Return the value of the Authorization header; empty without a challenge or without credentials."""
        with self._lock:
            wanted = self._challenge
            if wanted is None:
                return ""
            known = self._credentials()
            if wanted.scheme == "basic":
                return known.basic if known is not None and known.user else ""
            if not self._token or time.monotonic() >= self._token_until:
                self._token, seconds = self._fetch_token(wanted, known)
                self._token_until = time.monotonic() + max(seconds - _TOKEN_MARGIN, 0)
            return f"Bearer {self._token}"

    def _credentials(self) -> Credentials | None:
        """Return the credentials, looked up once: a helper may ask the user."""
        if self._known is False:
            self._known = self._find(self.endpoint.host, self.endpoint.path)
        return self._known or None

    def _fetch_token(self, wanted: Challenge, known: Credentials | None) -> tuple[str, float]:
        """Return a token and its lifetime in seconds. Credentials go only to a realm as safe as the registry."""
        realm = urls.parse(wanted.realm)
        safe = realm.scheme == "https" or (realm.scheme == "http" and self._may_be_plain(realm.netloc))
        if not safe:
            raise RegistryError(f"{self.endpoint.host} issues tokens at {wanted.realm[:200]!r}, which is not https")
        fields = {"service": wanted.service, "scope": self._scope}
        if known is not None and known.identity:
            form = {
                **fields,
                "grant_type": "refresh_token",
                "refresh_token": known.identity,
                "client_id": "nbcontainer",
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._connections.send("POST", wanted.realm, headers, urlencode(form).encode())
        else:
            query = urlencode({**fields, **({"account": known.user} if known else {})})
            url = realm._replace(query="&".join(filter(None, (realm.query, query)))).geturl()
            response = self._connections.send("GET", url, {"Authorization": known.basic} if known else {})
        try:
            if response.status != 200:
                raise self._refused(response)
            return _token_in(read_document(response, _TOKEN_LIMIT, self.patience))
        finally:
            response.close()

    def _may_be_plain(self, host: str) -> bool:
        return self._base.startswith("http://") and (host == urls.split(self._base).netloc or is_loopback(host))


class StatusError(RegistryError):
    """A response with a status that is an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _token_in(data: bytes) -> tuple[str, float]:
    what = "the registry's answer with a token"
    try:
        document = untrusted_json.parse(data, what)
        token = untrusted_json.text(document, "token", what) or untrusted_json.text(document, "access_token", what)
    except ImageError as error:
        raise RegistryError(error.message) from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryError(f"no token in {what}")
    seconds = document.get("expires_in")
    if not isinstance(seconds, (int, float)) or seconds is True or not 0 < seconds < _TOKEN_LIFE:
        seconds = _TOKEN_SECONDS
    return token, float(seconds)


def _message(body: bytes) -> str:
    """Return the message in the body of an error response, as `: CODE, message`; empty if there is none."""
    try:
        first = untrusted_json.objects(untrusted_json.parse(body, "the error"), "errors", "the error")[0]
        words = [untrusted_json.text(first, key, "the error") for key in ("code", "message")]
    except (ImageError, IndexError):
        return ""
    text = ", ".join(filter(None, (" ".join(word.split()) for word in words)))
    return f": {''.join(letter if letter.isprintable() else '?' for letter in text[:300])}" if text else ""


def _why(error: Exception) -> str:
    """Return the cause of a network error, in short."""
    match error:
        case exceptions.NameResolutionError():
            return "unknown host, or no network"
        case exceptions.ReadTimeoutError():
            return "it stopped sending"
        case exceptions.SSLError():
            return f"TLS failed: {_cause(error)}"
        case exceptions.NewConnectionError():
            return _cause(error)
        case exceptions.ConnectTimeoutError():
            return "it does not respond"
        case exceptions.ProxyError():
            return f"{error.args[0]}: {_why(error.original_error)}"
        case exceptions.IncompleteRead() | exceptions.ProtocolError():
            return "the connection was closed"
        case _:
            return str(error)[:200]


def _cause(error: Exception) -> str:
    """Return the message of the error's cause."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error).rpartition(": ")[2][:200]
