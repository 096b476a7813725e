"""What runs now, in whichever process was told to run it, and how it is stopped from another."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import StoreError

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine
    from nbcontainer.images.store import Store


def running_containers(store: Store) -> dict[str, dict[str, Any]]:
    """What runs now, in any process that uses the store: by name, with `pid` (init's, host), `image`, `started`."""
    found: dict[str, dict[str, Any]] = {}
    for session in store.sessions():
        for name, facts in dict(session.get("running", {})).items():
            if _is_init(int(facts.get("pid", 0)), str(facts.get("born", ""))):
                found[name] = facts
    return found


def birth(pid: int) -> str:
    """When a process began, in clock ticks since boot (field 22 of proc_pid_stat(5)); empty for none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - on the way of every cell
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _is_init(pid: int, born: str) -> bool:
    return bool(born) and birth(pid) == born


def stop_running(engine: Engine, name: str, grace: float = 2.0) -> bool:
    """Asks a running container's cell to end, and ends it after `grace` seconds. False where nothing of it runs."""
    facts = running_containers(engine.store).get(name)
    if facts is None:
        return False
    try:
        pidfd = os.pidfd_open(facts["pid"])
    except ProcessLookupError:
        return False
    try:
        if not _is_init(facts["pid"], facts["born"]):  # the pid was another's before it was pinned
            return False
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not poll.poll(grace * 1000):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                poll.poll()
        return True
    except PermissionError as error:
        raise StoreError(f"container {name} belongs to another user", hint="ask them, or be root") from error
    finally:
        os.close(pidfd)
