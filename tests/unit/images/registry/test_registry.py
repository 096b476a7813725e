"""Registries, honest ones and others: what comes in is what its digest says, and no secret goes astray."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import socket
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from nbcontainer.errors import ImageError, ImageNotFound, RegistryError
from nbcontainer.images import library
from nbcontainer.images.archives import prepare
from nbcontainer.images.builtin import busybox
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.library import Images
from nbcontainer.images.registry import connections
from nbcontainer.images.registry.client import Client
from nbcontainer.images.registry.connections import Connections, Patience
from nbcontainer.images.registry.endpoints import Endpoint
from nbcontainer.images.registry.pulling import RegistrySource
from nbcontainer.oci import platforms, reference
from nbcontainer.progress import Tracker
from tests.requirements import require
from tests.unit.images.apart import Apart
from tests.unit.images.fake_registry import BASIC, IDENTITY, TOKEN, Exchange, FakeRegistry
from tests.unit.images.image_files import LayoutFiles, config, layer, platform, sha256
from tests.unit.images.test_sizes import WRONG, stating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Listener, State
    from nbcontainer.store.layout import Store

CALM = Patience(connect=60, headers=60, silence=60, tries=3, pause=0.01, longest_pause=0.02)
"""For a registry that answers at once, unless the machine is busy."""
HASTY = replace(CALM, headers=0.6, silence=0.4)
"""For one that is silent or slow."""
BASE, TOP = layer("base", b"below"), layer("top", os.urandom(300_000))
BLOB = gzip.compress(TOP, mtime=0)


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the test's own credentials, none at first, and no configuration of registries."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", os.devnull)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "auth.json"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry with the image `x/y`, of two layers, that lets everybody in."""
    with FakeRegistry().running() as made:
        files = LayoutFiles()
        made.put(files, files.image(BASE, TOP))
        yield made


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """Another host, with the same blobs."""
    with FakeRegistry().running() as made:
        files = LayoutFiles()
        made.put(files, files.image(BASE, TOP))
        yield made


def images_of(store: Store) -> Images:
    """A store's images, which do not wait long before they try again."""
    return Images(store, Apart(store.path), patience=CALM)


class Puller:
    """Pulls from a registry into a store."""

    def __init__(self, store: Store, registry: FakeRegistry) -> None:
        self.store = store
        self.registry = registry
        self.runner = Apart(store.path)
        self.images = images_of(store)

    def __call__(
        self, name: str = "x/y", listener: Listener | None = None, patience: Patience = CALM, **options: Any
    ) -> Image:
        """Pulls `name`."""
        wanted = reference.parse(f"{self.registry.address}/{name}")
        return replace(self.images, listener=listener, patience=patience).pull(wanted, **options)

    def contents(self) -> dict[str, list[str]]:
        """What the store holds but for parts of blobs."""
        places = ("blobs/sha256", "layers", "layers/sha256", "tmp")
        return {name: sorted(p.name for p in (self.store.path / name).iterdir()) for name in places}

    @property
    def left(self) -> list[tuple[str, int]]:
        """The parts of blobs that are kept, and their lengths."""
        return [(path.name, path.stat().st_size) for path in (self.store.path / "partial").iterdir()]


@pytest.fixture
def puller(store: Store, registry: FakeRegistry) -> Puller:
    """Pulls from `registry` into the test's own store."""
    return Puller(store, registry)


def log_in(path: Path, *hosts: str) -> None:
    """Writes credentials down as `docker login` does."""
    path.write_text(json.dumps({"auths": {host: {"auth": BASIC.removeprefix("Basic ")} for host in hosts}}))


def once(act: Callable[[Exchange], object], word: str) -> Callable[[Exchange], bool]:
    """Does `act` at the first request with `word` in its path, and leaves the others alone."""
    done = threading.Event()

    def first(exchange: Exchange) -> bool:
        if done.is_set() or word not in exchange.path:
            return False
        done.set()
        act(exchange)
        return True

    return first


def always(act: Callable[[Exchange], object], word: str) -> Callable[[Exchange], bool]:
    """Does `act` at every request with `word` in its path."""

    def each(exchange: Exchange) -> bool:
        if word not in exchange.path:
            return False
        act(exchange)
        return True

    return each


def some_of(data: bytes, size: int) -> Callable[[Exchange], None]:
    """Announces all of a blob from where it is asked for, and breaks off after `size` bytes."""

    def act(exchange: Exchange) -> None:
        begin = exchange.begin
        exchange.send_response(206 if begin else 200)
        exchange.send_header("Content-Length", str(len(data) - begin))
        if begin:
            exchange.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        exchange.end_headers()
        exchange.wfile.write(data[begin : begin + size])
        exchange.break_off()

    return act


# Pulling


def test_an_image_is_pulled(puller: Puller, registry: FakeRegistry) -> None:
    """An image comes in by its name with every byte as it is there, and needs nothing the second time."""
    image = puller()
    assert image.name == f"{registry.address}/x/y"
    assert image.digest == sha256(registry.manifests["latest"][1])
    assert [one.diff_id for one in image.layers] == [sha256(BASE), sha256(TOP)]
    assert puller.left == []
    before = len(registry.asked)
    assert puller().digest == image.digest
    assert [asked.path for asked in registry.asked[before:]] == ["/v2/", "/v2/x/y/manifests/latest"]


def test_a_digest_is_pulled_exactly(puller: Puller, registry: FakeRegistry) -> None:
    """`name@sha256:…` is that manifest and no other, whatever the registry says."""
    digest = sha256(registry.manifests["latest"][1])
    assert puller(f"x/y@{digest}").digest == digest
    asked = f"sha256:{'0' * 64}"
    registry.manifests[asked] = registry.manifests["latest"]
    with pytest.raises(ImageError, match=f"returned {digest} for {asked}"):
        puller(f"x/y@{asked}")


def test_a_platform_is_pulled(puller: Puller, registry: FakeRegistry) -> None:
    """Of an image for several platforms only the wanted one's layers are fetched, and the index pins it."""
    files = LayoutFiles()
    entries = [platform(files.image(layer(name), architecture=name), name) for name in ("amd64", "arm64")]
    index = files.index(*entries)
    registry.put(files, index, "many")
    image = puller("x/y:many", platform=platforms.parse("arm64"))
    assert (image.digest, image.index) == (entries[1]["digest"], index["digest"])
    fetched = {asked.path.rpartition("/")[2] for asked in registry.paths("/blobs/")}
    assert sha256(gzip.compress(layer("amd64"), mtime=0)) not in fetched


def test_a_layer_that_was_removed_is_fetched_again(puller: Puller, registry: FakeRegistry) -> None:
    """`pull` of an unchanged tag fetches a blob that `verify --remove` removed, and the next one fetches nothing."""
    image = puller()
    puller.store.blobs.path(image.layers[0].blob.digest).unlink()
    assert [problem.what for problem in puller.images.verify()] == [f"{image.layers[0].blob.digest} is missing"]
    assert puller() == image
    assert puller.images.verify() == []
    before = len(registry.paths("/blobs/"))
    assert puller() == image
    assert len(registry.paths("/blobs/")) == before


def test_a_layer_that_is_there_is_not_fetched(puller: Puller, registry: FakeRegistry) -> None:
    """A second image that shares a layer with the first brings only what it has of its own."""
    puller()
    files = LayoutFiles()
    registry.put(files, files.image(BASE, layer("more")), "more")
    before = len(registry.asked)
    puller("x/y:more")
    fetched = [asked.path for asked in registry.asked[before:] if sha256(gzip.compress(BASE, mtime=0)) in asked.path]
    assert fetched == []


def test_what_is_not_there_is_said(puller: Puller) -> None:
    """A name that the registry does not have is an error that says which, in printable words."""
    with pytest.raises(ImageNotFound, match=r"has no x/nothing:1; check the name") as raised:
        puller("x/nothing:1")
    assert str(raised.value).isprintable()


def test_policies_of_pulling(puller: Puller, registry: FakeRegistry) -> None:
    """`missing` asks the registry only for what the store lacks, `always` each time, `never` not at all."""

    def find(pull: str) -> Image:
        return puller.images.find(f"{registry.address}/x/y", pull=pull)

    with pytest.raises(ImageNotFound, match="no image"):
        find(library.NEVER)
    assert registry.asked == []
    first = find(library.MISSING)
    before = len(registry.asked)
    assert find(library.MISSING).digest == find(library.NEVER).digest == first.digest
    assert len(registry.asked) == before
    files = LayoutFiles()
    entry = files.image(BASE)
    registry.put(files, entry)
    assert find(library.MISSING).digest == first.digest
    assert find(library.ALWAYS).digest == entry["digest"] == find(library.NEVER).digest


def test_busybox_comes_from_the_registry_at_last(
    puller: Puller, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this machine has no busybox to make the image of, it is pulled; where nothing is there, a line says so."""

    def nothing() -> None:
        raise ImageNotFound("no static busybox on PATH", hint="install it")

    monkeypatch.setattr(busybox, "busybox", nothing)
    conf = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    conf.write_text('[[registry]]\nlocation = "docker.io"\nblocked = true\n')
    with pytest.raises(ImageNotFound, match=r"no static busybox on PATH; .* is blocked; install it"):
        puller.images.find("busybox")
    conf.write_text(f'[[registry]]\nprefix = "docker.io"\nlocation = "{registry.address}"\n')
    assert puller.images.find("busybox").name == "busybox"
    assert registry.paths("/v2/library/busybox/manifests/latest")


def test_a_file_of_that_name_is_pointed_at(
    puller: Puller, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in this directory does not stand in the way of a name; where there is no such image, it is a hint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "busybox").write_text("")
    (tmp_path / "thing").write_text("")
    assert puller.images.find("busybox", pull=library.NEVER).name == "busybox"
    with pytest.raises(ImageNotFound, match=r"no image 'thing' in the store; for the file, write \./thing"):
        puller.images.find("thing", pull=library.NEVER)


# Who we are


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_credentials_are_used(puller: Puller, registry: FakeRegistry, nobody: Path, auth: str) -> None:
    """Who is logged in gets in, by a token or by name and password, and each of them goes where it belongs."""
    registry.auth = auth
    log_in(nobody, registry.address)
    puller()
    said = {asked.authorization for asked in registry.paths("/v2/x/y")}
    assert said == {f"Bearer {TOKEN}" if auth == "token" else BASIC}


def test_a_token_for_nobody(puller: Puller, registry: FakeRegistry) -> None:
    """Where everybody gets a token, one is fetched, once, for reading this repository."""
    registry.auth, registry.anonymous = "token", True
    puller()
    (asked,) = registry.paths("/token")
    assert asked.authorization == ""
    assert "scope=repository%3Ax%2Fy%3Apull&" in f"{asked.path}&"


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_who_is_nobody_is_told_to_log_in(puller: Puller, registry: FakeRegistry, auth: str) -> None:
    """A registry that lets us not in is an error that says how to log in, at once."""
    registry.auth = auth
    with pytest.raises(RegistryError, match=f"denied access to .*docker login {registry.address}"):
        puller()
    assert len(registry.asked) <= 4


def test_an_expired_token_is_fetched_again(puller: Puller, registry: FakeRegistry) -> None:
    """A token that the registry does not take any more is replaced, and the pull goes on."""
    registry.auth, registry.anonymous = "token", True
    registry.acts.append(once(lambda exchange: exchange.answer(401, WWW_Authenticate=realm), "/blobs/"))
    realm = f'Bearer realm="http://{registry.address}/token",service="fake"'
    puller()
    assert len(registry.paths("/token")) == 2


def test_an_identity_token_becomes_a_token(puller: Puller, registry: FakeRegistry, nobody: Path) -> None:
    """Who logged in for an identity token gets in by it, and shows it only where tokens are made."""
    registry.auth = "token"
    nobody.write_text(json.dumps({"auths": {registry.address: {"identitytoken": IDENTITY}}}))
    puller()
    assert [asked.method for asked in registry.paths("/token")] == ["POST"]
    assert {asked.authorization for asked in registry.paths("/v2/x/y")} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_redirects_take_no_secret_along(
    puller: Puller, registry: FakeRegistry, other: FakeRegistry, nobody: Path, auth: str
) -> None:
    """A registry that sends us to another host for blobs does not make us say there who we are."""
    registry.auth = auth
    log_in(nobody, registry.address, other.address)
    registry.acts.append(always(lambda e: e.answer(307, Location=f"http://{other.address}{e.path}"), "/blobs/"))
    puller()
    assert len(other.paths("/blobs/")) >= 3
    assert {asked.authorization for asked in other.asked} == {""}


def test_another_host_may_not_ask_who_we_are(
    puller: Puller, registry: FakeRegistry, other: FakeRegistry, nobody: Path
) -> None:
    """A 401 from where a redirect led is not answered with anybody's password."""
    other.auth = "basic"
    log_in(nobody, registry.address, other.address)
    registry.acts.append(always(lambda e: e.answer(302, Location=f"http://{other.address}{e.path}"), "/blobs/"))
    with pytest.raises(RegistryError, match="denied access"):
        puller()
    assert {asked.authorization for asked in other.asked} == {""}


@pytest.mark.parametrize("realm", ["http://tokens.example/", "ftp://tokens.example/", "", "//x"])
def test_a_realm_in_the_clear_is_refused(puller: Puller, registry: FakeRegistry, nobody: Path, realm: str) -> None:
    """A password is not sent in the clear to a host that the registry names."""
    log_in(nobody, registry.address)
    registry.acts.append(
        always(lambda e: e.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="x"'), "/v2/")
    )
    with pytest.raises(RegistryError, match="which is not https"):
        puller()


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b'{"token": ""}', b"x" * 100], ids=repr
)
def test_a_token_that_is_none(puller: Puller, registry: FakeRegistry, answer: bytes) -> None:
    """An answer without a token, or with one that would smuggle a header in, is an error."""
    registry.auth = "token"
    registry.acts.append(always(lambda exchange: exchange.answer(200, answer), "/token"))
    with pytest.raises(RegistryError, match="token"):
        puller()


@pytest.mark.parametrize("seconds", ["1e400", "1" + "0" * 400, "-1", "0", "true", "null", '"long"', "[]"])
def test_a_token_that_holds_for_ever(puller: Puller, registry: FakeRegistry, seconds: str) -> None:
    """A token whose time makes no sense is one that does not say."""
    registry.auth = "token"
    answer = f'{{"token": "{TOKEN}", "expires_in": {seconds}}}'.encode()
    registry.acts.append(always(lambda exchange: exchange.answer(200, answer), "/token"))
    puller()
    assert len(registry.paths("/token")) == 1


# Broken off, and gone on


def test_a_broken_download_goes_on(puller: Puller, registry: FakeRegistry) -> None:
    """A connection that breaks off is made anew, and only the rest is asked for."""
    registry.acts.append(once(some_of(BLOB, 100_000), sha256(BLOB)))
    puller()
    ranges = [asked.headers.get("range") for asked in registry.paths(sha256(BLOB))]
    assert ranges == [None, "bytes=100000-"]


def test_a_registry_without_ranges(puller: Puller, registry: FakeRegistry) -> None:
    """Where a registry sends the whole blob again, what is there already is skipped."""
    registry.acts.append(once(some_of(BLOB, 100_000), sha256(BLOB)))
    registry.acts.append(always(lambda exchange: exchange.answer(200, BLOB), sha256(BLOB)))
    assert puller().layers[1].diff_id == sha256(TOP)


FAILURES: dict[str, Callable[[Exchange], None]] = {
    "500": lambda exchange: exchange.answer(500),
    "503": lambda exchange: exchange.answer(503, Retry_After="1"),
    "429": lambda exchange: exchange.answer(429, b'{"errors": [{"code": "TOOMANYREQUESTS"}]}'),
    "broken off": lambda exchange: exchange.break_off(),
    "silent": lambda exchange: exchange.wait_for_the_end(),
}


@pytest.mark.parametrize(
    ("failure", "where"),
    [
        (failure, where)
        for failure in FAILURES
        for where in ("/v2/", "/manifests/", "/blobs/")
        if (failure, where) != ("silent", "/v2/")  # who is silent from the beginning is not there
    ],
)
def test_a_failure_is_tried_again(puller: Puller, registry: FakeRegistry, failure: str, where: str) -> None:
    """A registry that fails once, wherever that is, is asked again, after a moment."""
    registry.acts.append(once(FAILURES[failure], where))
    assert puller(patience=HASTY if failure == "silent" else CALM).layers[1].diff_id == sha256(TOP)


def test_a_failure_that_lasts_is_an_error(puller: Puller, registry: FakeRegistry) -> None:
    """After a few tries it is enough, and the registry's own words are told."""
    body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}'
    registry.acts.append(always(lambda exchange: exchange.answer(429, body), "/manifests/"))
    with pytest.raises(RegistryError, match="3 times: HTTP 429: TOOMANYREQUESTS, pull rate limit; try again later"):
        puller()
    assert len(registry.paths("/manifests/")) == CALM.tries


@pytest.mark.parametrize("how", ["broken off", "silent", "trickling", "no end"])
def test_a_download_that_does_not_end_is_kept(puller: Puller, registry: FakeRegistry, how: str) -> None:
    """A blob that stops coming is an error at last; what came is kept, and the next pull asks for the rest."""
    puller_before = puller.contents()

    def act(exchange: Exchange) -> None:
        if exchange.begin:
            exchange.answer(503)
            return
        exchange.send_response(200)
        exchange.send_header("Content-Length", str(len(BLOB)))
        exchange.end_headers()
        exchange.wfile.write(BLOB[:150_000])
        if how == "broken off":
            exchange.break_off()
        elif how == "trickling":
            for at in range(150_000, 150_100):
                exchange.wfile.write(BLOB[at : at + 1])
                exchange.wfile.flush()
                if exchange.registry.over.wait(0.05):
                    return
        else:
            exchange.wait_for_the_end()

    registry.acts.append(always(act, sha256(BLOB)))
    with pytest.raises(RegistryError, match="fetched bytes are kept"):
        puller(patience=HASTY)
    assert puller.contents() == puller_before
    left = dict(puller.left)
    assert left[sha256(BLOB)[7:]] > 0
    registry.acts.clear()
    before = len(registry.asked)
    puller()
    asked = [one for one in registry.asked[before:] if sha256(BLOB) in one.path]
    assert [one.headers["range"] for one in asked] == [f"bytes={left[sha256(BLOB)[7:]]}-"]
    assert puller.left == []


def test_old_bytes_that_are_wrong_are_fetched_again(puller: Puller) -> None:
    """A part of a blob that was damaged on disk in between is thrown away, and all of it fetched."""
    part = puller.store.path / "partial" / sha256(BLOB)[7:]
    part.write_bytes(b"x" * 1000)
    assert puller().layers[1].diff_id == sha256(TOP)


def test_an_interrupt_ends_a_silent_download(puller: Puller, registry: FakeRegistry) -> None:
    """Ctrl-C ends a pull at once, even while the registry is silent, and the next one goes on."""
    before = puller.contents()
    patient = Patience(silence=60)
    came = threading.Event()

    def act(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.send_header("Content-Length", str(len(BLOB)))
        exchange.end_headers()
        exchange.wfile.write(BLOB[:100_000])
        exchange.wfile.flush()
        came.set()
        exchange.wait_for_the_end()

    def interrupt(state: State) -> None:
        if came.is_set() and state.done >= 100_000 and not state.finished:
            raise KeyboardInterrupt

    registry.acts.append(once(act, sha256(BLOB)))
    wanted = reference.parse(f"{registry.address}/x/y")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        replace(puller.images, listener=interrupt, patience=patient).pull(wanted)
    assert time.monotonic() - began < 30
    assert puller.contents() == before
    assert (sha256(BLOB)[7:], 100_000) in puller.left
    puller()
    assert registry.paths(sha256(BLOB))[-1].headers["range"] == "bytes=100000-"


# Lies


def lies() -> dict[str, tuple[Callable[[Exchange], None], str, str]]:
    """By name: an answer, to which path, and what is said of it."""
    blob, manifest = sha256(BLOB), "/manifests/latest"

    def endless(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.end_headers()
        exchange.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(1000):
                exchange.wfile.write(b"{" * 100_000)

    def document(value: Any, kind: str = "application/vnd.oci.image.manifest.v1+json") -> Callable[[Exchange], None]:
        return lambda exchange: exchange.answer(200, json.dumps(value).encode(), Content_Type=kind)

    return {
        "other bytes": (
            lambda e: e.answer(200, BLOB[:-1] + b"x"),
            blob,
            "has the digest sha256|cannot be decompressed",
        ),
        "longer": (lambda e: e.answer(200, BLOB + b"x"), blob, "sends .* bytes of .*instead of the expected"),
        "shorter": (lambda e: e.answer(200, BLOB[:-1]), blob, "sends .* bytes of .*instead of the expected"),
        "endless blob": (endless, blob, "has more than|expected|decompressed|no tar"),
        "endless manifest": (endless, manifest, "limit of 4 MiB"),
        "endless config": (endless, sha256(config(BASE, TOP)), "limit of 4 MiB|instead of the expected"),
        "a page": (lambda e: e.answer(200, b"<html>", Content_Type="text/html"), manifest, "not JSON"),
        "old schema": (
            document({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
            manifest,
            "unsupported media type",
        ),
        "other type": (document({"schemaVersion": 2, "manifests": []}), manifest, "must have layers, and no fields"),
        "empty index": (
            document({"schemaVersion": 2, "manifests": []}, "application/vnd.oci.image.index.v1+json"),
            manifest,
            "no image for",
        ),
        "no blob": (lambda e: e.answer(404), blob, "cannot fetch a layer"),
        "a loop": (lambda e: e.answer(307, Location=e.path), blob, "redirects more than 5 times"),
        "nowhere": (lambda e: e.answer(307, Location="file:///etc/passwd"), blob, "invalid URL"),
        "other range": (
            lambda e: e.answer(206, BLOB[e.begin :], Content_Range="bytes 7-9/10") if e.begin else some_of(BLOB, 9)(e),
            blob,
            "another range of a layer",
        ),
    }


@pytest.mark.parametrize("lie", lies())
def test_a_lie_is_refused(puller: Puller, registry: FakeRegistry, lie: str) -> None:
    """Whatever a registry sends in place of an image, one line says what, and the store is as before."""
    act, where, message = lies()[lie]
    registry.acts.append(always(act, where))
    before = puller.contents()
    with pytest.raises(ImageError, match=message):
        puller()
    assert puller.contents() == before
    assert puller.store.index.images() == {}
    registry.acts.clear()
    puller()


@pytest.mark.parametrize("known", [False, True], ids=["new", "of an image that is there"])
@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_size_is_refused(puller: Puller, registry: FakeRegistry, wrong: str, which: str, known: object) -> None:
    """A size that a registry states is compared with the bytes, and with those that the store has already."""
    honest = stating("", int, with_layer=True)
    registry.put(honest, entry_of(honest), "good")
    if known:
        puller("x/y:good", platform=platforms.parse("amd64"))
    files = stating(which, WRONG[wrong], with_layer=True)
    registry.put(files, entry_of(files), "liar")
    before, index = puller.contents(), (puller.store.path / "index.json").read_bytes()
    with pytest.raises(ImageError):
        puller("x/y:liar", platform=platforms.parse("amd64"))
    assert (puller.contents(), puller.left) == (before, [])
    assert (puller.store.path / "index.json").read_bytes() == index


def entry_of(files: LayoutFiles) -> dict[str, Any]:
    """The only image of a layout."""
    (entry,) = files.entries
    return entry


@pytest.mark.parametrize("header", ["Content-Length", "Retry-After"])
@pytest.mark.parametrize("value", ["\u00b2", "-1", "9" * 5000, "1_0", ""])
def test_a_number_that_is_none_is_no_number(puller: Puller, registry: FakeRegistry, header: str, value: str) -> None:
    """A header that states no number counts as one that is not there."""

    def act(exchange: Exchange) -> None:
        exchange.send_response(200 if header == "Content-Length" else 503)
        exchange.send_header(header, value)
        exchange.end_headers()
        exchange.wfile.write(BLOB)
        exchange.close_connection = True

    registry.acts.append(once(act, sha256(BLOB)))
    assert puller().digest == sha256(registry.manifests["latest"][1])


BAD_URLS = [
    "http://[::1",
    "https://[::1/",
    "http://host:port/",
    "http://",
    "http://a\u00b2:\u00b2/",
    "gopher://x/",
    "http://\x00/",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("where", ["realm", "location"])
def test_an_address_that_is_none_is_refused(puller: Puller, registry: FakeRegistry, url: str, where: str) -> None:
    """A realm or a Location that is not a URL ends the pull with the package's error, which names it."""

    def act(exchange: Exchange) -> None:
        status, name = ("401 No", "WWW-Authenticate") if where == "realm" else ("307 There", "Location")
        value = f'Bearer realm="{url}"' if where == "realm" else url
        answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{name}: {value}\r\n\r\n"
        exchange.wfile.write(answer.encode("latin-1"))

    registry.acts.append(always(act, "/v2/" if where == "realm" else "/manifests/"))
    with pytest.raises(RegistryError) as raised:
        puller()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("what", ["manifest", "configuration", "headers", "token", "error"])
def test_a_document_that_trickles_is_refused(puller: Puller, registry: FakeRegistry, what: str) -> None:
    """A registry that sends a document, or headers, one byte at a time does not hold a pull for ever."""

    def act(exchange: Exchange) -> None:
        status = {"error": 404, "token": 200}.get(what, 200)
        if what != "headers":
            exchange.send_response(status)
            exchange.send_header("Content-Length", "1000000")
            exchange.end_headers()
        else:
            exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        exchange.close_connection = True
        while not exchange.registry.over.wait(0.05):
            exchange.wfile.write(b" ")
            exchange.wfile.flush()

    where = {"configuration": sha256(config(BASE, TOP)), "token": "/token"}.get(what, "/manifests/")
    if what == "token":
        registry.auth = "token"
    registry.acts.append(always(act, where))
    with pytest.raises(ImageError, match=r"too slowly|failed 3 times|has no x/y"):
        puller(patience=HASTY)


# No registry


def test_nobody_there(store: Store) -> None:
    """Where nobody listens, or there is no such name, one line says so at once."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(
        RegistryError, match=r"cannot reach 127\.0\.0\.1.*Connection refused; check the name and the network"
    ):
        images_of(store).pull(reference.parse(f"127.0.0.1:{port}/x"))
    with pytest.raises(RegistryError, match=r"cannot reach nowhere\.invalid: unknown host, or no network"):
        images_of(store).pull(reference.parse("nowhere.invalid/x"))


# Proxies


def test_this_machine_is_not_asked_through_a_proxy(
    registry: FakeRegistry, other: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry on loopback, and its password, are not sent to a proxy, which can be another machine."""
    monkeypatch.setenv("http_proxy", f"http://{other.address}")
    assert find(registry.address, insecure=True) == sha256(registry.manifests["latest"][1])
    assert other.asked == []


def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has the proxy's address, without its password, the cause, and the variable to look at."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}/")
    expected = f"cannot reach nowhere.invalid: the proxy 127.0.0.1:{port}: Connection refused; check the environment"
    with pytest.raises(RegistryError, match=f"^{re.escape(expected)} variable https_proxy, or load"):
        find("nowhere.invalid")


def test_a_proxy_that_refuses_is_named(other: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that lets no connection through is the cause, not the registry."""
    monkeypatch.setenv("https_proxy", f"http://{other.address}")
    with pytest.raises(RegistryError, match=rf"the proxy {other.address}: Tunnel connection failed: 501"):
        find("nowhere.invalid")


@pytest.mark.parametrize(
    ("exceptions", "asked"),
    [("", True), ("nowhere.invalid", False), ("nowhere.invalid:5000", False), ("nowhere.invalid:5001", True)],
)
def test_no_proxy_may_have_a_port(
    other: FakeRegistry, exceptions: str, monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    """An entry of `no_proxy` is a host, or a host with the port for which it counts."""
    monkeypatch.setenv("http_proxy", f"http://{other.address}")
    monkeypatch.setenv("no_proxy", exceptions)
    with contextlib.closing(Connections(Endpoint("nowhere.invalid:5000", "x"), CALM)) as sender:
        if asked:
            assert sender.send("GET", "http://nowhere.invalid:5000/v2/", {}).status == 200
        else:
            with pytest.raises(urllib3.exceptions.NameResolutionError):
                sender.send("GET", "http://nowhere.invalid:5000/v2/", {})
    assert bool(other.asked) == asked


# TLS


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key."""
    require("openssl")
    path = tmp_path / "tls.pem"
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
    subprocess.run(
        ["openssl", "req", *words, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", tmp_path / "crt"],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "crt").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    return path


def find(address: str, *, insecure: bool = False) -> str:
    """The digest of `x/y` in a registry."""
    with Tracker("find") as tracker:
        client = Client(Endpoint(address, "x/y", insecure=insecure), tracker, patience=CALM)
        with contextlib.closing(client):
            return RegistrySource(client).find("latest")[0].digest


def test_a_certificate_is_looked_at(
    certificate: Path, tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that nobody trusts is refused, unless the registry may be insecure; a trusted one will do."""
    files = LayoutFiles()
    with FakeRegistry().running(certificate) as secure:
        secure.put(files, files.image(BASE))
        with pytest.raises(RegistryError, match=r"TLS failed: .*self.signed certificate"):
            find(secure.address)
        assert secure.asked == []
        assert find(secure.address, insecure=True) == sha256(secure.manifests["latest"][1])
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "crt"))
        assert find(secure.address) == sha256(secure.manifests["latest"][1])
        secure.acts.append(
            always(lambda e: e.answer(307, Location=f"http://{registry.address}{e.path}"), "/manifests/")
        )
        with pytest.raises(RegistryError, match=r"redirects from https to .http://"):
            find(secure.address)
    assert registry.asked == []


def test_an_authority_of_one_registry_is_trusted_for_that_one(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate in certs.d is trusted for the registry, with its port, whose name its directory has."""
    monkeypatch.setattr(connections, "_CERTIFICATES", (str(tmp_path / "certs.d"),))
    files = LayoutFiles()
    with FakeRegistry().running(certificate) as secure:
        secure.put(files, files.image(BASE))
        for name in ("127.0.0.1", "other.example", "registry-1.docker.io"):
            folder = tmp_path / "certs.d" / name
            folder.mkdir(parents=True)
            (folder / "ca.crt").write_bytes((tmp_path / "crt").read_bytes())
        with pytest.raises(RegistryError, match=r"TLS failed: .*self.signed certificate"):
            find(secure.address)
        folder.rename(tmp_path / "certs.d" / secure.address)
        assert find(secure.address) == sha256(secure.manifests["latest"][1])


def test_plain_http_is_not_tried_where_it_may_not_be(registry: FakeRegistry, certificate: Path) -> None:
    """A registry without TLS is refused where TLS is a must, and is asked nothing."""
    with pytest.raises(RegistryError, match=r"TLS failed|was closed"):
        find(registry.address)
    assert [asked.path for asked in registry.asked if asked.path.startswith("/v2")] == []


# Pushing


@pytest.fixture
def pulled(puller: Puller) -> Image:
    """The registry's image in the store."""
    return puller()


def test_an_image_is_pushed_as_it_is(puller: Puller, pulled: Image, other: FakeRegistry, store: Store) -> None:
    """What is compressed already goes out byte for byte, under the same digest, layers before the manifest."""
    other.blobs.clear()
    other.manifests.clear()
    manifest = images_of(store).push(pulled, reference.parse(f"{other.address}/a/b:1"))
    assert manifest.digest == pulled.digest
    assert other.manifests["1"][1] == store.blobs.read(pulled.digest)
    assert set(other.blobs) == {one.blob.digest for one in pulled.layers} | {sha256(config(BASE, TOP))}
    assert [asked.method for asked in other.asked][-1] == "PUT"
    assert other.asked[-1].path == "/v2/a/b/manifests/1"


def test_what_is_there_is_not_sent(pulled: Image, other: FakeRegistry, store: Store) -> None:
    """A blob that the registry has is asked for, and not sent again."""
    images_of(store).push(pulled, reference.parse(f"{other.address}/a/b:1"))
    assert [asked.path for asked in other.asked if asked.method in ("POST", "PUT")] == ["/v2/a/b/manifests/1"]


@pytest.mark.parametrize(("compression", "kind"), [("gzip", "+gzip"), ("zstd", "+zstd"), ("none", "")])
def test_plain_layers_are_compressed(
    puller: Puller, other: FakeRegistry, store: Store, registry: FakeRegistry, compression: str, kind: str
) -> None:
    """A plain layer goes out compressed as asked for, and comes back as the same layer."""
    files = LayoutFiles()
    registry.put(files, files.image(BASE, compress=False), "plain")
    image = puller("x/y:plain")
    images_of(store).push(image, reference.parse(f"{other.address}/a/b:1"), compression=Compression(compression))
    (sent,) = json.loads(other.manifests["1"][1])["layers"]
    assert sent["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{kind}"
    again = images_of(store).pull(reference.parse(f"{other.address}/a/b:1"))
    assert again.layers[0].diff_id == image.layers[0].diff_id
    assert list((store.path / "tmp").iterdir()) == []


@pytest.fixture
def pushed_plain(puller: Puller, other: FakeRegistry, store: Store, registry: FakeRegistry) -> Image:
    """An image with a plain layer, which has been pushed, compressed, to `a/b:1` of the other registry."""
    files = LayoutFiles()
    registry.put(files, files.image(BASE, compress=False), "plain")
    image = puller("x/y:plain")
    images_of(store).push(image, reference.parse(f"{other.address}/a/b:1"))
    return image


def test_a_layer_that_the_registry_has_is_not_compressed_again(
    pushed_plain: Image, other: FakeRegistry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store remembers the compressed form of a layer: a second push asks for it, and reads no byte of the layer."""
    monkeypatch.setattr(prepare, "compressor", None)
    images_of(store).push(pushed_plain, reference.parse(f"{other.address}/a/b:2"))
    assert other.manifests["2"] == other.manifests["1"]


@pytest.mark.parametrize("note", ["", "5 sha256:0", "9" * 19 + " sha256:" + "0" * 64, "1 sha256:" + "0" * 64, "\xff"])
def test_a_layer_that_the_registry_has_lost_is_compressed_again(
    pushed_plain: Image, other: FakeRegistry, store: Store, note: str
) -> None:
    """The same holds if the store's note of it cannot be read, or is of a blob that the registry lacks."""
    first = other.manifests.pop("1")
    other.blobs.clear()
    notes = list((store.path / "layers").glob("*/sent.gzip"))
    assert notes
    for place in notes:
        place.write_bytes(note.encode("latin-1"))
    images_of(store).push(pushed_plain, reference.parse(f"{other.address}/a/b:1"))
    assert other.manifests["1"] == first
    assert {one["digest"] for one in json.loads(first[1])["layers"]} <= other.blobs.keys()


def test_a_push_is_tried_again(pulled: Image, other: FakeRegistry, store: Store) -> None:
    """An upload that fails is begun anew."""
    other.blobs.clear()
    other.acts.append(once(lambda exchange: exchange.break_off(), "an-upload"))
    other.acts.append(once(lambda exchange: exchange.answer(500), "/manifests/"))
    images_of(store).push(pulled, reference.parse(f"{other.address}/a/b:1"))
    assert set(other.blobs) >= {one.blob.digest for one in pulled.layers}
    assert "1" in other.manifests


def test_a_push_asks_for_the_right_to_write(pulled: Image, other: FakeRegistry, store: Store, nobody: Path) -> None:
    """The token of a push is for reading and writing; who may not is told to log in."""
    other.auth = "token"
    target = reference.parse(f"{other.address}/a/b:1")
    with pytest.raises(RegistryError, match="docker login"):
        images_of(store).push(pulled, target)
    log_in(nobody, other.address)
    images_of(store).push(pulled, target)
    assert "a%2Fb%3Apull%2Cpush" in other.paths("/token")[-1].path


def test_uploads_elsewhere_take_no_secret_along(
    pulled: Image, registry: FakeRegistry, other: FakeRegistry, store: Store, nobody: Path
) -> None:
    """A registry that has uploads go to another host does not make us say there who we are."""
    registry.auth = "basic"
    log_in(nobody, registry.address, other.address)
    registry.blobs.clear()

    def elsewhere(exchange: Exchange) -> bool:
        if exchange.command == "POST":
            exchange.answer(202, Location=f"http://{other.address}{exchange.path}an-upload")
        return exchange.command == "POST"

    registry.acts.append(elsewhere)
    images_of(store).push(pulled, reference.parse(f"{registry.address}/a/b:1"))
    assert len(other.paths("an-upload")) == 3
    assert {asked.authorization for asked in other.asked} == {""}


def test_a_damaged_blob_is_not_pushed(pulled: Image, other: FakeRegistry, store: Store) -> None:
    """A layer that has changed on disk does not become somebody else's."""
    other.blobs.clear()
    path = store.blobs.path(pulled.layers[0].blob.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ImageError, match="in the store is damaged"):
        images_of(store).push(pulled, reference.parse(f"{other.address}/a/b:1"))
    assert "1" not in other.manifests


# Mirrors


def test_mirrors_come_first(
    puller: Puller, registry: FakeRegistry, other: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that has the image is asked in place of the registry; one that has not is passed over."""
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'[[registry]]\nprefix = "example.org"\nlocation = "{registry.address}"\n'
        f'[[registry.mirror]]\nlocation = "{other.address}/of"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    wanted = reference.parse("example.org/x/y")
    image = puller.images.pull(wanted)
    assert image.name == "example.org/x/y"
    assert other.paths("/v2/of/x/y/blobs/")
    assert registry.asked == []
    other.manifests.clear()
    assert puller.images.pull(wanted).digest == image.digest
    assert registry.paths("/v2/x/y/manifests/")


def test_no_mirror_gives_another_image_for_a_digest(
    puller: Puller, registry: FakeRegistry, other: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that sends another image for a pinned name is refused, and nothing of it enters the store."""
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'[[registry]]\nlocation = "{registry.address}"\n[[registry.mirror]]\nlocation = "{other.address}"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    files = LayoutFiles()
    pinned = sha256(registry.manifests["latest"][1])
    other.put(files, files.image(layer("evil")), pinned)
    before = puller.contents()
    with pytest.raises(ImageError, match=r"returned .* for"):
        puller(f"x/y@{pinned}")
    assert puller.contents() == before
    assert puller.store.index.images() == {}
