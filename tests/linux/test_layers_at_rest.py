"""A cell that wrote returns while the kernel releases its container: who mounts its layer waits for that."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import lookup
from nbcontainer.containers.diff import diff
from nbcontainer.containers.writes import ending
from nbcontainer.sandbox.handle import ContainerHandle, wait_readable
from tests.requirements import require_root
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


@pytest.fixture
def slow_to_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Inits end when the second event is set; the first one is set when somebody waits for that."""
    waited, may_end = threading.Event(), threading.Event()

    def wait(init: int) -> None:
        waited.set()
        assert may_end.wait(DEADLINE)
        wait_readable(init)

    later: list[Callable[[], object]] = []
    with monkeypatch.context() as patched:
        patched.setattr(ending, "wait_readable", wait)
        patched.setattr(engine, "later", later.append)  # the background would wait first
        yield waited, may_end
    for task in later:
        engine.later(task)


@pytest.mark.parametrize("use", ["cell", "diff"])
def test_a_layer_is_not_mounted_before_its_container_has_ended(
    engine: Engine, cell: Cell, name: str, use: str, slow_to_end: tuple[threading.Event, threading.Event]
) -> None:
    """A cold cell and a look at the layers wait for the init that has the layer mounted."""
    waited, may_end = slow_to_end
    assert cell("echo 1 > /made; echo wrote", name=name).text == "wrote"
    assert not waited.is_set()
    found: list[str] = []
    uses: dict[str, Callable[[], str]] = {
        "cell": lambda: cell("cat /made", name=name).text,
        "diff": lambda: diff(lookup.get(engine, name))[0].path,
    }
    thread = threading.Thread(target=lambda: found.append(uses[use]()))
    thread.start()
    assert waited.wait(DEADLINE)
    assert found == []
    may_end.set()
    thread.join(DEADLINE)
    assert found == [{"cell": "1", "diff": "/made"}[use]]


def test_an_init_that_would_not_end_is_killed(
    engine: Engine, cell: Cell, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the cell has returned, nothing in its container can write to its layer any more."""
    killed: list[int] = []
    kill = ContainerHandle.kill

    def note(handle: ContainerHandle) -> None:
        killed.append(handle.pid)
        kill(handle)

    monkeypatch.setattr(ContainerHandle, "kill", note)
    cell("echo 1 > /made", name=name)
    assert len(killed) == 1
    cell("true", name=name)
    assert len(killed) == 1


UNDEFINED = b"undefined behavior"
"""Ends the kernel's warning of a layer that is mounted twice (ovl_report_in_use in fs/overlayfs/super.c).

The launcher's look at a layer whose descriptors other containers may hold is refused, and has another text.
"""


@pytest.fixture
def kernel_log() -> Iterator[int]:
    """A descriptor that reads what is written to the kernel's log from now on (Documentation/ABI/testing/dev-kmsg)."""
    require_root()
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        yield fd
    finally:
        os.close(fd)


def records(log: int) -> Iterator[bytes]:
    """The records that are new in the kernel's log."""
    while True:
        try:
            yield os.read(log, 8192)
        except BlockingIOError:
            return
        except BrokenPipeError:  # records were overwritten: the next read continues with the oldest one
            continue


def twice(place: Path) -> None:
    """Mount two overlays with one upper directory."""
    for part in ("lower", "upper", "work", "one", "two"):
        (place / part).mkdir()
    options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work,index=off"
    mounts = [f"mount -t overlay -o {options} none {place}/{root}" for root in ("one", "two")]
    subprocess.run(["unshare", "--mount", "sh", "-ec", "; ".join(mounts)], check=True)


@pytest.mark.slow
def test_the_kernel_sees_no_layer_in_use_twice(
    cell: Cell, engine: Engine, name: str, kernel_log: int, tmp_path: Path
) -> None:
    """It would write a warning to its log, which root can read; it does for two mounts that are made on purpose."""
    for number in range(30):
        cell(f"echo {number} > /made", name=name)
        if number % 3 == 0:
            diff(lookup.get(engine, name))
        if number % 5 == 0:
            engine.background.wait()
    assert [record for record in records(kernel_log) if UNDEFINED in record] == []
    twice(tmp_path)
    assert any(UNDEFINED in record for record in records(kernel_log))
