"""Many cells, one after the other and at once: nothing grows, and nothing is left."""

from __future__ import annotations

import ctypes
import gc
import resource
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import startup
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.warm.warm_pool import DEPTH
from tests.running import all_dead, beginners, pidfds, processes_of, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = (
    "true",
    "echo x > /f",
    "rm -r /etc; mkdir /new",
    "sleep 1000 & setsid sleep 1000 & sleep 0",
)
"""Cells that leave nothing, a file, whiteouts, and processes that are to be ended."""

SPARE = 8
"""Descriptors, processes or directories of the containers that are ready, or just being made or cleared away."""


SPARES = DEPTH + 1
"""Containers made ahead, or ordered, at any time."""

MEMORY = 2 << 20
"""Bytes that launcher and notebook may have grown by: 2 KiB for each of a thousand cells."""


@pytest.fixture
def own_engine(tmp_path: Path, engine: Engine) -> Iterator[Engine]:
    """An engine on a store of the test's own, with busybox in it."""
    own = Engine(tmp_path / "store")
    startup.start(own)
    own.images.find("busybox")
    yield own
    own.close()


@dataclass(frozen=True)
class Amounts:
    """How much there is of what could be left behind, once the background thread has nothing to do."""

    processes: int
    descriptors: int
    launcher_descriptors: int
    launcher_memory: int
    memory: int
    spares: int
    in_tmp: int
    layers: int
    containers: int


def amounts(engine: Engine) -> Amounts:
    for _ in range(2):  # what is removed in the background goes in the background
        engine.background.wait()
    engine._warm.layers.trim((), 0)  # how many roots wait for the next container, differs: 16 at most
    store, launcher = engine.store.path, engine.launcher
    return Amounts(
        len(processes_of(launcher)),
        _entries(Path("/proc/self/fd")),
        _entries(Path(f"/proc/{launcher.pid}/fd")),
        launcher.memory(),
        _resident(),
        len(launcher.spares.ready) + len(launcher.spares.ordered),
        _entries(store / "tmp"),
        _entries(store / "layers"),
        _entries(store / "containers"),
    )


def _resident() -> int:
    """This process's resident memory in bytes, once what can be given back is (malloc_trim(3))."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _entries(folder: Path) -> int:
    return len(list(folder.iterdir()))


def assert_nothing_grew(before: Amounts, after: Amounts) -> None:
    assert after.processes <= before.processes + SPARE
    assert after.descriptors <= before.descriptors + SPARE
    assert after.launcher_descriptors <= before.launcher_descriptors + SPARE
    assert after.launcher_memory < before.launcher_memory + MEMORY
    assert after.memory < before.memory + MEMORY
    assert after.spares <= SPARES
    assert after.in_tmp <= before.in_tmp + SPARE
    # The last anonymous container is kept, with its layer.
    assert (after.layers, after.containers) <= (before.layers + 1, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine takes its time
def test_a_thousand_cells_leave_as_much_as_one(own_engine: Engine) -> None:
    """Neither processes nor descriptors, neither memory nor directories of the store add up, whatever cells do."""
    for script in SCRIPTS * 25:  # what is kept for the next cells is there then
        assert run_script(own_engine, script).outcome.ok
    before = amounts(own_engine)
    for number in range(1000):
        assert run_script(own_engine, SCRIPTS[number % len(SCRIPTS)]).outcome.ok
    assert_nothing_grew(before, amounts(own_engine))


@pytest.mark.slow
def test_fifty_cells_at_once_leave_as_much_as_one(own_engine: Engine) -> None:
    """Of anonymous containers that run at the same time only one is the last, and the others are gone."""

    def fifty() -> Amounts:
        start = threading.Barrier(50)
        ended: list[bool] = []

        def live(script: str) -> None:
            start.wait()
            ended.append(run_script(own_engine, script).outcome.ok)

        threads = [threading.Thread(target=live, args=(SCRIPTS[number % len(SCRIPTS)],)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [True] * 50
        return amounts(own_engine)

    before = fifty()  # the C library keeps room for as many threads as there ever were (mallopt(3), M_ARENA_MAX)
    assert_nothing_grew(before, fifty())


@pytest.mark.slow
def test_an_engine_that_is_closed_leaves_the_image_alone(tmp_path: Path, engine: Engine) -> None:
    """After the last cell and the close there are the image's layer, and no process and no directory besides."""
    own = Engine(tmp_path / "store")
    for script in SCRIPTS * 3:
        assert run_script(own, script).outcome.ok
    everybody = pidfds(beginners(own.launcher) | processes_of(own.launcher))
    own.close()
    assert all_dead(everybody)
    store = tmp_path / "store"
    assert [_entries(store / name) for name in ("tmp", "containers", "sessions", "stage")] == [0, 0, 0, 0]
    layers = {path.name for path in (store / "layers").iterdir()} - {"sha256"}
    assert layers == {link.readlink().name for link in (store / "layers" / "sha256").iterdir()}
    assert len(layers) == 1
