"""`--cache-dir NAME:/path`: caches outside layers, shared by the containers of a store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers import named_volumes as volumes
from nbcontainer.containers import run as running
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import UsageError, VolumeBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.container import Container


@pytest.fixture
def cache(engine: Engine) -> Iterator[str]:
    """The option for a cache of the test's own."""
    yield "--cache-dir=mine:/root/.cache/pip"
    volumes.prune(engine, caches=True)


def run(engine: Engine, script: str, *words: str, sink: Callable[[bytes], None] | None = None) -> tuple[str, Container]:
    """The output of a cell, which must not fail, and its container."""
    out: list[bytes] = []
    request = request_of(parse(RUN, [*words, "busybox"]), script=script)
    container, outcome = running.run(engine, request, Streams(sink or out.append, out.append))
    assert outcome.ok, out
    return b"".join(out).decode(), container


def test_what_one_cell_keeps_the_next_one_finds(engine: Engine, cache: str) -> None:
    """In other containers, at other paths, as other users, and not without the option."""
    run(engine, "echo wheel > /root/.cache/pip/a", cache)
    assert run(engine, "cat /c/a; ls -ld /c | cut -c 1-10", "--cache-dir=mine:/c")[0] == "wheel\ndrwxrwxrwt\n"
    assert run(engine, "test -e /root/.cache/pip/a || echo none")[0] == "none\n"
    if engine.idmap.setgroups:
        assert run(engine, "echo x > /c/b; cat /c/b", "--cache-dir=mine:/c", "-u", "1000")[0] == "x\n"


def test_a_cache_is_in_no_layer(engine: Engine, cache: str) -> None:
    """Its files are neither changes of the container nor part of a commit."""
    _, container = run(engine, "head -c 1m /dev/zero > /root/.cache/pip/big", cache, "--name", "cached")
    try:
        assert not list((engine.store.path / "layers").rglob("big"))
        assert list((engine.store.path / "volumes").rglob("big"))
    finally:
        container.remove()


def test_notebooks_share_a_cache_at_the_same_time(engine: Engine, store_path: Path, cache: str) -> None:
    """A cell of another notebook writes while this one's runs, and the cache of a running cell stays."""
    other = Engine(store_path)
    first = threading.Event()
    said: list[bytes] = []

    def hear(data: bytes) -> None:
        said.append(data)
        first.set()

    script = "cd /root/.cache/pip; echo ready; while ! [ -e go ]; do usleep 10000; done; cat go"
    thread = threading.Thread(target=lambda: run(engine, script, cache, "--timeout=60", sink=hear))
    engine.launcher.start()
    thread.start()
    try:
        assert first.wait(30)
        with pytest.raises(VolumeBusy):
            volumes.remove(other, "cache-mine")
        assert "cache-mine" not in volumes.prune(other, caches=True)
        run(other, "echo there > /c/new; mv /c/new /c/go", "--cache-dir=mine:/c")
    finally:
        thread.join()
        other.close()
    assert b"".join(said) == b"ready\nthere\n"


def test_a_cache_is_a_volume_that_can_go(engine: Engine, cache: str) -> None:
    """It is listed with its label, and `volume prune` removes it, but no other named volume."""
    run(engine, "true", cache, "-v", "kept:/kept")
    found = {volume.name: volume.labels for volume in volumes.list_all(engine)}
    assert found["cache-mine"] == {"nbcontainer.cache": "mine"}
    assert volumes.prune(engine, caches=True) == ["cache-mine"]
    volumes.remove(engine, "kept")


@pytest.mark.parametrize(
    "text", ["pip", ":/x", "pip:", "pip:x", "a/b:/x", "..:/x", "pip:/", "pip:/proc", f"{'n' * 126}:/x"]
)
def test_a_cache_that_cannot_be_is_one_error(text: str) -> None:
    """The form, the name and the path are checked before the run."""
    with pytest.raises(UsageError) as raised:
        request_of(parse(RUN, ["--cache-dir", text, "busybox"]))
    assert "\n" not in str(raised.value)
