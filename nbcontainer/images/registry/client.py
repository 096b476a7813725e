"""One registry: requests with who we are, tried again where that helps, and never a secret for anybody else.

Sources: OCI distribution-spec 1.1; distribution, docs/spec/auth/token.md and oauth.md; RFC 9110.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from urllib3 import exceptions

from nbcontainer.errors import ImageError, RegistryError
from nbcontainer.images.registry import challenge as challenges
from nbcontainer.images.registry import credentials
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
_TOKEN_SECONDS = 60  # how long a token holds that does not say
_TOKEN_LIFE = 1e9  # seconds that no token holds
_TOKEN_MARGIN = 10
_TO_HTTPS = b"HTTPS server"  # what servers in Go answer who comes without TLS


class Transient(Exception):
    """What may go better the next time; `after` are seconds that the registry asks for."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Client:
    """Talks to one repository of the registry at `endpoint`. Thread-safe.

    `push` asks for the right to write. `find` looks credentials up by host and path. All calls raise `RegistryError`
    or, once the tracker's work is given up, `Stopped`.
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
        self._connections = Connections(endpoint.address if endpoint.insecure else "", self.patience)
        self._find = find
        self._lock = threading.RLock()
        self._base = ""
        self._challenge: Challenge | None = None
        self._known: Credentials | Literal[False] | None = False
        self._token = ""
        self._token_until = 0.0

    def abort(self) -> None:
        """Ends what other threads are waiting for."""
        self._connections.abort()

    def close(self) -> None:
        """Closes the connections."""
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
        """One request, `where` being below the repository or a whole URL; the response's body is the caller's to read.

        Redirects of reading are followed, without our Authorization where they lead elsewhere. Raises `Transient` for
        what may go better the next time, `RegistryError` with the registry's own words for a status that is not in
        `fine`.
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
        """Does it, and again after a pause while it is only `Transient` that it fails.

        The tries count from one to the next where `done` has not grown by much. Raises `RegistryError` at last.
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
                    hint = "try again later: what came is kept" if now else "try again later"
                    raise RegistryError(f"{self.endpoint.host} fails: {error}, {tries} times", hint=hint) from None
                self.tracker.pause(self._pause(tries, error.after))

    def _pause(self, tries: int, after: float) -> float:
        """Twice as long each time, not all at the same moment, and as long as the registry asks for."""
        longest = self.patience.longest_pause
        pause: float = min(self.patience.pause * 2 ** (tries - 1), longest) * random.uniform(0.5, 1.0)
        return max(pause, min(after, longest))

    def _url(self, where: str) -> str:
        base = self.reach()
        if where.startswith(("http://", "https://")):
            return where
        return f"{base}/v2/{self.endpoint.path}/{where}"

    def location(self, response: BaseHTTPResponse) -> str:
        """Where a response's Location leads, as a URL. Raises `RegistryError`."""
        found = response.headers.get("Location", "")
        if not found:
            raise RegistryError(f"{self.endpoint.host} does not say where to go on")
        return self._safe(urljoin(self._base, found))

    def _answered(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> BaseHTTPResponse:
        """The response to a request with who we are; asked again, once, with what the registry wants to know."""
        for last in (False, True):
            response, final = self._followed(method, url, headers, body)
            if response.status != 401 or last or not self._is_ours(final):
                break
            wanted = challenges.choose(response.headers.get("WWW-Authenticate", ""))
            response.close()
            if wanted is None:
                raise RegistryError(f"{self.endpoint.host} wants to know who we are, and does not say how")
            with self._lock:
                self._challenge, self._token = wanted, ""
            if body is not None and not isinstance(body, bytes):
                raise Transient("it wants to know once more who we are")  # what was sent is gone: from the beginning
        return response

    def _followed(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> tuple[BaseHTTPResponse, str]:
        for _ in range(_REDIRECTS + 1):
            self.tracker.check()
            ours = {"Authorization": said} if self._is_ours(url) and (said := self._authorization()) else {}
            response = self._connections.send(method, url, {**headers, **ours}, body)
            if response.status not in _FOLLOWED or method not in ("GET", "HEAD"):
                return response, url
            response.close()
            url = self._safe(urljoin(url, response.headers.get("Location", "")))
        raise RegistryError(f"{self.endpoint.host} redirects more than {_REDIRECTS} times")

    def _safe(self, url: str) -> str:
        """A URL that the registry sends us to. Raises `RegistryError` where that is less safe than itself."""
        if self._base.startswith("https:") and not url.startswith("https:"):
            raise RegistryError(f"{self.endpoint.host} redirects from https to {url[:200]!r}")
        return url

    def _is_ours(self, url: str) -> bool:
        """Whether a URL is the registry's own: only there are we somebody."""
        return urlsplit(url)[:2] == urlsplit(self._base)[:2]

    def _refused(self, response: BaseHTTPResponse) -> Exception:
        status, said = response.status, _words_of(response)
        host, name = self.endpoint.host, f"{self.endpoint.host}/{self.endpoint.path}"
        if status in _AGAIN:
            after = untrusted_json.number(response.headers.get("Retry-After", "")) or 0
            return Transient(f"HTTP {status}{said}", float(after))
        if status in (401, 403):
            hint = f"check the name, or run docker login {host} or podman login {host}"
            return RegistryError(f"{host} does not let us at {name}{said}", hint=hint)
        return StatusError(f"{host} answers HTTP {status}{said} for {name}", status)

    # Reaching it

    def reach(self) -> str:
        """The registry's base URL, found out at the first call. Raises `RegistryError` where there is no way to it."""
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
                body = response.read(_ERROR_LIMIT)
                response.close()
            except exceptions.SSLError as error:
                tls = _why(error)  # perhaps it has none
                continue
            except exceptions.ProtocolError as error:
                broken = _why(error)  # perhaps it has TLS
                continue
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
        """In the clear is tried only where it may be; first on this machine itself, which usually has no TLS."""
        if not self.endpoint.insecure:
            return ("https",)
        return ("http", "https") if is_loopback(self.endpoint.host) else ("https", "http")

    def _unreachable(self, why: str) -> RegistryError:
        hint = "check the name and the network; an image from elsewhere comes in with `%container load FILE`"
        return RegistryError(f"cannot reach {self.endpoint.host}: {why}", hint=hint)

    # Who we are

    def _authorization(self) -> str:
        """The value of our Authorization header, empty where none is wanted or we are nobody."""
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
        """Looked up once: a helper may ask the person."""
        if self._known is False:
            self._known = self._find(self.endpoint.host, self.endpoint.path)
        return self._known or None

    def _fetch_token(self, wanted: Challenge, known: Credentials | None) -> tuple[str, float]:
        """A token, and for how many seconds it holds. Only a realm as safe as the registry hears who we are."""
        realm = urlsplit(wanted.realm)
        safe = realm.scheme == "https" or (realm.scheme == "http" and self._may_be_plain(realm.netloc))
        if not safe:
            raise RegistryError(f"{self.endpoint.host} has tokens at {wanted.realm[:200]!r}, which is not https")
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
            return _token_in(response.read(_TOKEN_LIMIT))
        finally:
            response.close()

    def _may_be_plain(self, host: str) -> bool:
        return self._base.startswith("http://") and (host == urlsplit(self._base).netloc or is_loopback(host))


class StatusError(RegistryError):
    """An answer with a status that says no."""

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
        raise RegistryError(f"there is no token in {what}")
    seconds = document.get("expires_in")
    if not isinstance(seconds, (int, float)) or seconds is True or not 0 < seconds < _TOKEN_LIFE:
        seconds = _TOKEN_SECONDS
    return token, float(seconds)


def _words_of(response: BaseHTTPResponse) -> str:
    """What a registry says about an error, as `: CODE, message`; empty where it says nothing that can be read."""
    try:
        first = untrusted_json.objects(
            untrusted_json.parse(response.read(_ERROR_LIMIT), "the error"), "errors", "the error"
        )[0]
        words = [untrusted_json.text(first, key, "the error") for key in ("code", "message")]
    except (ImageError, IndexError, exceptions.HTTPError):
        return ""
    text = ", ".join(filter(None, (" ".join(word.split()) for word in words)))
    return f": {''.join(letter if letter.isprintable() else '?' for letter in text[:300])}" if text else ""


def _why(error: Exception) -> str:
    """A network error in a few words."""
    match error:
        case exceptions.NameResolutionError():
            return "there is no such host, or no network"
        case exceptions.ReadTimeoutError():
            return "it has stopped sending"
        case exceptions.SSLError():
            return f"TLS failed: {_cause(error)}"
        case exceptions.NewConnectionError():
            return _cause(error)
        case exceptions.ConnectTimeoutError():
            return "it does not answer"
        case exceptions.IncompleteRead() | exceptions.ProtocolError():
            return "the connection broke off"
        case _:
            return str(error)[:200]


def _cause(error: Exception) -> str:
    """The words of the error below."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error).rpartition(": ")[2][:200]
