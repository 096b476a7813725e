"""What runs now, in whichever process was told to run it, and how it is stopped from another."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.pause import wake
from nbcontainer.errors import StoreError
from nbcontainer.linux.procfs import birth

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.store.layout import Store


_SETTLE_TRIES, _SETTLE_PAUSE = 500, 0.01
"""How often, and after how many seconds, to look whether a stopped container is free."""


def running_containers(store: Store) -> dict[str, dict[str, Any]]:
    """What runs now, in any process that uses the store: by name, with `pid` (init's, host), `image`, `started`."""
    found: dict[str, dict[str, Any]] = {}
    for session in store.sessions.said():
        for name, facts in dict(session.get("running", {})).items():
            if _is_init(int(facts.get("pid", 0)), str(facts.get("born", ""))):
                found[name] = facts
    return found


def _is_init(pid: int, born: str) -> bool:
    return bool(born) and birth(pid) == born


def stop_running(workspace: Workspace, name: str, grace: float = 2.0) -> bool:
    """Asks a running container's cell to end, by its image's signal, and ends it after `grace` seconds.

    False where nothing of it runs.
    Whoever ran it has put its files in order when this returns, so that the container can be used at once.
    """
    facts = running_containers(workspace.store).get(name)
    if facts is None:
        return False
    try:
        pidfd = os.pidfd_open(facts["pid"])
    except ProcessLookupError:
        return False
    try:
        if not _is_init(facts["pid"], facts["born"]):  # the pid was another's before it was pinned
            return False
        wake(workspace.store, facts)  # what is stopped cannot end in order
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.Signals(facts.get("stop", signal.SIGTERM)))
            if not poll.poll(grace * 1000):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                poll.poll()
        _wait_until_settled(workspace.store.path / "containers" / name / "lock")
        return True
    except PermissionError as error:
        raise StoreError(f"container {name} belongs to another user", hint="ask them, or be root") from error
    finally:
        os.close(pidfd)


def _wait_until_settled(lock: Path) -> None:
    """Waits until nobody holds the container; flock(2) itself would wait for the next cell's end too."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # an anonymous one, which only its own notebook uses
    try:
        for _ in range(_SETTLE_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_SETTLE_PAUSE)
            else:
                return
    finally:
        os.close(fd)
