"""What runs in a container stands still while it is copied, and goes on as it was."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import api, snapshot
from nbcontainer.containers.snapshot import as_it_is, paused
from nbcontainer.linux.proc import descendants, state
from tests.running import init_of, marker, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


@pytest.fixture
def outsider() -> Iterator[int]:
    """The pid of a process that is in no container."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def test_everything_stands_still_and_goes_on(cell: Cell) -> None:
    """Each process is stopped meanwhile; one that was stopped before is so afterwards, and the others are not."""
    mark = marker()
    seen: list[dict[str, str]] = []

    def look(said: bytes) -> None:
        if b"ready" not in said:
            return
        init = init_of(mark)
        (stopped,) = (pid for pid in descendants(init) if state(pid) == "T")
        with paused(init):
            seen.append({str(pid): state(pid) for pid in descendants(init)})
        seen.append({str(stopped): state(stopped)})
        os.kill(stopped, signal.SIGKILL)
        seen.append({pid: state(int(pid)) for pid in seen[0] if int(pid) != stopped})
        os.kill(init, signal.SIGTERM)

    cell(f"sleep {mark} & kill -STOP $!; sleep {mark} & setsid sleep {mark} & echo ready; wait", stdout=look)
    meanwhile, before, after = seen
    assert len(meanwhile) == 4
    assert set(meanwhile.values()) == {"T"}
    assert set(before.values()) == {"T"}
    assert len(after) == 3
    assert not {"T"} & set(after.values())


def test_what_is_copied_is_of_one_moment(engine: Engine) -> None:
    """Of two files that are written one after the other, no copy has the later without the earlier."""
    images: list[str] = []

    def look(_: bytes) -> None:
        (name,) = engine.running
        for number in range(5):
            with as_it_is(engine, name) as copy:
                images.append(api.commit(copy, f"moment:{number}").name)
        os.kill(engine.running[name]["pid"], signal.SIGTERM)

    run_script(engine, "touch /a /b; echo there; while :; do echo >>/a; echo >>/b; done", stdout=look)
    sizes = [run_script(engine, "stat -c %s /a /b", image=image).lines for image in images]
    assert len({size for size, _ in sizes}) == 5
    assert {int(one) - int(other) for one, other in sizes} <= {0, 1}


def test_nobody_outside_is_stopped(outsider: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has been given the number of one inside, which has just ended, is left alone."""
    found = iter([[outsider], [], []])
    monkeypatch.setattr(snapshot, "descendants", lambda _: next(found))
    with paused(1):
        assert state(outsider) != "T"
