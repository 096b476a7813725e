"""The guard of a pause: a process that holds a container's processes still for as long as the one that asked lives.

It traces them (ptrace(2)), so that the kernel itself continues them when the guard ends, by SIGKILL too. No parent in
the container sees a stop, and what was stopped before is stopped afterwards. What cannot be traced, as a process that
has a tracer in its cell, is stopped by SIGSTOP and written down (`nbcontainer.sandbox.pause_file`).

The guard has a session of its own, so that it outlives a kill of its requester's process group and ends the pause.
One thread traces and the main thread does the rest: a thread in execve(2) waits until its dead siblings are reaped, and
who begins to trace it waits for that, so no process but the tracer, in another thread, can reap them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux import tracing
from nbcontainer.linux.procfs import STANDING, born_below, descendants, send_signal, state, threads, tracer
from nbcontainer.sandbox.pause_file import PauseFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HELD, BUSY, LET_GO = b"h", b"b", b"l"
"""What the guard says: all stands still; another pause lasted too long; it lasted until the requester's end of it."""

_PATIENCE = 1.0
"""Seconds to wait until the threads that must stop have stopped."""

_LIMIT = 30.0
"""Seconds after which a container that does not stand still is let go."""

_LOCK_PAUSE = 0.01
"""Seconds between two looks whether another pause has ended."""

_REAP_PAUSE = 0.02
"""Seconds from a change in what is held to the look whether something died."""


class Standstill:
    """The processes below the host pid `init`, held by the thread that calls `hold` until that thread ends.

    `note` is called with the pid and the birth of each process before it is stopped by a signal.
    """

    def __init__(self, init: int, note: Callable[[int, str], None]) -> None:
        self._init = init
        self._note = note
        self._held: dict[int, int] = {}
        """By thread id, the pid of its process."""
        self._waited_for: set[int] = set()
        self._stopped: dict[int, str] = {}
        """By pid, the birth of a process that a signal stopped; empty for one that stood already."""

    def hold(self) -> None:
        """Hold everything. One that is created meanwhile is found by the next look, until a look finds nothing."""
        while found := self._unheld():
            refused = self._seize(found)
            if refused:
                self._stop(refused)

    def _unheld(self) -> list[tuple[int, int]]:
        """The living threads that are not held yet: (pid, thread id)."""
        pids = [pid for pid in descendants(self._init) if pid not in self._stopped]
        return [(pid, tid) for pid in pids for tid in threads(pid) if self._runs(pid, tid)]

    def _runs(self, pid: int, tid: int) -> bool:
        """Whether a thread is to be held, or held again: one that calls execve(2) takes the number of the first one."""
        now = state(pid, tid)
        if now in "ZX" or tid not in self._held:
            return now not in "ZX"
        if now == "D" and tracer(pid, tid) == threading.get_native_id():
            if tid in self._waited_for:
                return False  # the kernel does not let go of it
            self._waited_for.add(tid)
        return now not in STANDING

    def _seize(self, found: Sequence[tuple[int, int]]) -> set[int]:
        """Hold threads; return the processes of those that cannot be traced."""
        seized, refused = [], set()
        for pid, tid in found:
            try:
                tracing.seize(tid)
            except OSError as error:
                if tracer(pid, tid) == threading.get_native_id():
                    seized.append((pid, tid))
                elif error.errno != errno.ESRCH and state(pid, tid) not in "ZX":
                    refused.add(pid)
            else:
                self._held[tid] = pid  # at once, to be reaped while this waits for another
                seized.append((pid, tid))
        inside = set(descendants(self._init))  # by now a number may be that of a process outside
        for pid, tid in seized:
            if pid in inside and Path(f"/proc/{pid}/task/{tid}").exists():
                with contextlib.suppress(ProcessLookupError):
                    tracing.interrupt(tid)
            else:
                self._let_go(tid)
        self._wait_until_still([one for one in seized if one[1] in self._held])
        return refused

    def _let_go(self, tid: int) -> None:
        """Let go of a thread that is not of this container."""
        with contextlib.suppress(ProcessLookupError):  # it is dead, and will be reaped
            tracing.interrupt(tid)
            self._wait_until_still([(tid, tid)])
            tracing.detach(tid)
            del self._held[tid]

    def _stop(self, pids: set[int]) -> None:
        """Stop processes by a signal, but those that stand already: their tracers, in the container too, do by now."""
        born = born_below(self._init)
        for pid in pids:
            standing = all(state(pid, tid) in STANDING for tid in threads(pid))
            self._stopped[pid] = "" if standing else born.get(pid, "")
            if self._stopped[pid]:
                self._note(pid, born[pid])
                send_signal(pid, born[pid], signal.SIGSTOP)
        self._wait_until_still([(pid, tid) for pid in pids for tid in threads(pid)])

    def _wait_until_still(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Wait until these threads stand: one that is in a call has more to do before.

        One that the kernel does not let go of, a parent in vfork(2), say, is not waited for beyond `_PATIENCE`.
        """
        deadline = time.monotonic() + _PATIENCE
        while (wanted := [one for one in wanted if state(*one) not in STANDING]) and time.monotonic() < deadline:
            for _, tid in wanted:
                if tid in self._held:  # it may have taken the number of the one that had to stop
                    with contextlib.suppress(ProcessLookupError):
                        tracing.interrupt(tid)
            time.sleep(0.001)

    def reap(self) -> None:
        """Take note of the dead among what is held: until then they are not dead to their parents (ptrace(2))."""
        for tid, pid in list(self._held.items()):
            # Only the dead are waited for. A signal that has stopped a thread would be lost by waiting for the stop.
            if state(pid, tid) in "ZX":
                with contextlib.suppress(ChildProcessError):
                    if os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG) is None:
                        continue
                del self._held[tid]

    def resume(self) -> None:
        """Continue what a signal stopped. The kernel does so with the rest when the thread that holds it ends."""
        for pid, born in list(self._stopped.items()):
            if born:
                send_signal(pid, born, signal.SIGCONT)


class Guard:
    """The guard's main thread. `channel` is to the requester, `requester` its pidfd."""

    def __init__(self, channel: socket.socket, requester: int) -> None:
        self._channel = channel
        self._still, self._tell_still = os.pipe()
        self._changed, tell_changed = os.pipe()
        os.set_blocking(tell_changed, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(tell_changed, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._ends = (channel.fileno(), requester)
        for fd in (*self._ends, self._still, self._changed):
            self._poll.register(fd, select.POLLIN)

    def take(self, path: Path, seconds: float) -> PauseFile | None:
        """The container's pause file, when no other process has it any more; None where the requester gave up."""
        deadline = time.monotonic() + seconds
        while (file := PauseFile.take(path)) is None:
            if time.monotonic() > deadline:
                self.say(BUSY)
                return None
            if {fd for fd, _ in self._poll.poll(_LOCK_PAUSE * 1000)} & set(self._ends):
                return None
        return file

    def say(self, word: bytes) -> None:
        """Report to the requester, if it is there."""
        with contextlib.suppress(OSError):
            self._channel.send(word, socket.MSG_NOSIGNAL)

    def hold(self, standstill: Standstill) -> None:
        """Hold everything still until the requester ends the pause, or itself."""
        _listen(on=False)  # a thread inherits it
        threading.Thread(target=self._hold, args=(standstill,), daemon=True).start()
        deadline = time.monotonic() + _LIMIT
        held = changed = False
        while held or time.monotonic() < deadline:
            _listen(on=not changed)
            waiting = _REAP_PAUSE if changed else _LIMIT
            ready = {fd for fd, _ in self._poll.poll(None if held and not changed else waiting * 1000)}
            if ready & set(self._ends):
                break
            if changed and not ready:
                standstill.reap()
            changed = self._changed in ready and bool(os.read(self._changed, 4096))
            if self._still in ready:
                held = bool(os.read(self._still, 1))
                if not held:
                    break
                self.say(HELD)
        if held:
            self.say(LET_GO)

    def _hold(self, standstill: Standstill) -> None:
        try:
            standstill.hold()
            os.write(self._tell_still, b"s")
            threading.Event().wait()  # for ever: what this thread holds continues when it ends
        finally:
            os.close(self._tell_still)


def _listen(*, on: bool) -> None:
    """Have this thread get a signal for changes in what is held, or not: there may be thousands at a time."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK if on else signal.SIG_BLOCK, {signal.SIGCHLD})


def main(channel: int, requester: int, init: int, path: Path, seconds: float) -> None:
    """The guard's process. It waits for another pause of the container, as `path` has it, at most `seconds`."""
    guard = Guard(socket.socket(fileno=channel), requester)
    file = guard.take(path, seconds)
    if file is None:
        return
    standstill = Standstill(init, file.note)
    try:
        file.resume(init)
        guard.hold(standstill)
    finally:
        standstill.resume()
        file.remove()
        os._exit(0)  # with the thread that holds everything, wherever it is
