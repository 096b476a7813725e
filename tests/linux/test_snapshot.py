"""What runs in a container stands still while it is copied, and goes on as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from nbcontainer import api
from nbcontainer.containers.pause import paused
from nbcontainer.containers.snapshot import frozen_copy
from nbcontainer.linux.procfs import STANDING, descendants, state
from nbcontainer.sandbox import standstill
from nbcontainer.sandbox.standstill import Standstill
from tests.running import DEADLINE, init_of, marker, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


@pytest.fixture
def outsider() -> Iterator[int]:
    """The pid of a process that is in no container."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits until it has happened: the kernel tells nobody when a process goes on."""
    deadline = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_everything_stands_still_and_goes_on(cell: Cell, tmp_path: Path) -> None:
    """Each process is stopped meanwhile; one that was stopped before is so afterwards, and the others are not."""
    mark = marker()
    seen: list[dict[str, str]] = []

    def look(said: bytes) -> None:
        if b"ready" not in said:
            return
        init = init_of(mark)
        wait_for(lambda: any(state(pid) == "T" for pid in descendants(init)))  # it takes the signal when it runs
        (stopped,) = (pid for pid in descendants(init) if state(pid) == "T")
        with paused(init, tmp_path / "pause"):
            seen.append({str(pid): state(pid) for pid in descendants(init)})
        wait_for(lambda: state(stopped) == "T")
        os.kill(stopped, signal.SIGKILL)
        seen.append({pid: state(int(pid)) for pid in seen[0] if int(pid) != stopped})
        os.kill(init, signal.SIGTERM)

    cell(f"sleep {mark} & kill -STOP $!; sleep {mark} & setsid sleep {mark} & echo ready; wait", stdout=look)
    meanwhile, after = seen
    assert len(meanwhile) == 4
    assert set(meanwhile.values()) <= STANDING - set("ZX")
    assert len(after) == 3
    assert not STANDING & set(after.values())


def test_what_is_copied_is_of_one_moment(engine: Engine) -> None:
    """Of two files that are written one after the other, no copy has the later without the earlier."""
    images: list[str] = []

    def look(_: bytes) -> None:
        (name,) = engine.active
        for number in range(5):
            with frozen_copy(engine, name) as copy:
                images.append(api.commit(copy, f"moment:{number}").name)
        os.kill(engine.active[name].pid, signal.SIGTERM)

    run_script(engine, "touch /a /b; echo there; while :; do echo >>/a; echo >>/b; done", stdout=look)
    sizes = [run_script(engine, "stat -c %s /a /b", image=image).lines for image in images]
    assert len({size for size, _ in sizes}) == 5
    assert {int(one) - int(other) for one, other in sizes} <= {0, 1}


def test_nobody_outside_is_stopped(outsider: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has been given the number of one inside, which has just ended, is left alone."""
    found = iter([[outsider], [], []])
    monkeypatch.setattr(standstill, "descendants", lambda _: next(found))
    Standstill(1, lambda *_: None).hold()
    assert state(outsider) not in STANDING
