"""A registry on loopback that does what a test wants of it, right or wrong, and remembers what it was asked."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.images.image_files import LayoutFiles, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Act = Callable[["Exchange"], bool]

USER, PASSWORD, TOKEN, IDENTITY = "user", "secret", "a-token", "an-identity-token"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str:
        """Who the client said it is."""
        return self.headers.get("authorization", "")


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; `Content_Type` in `headers` is Content-Type. After an error the connection is closed."""
        self.close_connection = self.close_connection or status >= 400
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def break_off(self) -> None:
        """Ends the connection in the middle."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait_for_the_end(self) -> None:
        """Sends nothing more until the test is over or the client has gone."""
        self.wfile.flush()
        self.registry.over.wait(30)
        self.close_connection = True

    @property
    def begin(self) -> int:
        """The first byte that is asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def _any(self) -> None:
        path = urlsplit(self.path).path
        self.registry.asked.append(Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for act in list(self.registry.acts):
                if act(self):
                    return
            self.registry.serve(self, path)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _any  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that does not like our TLS is no error here."""


@dataclass
class FakeRegistry:
    """`acts` come before the right answers, and take a request by returning True. `auth` is `token` or `basic`."""

    auth: str = ""
    anonymous: bool = False
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    @contextlib.contextmanager
    def running(self, certificate: Path | None = None) -> Iterator[FakeRegistry]:
        """Serves on a port of loopback until the end, by TLS where there is a file with a certificate and its key."""
        handler = type("Handler", (Exchange,), {"registry": self})
        server = _Server(("127.0.0.1", 0), handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def put(self, files: LayoutFiles, entry: dict[str, Any], tag: str = "latest") -> None:
        """Holds an image, or an index, under a tag, and all that it needs."""
        for name, data in files.files.items():
            if name.startswith("blobs/"):
                digest = sha256(data)
                self.blobs[digest] = data
                with contextlib.suppress(ValueError):
                    document = json.loads(data)
                    self.manifests[digest] = (document.get("mediaType", ""), data)
        self.manifests[tag] = (entry["mediaType"], self.blobs[entry["digest"]])

    def paths(self, word: str) -> list[Asked]:
        """The requests with `word` in their path."""
        return [asked for asked in self.asked if word in asked.path]

    def serve(self, exchange: Exchange, path: str) -> None:
        """The right answer."""
        if path == "/token":
            self._token(exchange)
        elif not self._allowed(exchange):
            realm = f'Bearer realm="http://{self.address}/token",service="fake",scope="x"'
            exchange.answer(401, WWW_Authenticate=realm if self.auth == "token" else 'Basic realm="fake"')
        elif path == "/v2/":
            exchange.answer(200)
        elif exchange.command in ("GET", "HEAD"):
            self._read(exchange, path)
        else:
            self._write(exchange, path)

    def _allowed(self, exchange: Exchange) -> bool:
        said = exchange.headers.get("Authorization", "")
        return not self.auth or said == (f"Bearer {TOKEN}" if self.auth == "token" else BASIC)

    def _token(self, exchange: Exchange) -> None:
        body = exchange.rfile.read(int(exchange.headers.get("Content-Length", "0")))
        if parse_qs(body.decode()).get("refresh_token") == [IDENTITY]:
            exchange.answer(200, json.dumps({"access_token": TOKEN}).encode())
        elif self.anonymous or exchange.headers.get("Authorization") == BASIC:
            exchange.answer(200, json.dumps({"token": TOKEN, "expires_in": 300}).encode())
        else:
            exchange.answer(401)

    def _read(self, exchange: Exchange, path: str) -> None:
        kind, name = path.rsplit("/", 2)[-2:]
        if kind == "manifests" and name in self.manifests:
            media_type, data = self.manifests[name]
            exchange.answer(200, data, Content_Type=media_type)
        elif kind == "blobs" and name in self.blobs:
            self.blob(exchange, self.blobs[name])
        else:
            error = {"errors": [{"code": f"{kind.upper()}_UNKNOWN", "message": "not\x1b known\nhere"}]}
            exchange.answer(404, json.dumps(error).encode())

    def blob(self, exchange: Exchange, data: bytes) -> None:
        """A blob, from where it is asked for."""
        if begin := exchange.begin:
            exchange.answer(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            exchange.answer(200, data)

    def _write(self, exchange: Exchange, path: str) -> None:
        body = exchange.rfile.read(int(exchange.headers.get("Content-Length", "0")))
        if exchange.command == "POST":
            exchange.answer(202, Location=f"{path}an-upload?state=1")
        elif "/manifests/" in path:
            for name in (path.rpartition("/")[2], sha256(body)):
                self.manifests[name] = (exchange.headers.get("Content-Type", ""), body)
            exchange.answer(201)
        else:
            digest = parse_qs(urlsplit(exchange.path).query)["digest"][0]
            if sha256(body) != digest:
                exchange.answer(400)
                return
            self.blobs[digest] = body
            exchange.answer(201)
