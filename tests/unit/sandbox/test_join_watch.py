"""When the watch over a process that joined a container acts."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.handle import ContainerHandle
from nbcontainer.sandbox.join_watch import INTERVAL, PATIENCE, JoinWatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALIVE = (
    b"Name:\tpython\nState:\tS (sleeping)\nVmSize:\t  2928 kB\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n"
)
WAITS = ALIVE.replace(b"S (sleeping)", b"D (disk sleep)")
INTERRUPTED = WAITS.replace(b"ShdPnd:\t0000000000000000", b"ShdPnd:\t0000000000000002")


class Scene:
    """A watch whose thread, clock and joined process are the test's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, self.theirs = socket.socketpair()
        self.done: list[str] = []
        self.now = 100.0
        self.status = folder / "status"
        self.handle = ContainerHandle(ours, 0, os.open(os.devnull, os.O_RDONLY))
        self.watch = JoinWatch(self.handle, (), lambda: self.done.append("end"), lambda: self.now)
        self.init = folder / "init"
        self.init.write_bytes(ALIVE)
        monkeypatch.setattr(self.watch, "_status", self.status)
        monkeypatch.setattr(self.watch, "_init_status", self.init)
        monkeypatch.setattr(self.watch, "_free", lambda: self.done.append("free"))

    def look(self, *statuses: bytes) -> list[str]:
        """What the watch does when the thread has these statuses, one look after another."""
        for status in statuses:
            self.status.write_bytes(status)
            self.watch._look()
            self.now += INTERVAL
        return self.done


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A scene, closed at the end."""
    one = Scene(tmp_path, monkeypatch)
    yield one
    one.handle.close()
    one.theirs.close()


@pytest.mark.parametrize("status", [ALIVE, WAITS])
def test_nothing_is_done_while_the_process_runs(scene: Scene, status: bytes) -> None:
    """As long as the joined process runs, its own output can make the thread wait."""
    assert scene.look(*[status] * 40) == []


@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
def test_the_second_look_after_the_end_frees_the_pipe(scene: Scene, read: bool) -> None:
    """When the process has ended, whether or not its message has been read, the second look frees the pipe."""
    if read:
        scene.handle.ended = {"ended": 0}
    else:
        scene.theirs.send(b"{}")
    assert scene.look(ALIVE, WAITS) == []
    assert scene.look(WAITS) == ["free"]


def test_an_interrupt_that_waits_frees_the_pipe(scene: Scene) -> None:
    """An interrupt that the thread cannot take frees the pipe, although the process runs."""
    assert scene.look(INTERRUPTED, INTERRUPTED, ALIVE) == ["free"]


def test_the_container_ends_once_if_the_pipe_stays_locked(scene: Scene) -> None:
    """A pipe that is locked again and again after the end of its process ends the container, once."""
    scene.handle.ended = {"ended": 0}
    done = scene.look(*[WAITS, WAITS, ALIVE] * int(PATIENCE / INTERVAL))
    assert done.count("end") == 1
    assert done.index("end") > done.index("free")


def test_a_closed_channel_is_an_end(scene: Scene) -> None:
    """The last look may come after the handle was closed, while the thread closes the pipe."""
    scene.handle.channel.close()
    assert scene.look(WAITS, WAITS) == ["free"]


@pytest.mark.parametrize(
    ("init", "ended", "done"),
    [
        (WAITS, False, ["end"]),
        (None, False, ["end"]),
        (ALIVE, False, []),
        (WAITS, True, []),
    ],
)
def test_an_init_that_is_held_up_is_ended(scene: Scene, init: bytes | None, ended: bool, done: list[str]) -> None:
    """If init waits in the kernel for three seconds since the kill, or cannot be seen, the container is ended; once."""
    if init is None:
        scene.init.unlink()
    else:
        scene.init.write_bytes(init)
    assert scene.look(*[ALIVE] * 40) == []
    scene.handle.killed_at = scene.now
    assert scene.look(*[ALIVE] * 12) == []
    if ended:
        scene.handle.ended = {}
    assert scene.look(*[ALIVE] * 20) == done


def test_an_init_that_waits_now_and_then_is_not_held_up(scene: Scene) -> None:
    """A killed process that is long in dying, on a slow disk, ends no container, if init waits for it at times."""
    scene.handle.killed_at = scene.now
    for _ in range(20):
        scene.init.write_bytes(WAITS)
        assert scene.look(*[ALIVE] * 12) == []
        scene.init.write_bytes(ALIVE)
        assert scene.look(ALIVE) == []
