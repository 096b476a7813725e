"""Containers that are ending."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from nbcontainer.containers.writes.ending import EndingContainers
from nbcontainer.sandbox.handle import readable
from tests.running import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from nbcontainer.sandbox.handle import ContainerHandle


class _Init:
    """A process in the place of an init."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pidfd = os.pidfd_open(process.pid)

    def kill(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


@contextmanager
def _init() -> Iterator[ContainerHandle]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        init = _Init(process)
        yield cast("ContainerHandle", init)
        os.close(init.pidfd)
    finally:
        process.kill()
        process.wait()


def test_waiting_ends_when_all_have_ended() -> None:
    """An init that would live for ever is killed; when `wait` returns, it is dead."""
    ending = EndingContainers()
    with _init() as one, _init() as two:
        ending.add(one)
        ending.add(two)
        ending.wait()
        assert readable(one.pidfd)
        assert readable(two.pidfd)


def test_without_descriptors_the_cell_itself_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of open files nothing that a cell wrote is lost: the init has ended when it is added."""

    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    ending = EndingContainers()
    with _init() as one:
        monkeypatch.setattr(os, "dup", refuse)
        ending.add(one)
        assert readable(one.pidfd)
        ending.wait()


def test_a_container_is_closed_before_it_has_ended() -> None:
    """Its owner may close the handle at any time; no descriptor is left."""
    before = open_descriptors()
    ending = EndingContainers()
    with _init() as one:
        ending.add(one)
    ending.wait()
    ending.wait()
    assert open_descriptors() == before
