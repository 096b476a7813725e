"""Locks on files of the store."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.store.locks import StoreLock, lock_in_place, open_lock, release, try_lock
from tests.running import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The lock of a container."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "lock").touch()
    return tmp_path / "dev" / "lock"


def is_locked(path: Path) -> bool:
    """Whether another descriptor has the file locked."""
    fd = open_lock(path)
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def child() -> Iterator[None]:
    """A child by fork(2), which lives as long as the block lasts."""
    hold, let_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(let_go)
        os.read(hold, 1)
        os._exit(0)
    try:
        yield
    finally:
        os.close(let_go)
        os.waitpid(pid, 0)
        os.close(hold)


def test_a_released_lock_is_free_though_a_child_runs_on(lock: Path) -> None:
    """A lock is of an open file description, which a child by fork(2) shares."""
    held, store = lock_in_place(lock), StoreLock(lock.parent / "lock")
    with child():
        assert is_locked(lock)
        release(held)
        assert not is_locked(lock)
    with store.hold():
        living = contextlib.ExitStack()
        living.enter_context(child())
    with living:
        assert not is_locked(lock)


def test_no_lock_outlives_its_process_in_a_child(lock: Path) -> None:
    """A process that is killed leaves a child, and no lock."""
    said, say = os.pipe()
    hold, let_go = os.pipe()
    if (holder := os.fork()) == 0:
        os.close(let_go)
        lock_in_place(lock)
        if os.fork() == 0:
            os.write(say, b"1")
            os.read(hold, 1)
            os._exit(0)
        signal.pause()
    try:
        assert os.read(said, 1) == b"1"
        assert is_locked(lock)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        assert not is_locked(lock)
    finally:
        for fd in (let_go, hold, said, say):
            os.close(fd)


def test_a_lock_that_is_held_is_an_error_or_awaited(lock: Path) -> None:
    """Without a function to call before the wait, it is an error, and no descriptor stays open."""
    held = lock_in_place(lock)
    before = open_descriptors()
    with pytest.raises(BlockingIOError):
        lock_in_place(lock)
    assert open_descriptors() == before
    os.close(lock_in_place(lock, wait=lambda: os.close(held)))


def test_who_waited_locks_what_is_at_the_path_then(lock: Path, tmp_path: Path) -> None:
    """A container that was renamed meanwhile is released, and the new one of its name is locked."""
    held = lock_in_place(lock)
    waits, found = threading.Event(), list[int]()
    waiter = threading.Thread(target=lambda: found.append(lock_in_place(lock, wait=waits.set)))
    waiter.start()
    assert waits.wait(60)
    lock.parent.rename(tmp_path / "renamed")
    lock.parent.mkdir()
    lock.touch()
    os.close(held)
    waiter.join()
    assert (is_locked(lock), is_locked(tmp_path / "renamed" / "lock")) == (True, False)
    os.close(found[0])


def test_what_was_removed_is_not_locked(lock: Path) -> None:
    """If there is no other one, it is missing, as if it had been so before."""
    held = lock_in_place(lock)

    def remove() -> None:
        lock.unlink()
        os.close(held)

    with pytest.raises(FileNotFoundError):
        lock_in_place(lock, wait=remove)
