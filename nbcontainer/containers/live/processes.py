"""A container's processes in the notebook's /proc: which of them a cell started."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from nbcontainer.linux.procfs import descendants, pid_namespace, started, status


def now() -> float:
    """Return the time since boot in seconds, to compare with `started`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def kill_since(init: int, since: float, shell: int) -> int:
    """Kill the processes below `init` that started at `since` or later, but not the shell; return how many.

    A clock tick earlier counts too, since /proc counts in ticks. Processes forked meanwhile are found in the next
    round.
    """
    if not shell:
        return 0
    tick = 1 / os.sysconf("SC_CLK_TCK")
    killed: set[int] = {shell}
    while found := [pid for pid in descendants(init) if pid not in killed and _kill(pid, shell, since - tick)]:
        killed.update(found)
    return len(killed) - 1


def _kill(pid: int, shell: int, since: float) -> bool:
    """Kill a process by pidfd if it is in the shell's container and started at `since` or later.

    Its namespace is compared with the shell's, since only root may read init's.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if pid_namespace(pid) != pid_namespace(shell) or started(pid) < since:
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def missed_interrupt(init: int, since: float, group: int, seen: set[int]) -> list[int]:
    """Return the processes of `group` below `init`, started at `since` or later, that an interrupt has not reached.

    If a shell takes a signal just before or just after it forks, its child does not get it. A live process that neither
    catches nor ignores SIGINT has had none. One that catches SIGINT may be handling it, unless it is not in `seen`, the
    processes that were there when the interrupt was sent. The processes found are added to `seen`.
    """
    tick = 1 / os.sysconf("SC_CLK_TCK")
    found = []
    for pid in descendants(init):
        with contextlib.suppress(OSError, LookupError, ValueError):  # it has ended
            if pid == group or os.getpgid(pid) != group or started(pid) < since - tick:
                continue
            caught, ignored = _takes(pid, signal.SIGINT)
            if not ignored and (not caught or pid not in seen):
                found.append(pid)
                seen.add(pid)
    return found


def signal_member(pid: int, group: int, number: signal.Signals) -> None:
    """Send a process a signal if it is in a process group: its pid may be reused by now.

    Raises `ProcessLookupError`, `PermissionError`.
    """
    pidfd = os.pidfd_open(pid)
    try:
        if os.getpgid(pid) == group:
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _takes(pid: int, number: int) -> tuple[bool, bool]:
    """Return whether a process catches a signal, and whether it ignores or blocks it (proc_pid_status(5))."""
    found = status(pid)
    blocked, ignored, caught = (int(found[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt"))
    bit = 1 << (number - 1)
    return bool(caught & bit), bool((ignored | blocked) & bit)
