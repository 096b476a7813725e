"""Output descriptors that another thread reads for a while, in the place of the one that supervises their container."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

_SOON = 150e-6
"""Seconds for which `ready` looks again and again before it sleeps: to fall asleep and be woken takes half of them."""


class Lending:
    """Descriptors that the supervisor reads, unless another thread has borrowed them. The owner calls `close`.

    Each waking of a thread takes tens of microseconds, and to hand on what it has read takes a second one. So a thread
    that waits for the output itself borrows the descriptors, and no other thread wakes meanwhile. `gate` is the epoll
    that the supervisor polls: it is readable when one of the descriptors is, but not while they are borrowed.
    """

    def __init__(self) -> None:
        self.over = False
        """Whether the supervisor has them for good. A borrower gives them back then."""
        self._fds: list[int] = []
        self._soon = _SOON if len(os.sched_getaffinity(0)) > 1 else 0.0  # what writes needs a processor, too
        self._lock = threading.Lock()
        self._bell_lock = threading.RLock()  # a signal handler rings, too
        with contextlib.ExitStack() as stack:
            self._all = stack.enter_context(select.epoll())
            self._gate = stack.enter_context(select.epoll())
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self._bell)
            self._all.register(self._bell, select.EPOLLIN)
            self._gate.register(self._all.fileno(), select.EPOLLIN)
            self._opened = stack.pop_all()
        self.gate = self._gate.fileno()

    def close(self) -> None:
        """Close what this has opened. Idempotent. Neither the supervisor nor a borrower may use it any more."""
        with self._bell_lock:
            self._bell = -1
            self._opened.close()

    def register(self, fd: int, events: int) -> None:
        """Add a descriptor, as `poll.register` does."""
        self._fds.append(fd)
        self._all.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Remove a descriptor."""
        self._fds.remove(fd)
        self._all.unregister(fd)

    def ready(self, patience: float | None) -> list[tuple[int, int]]:
        """Return the descriptors with their events (poll(2)), at once or within `patience` seconds.

        They are in the order in which they were added, as those of poll(2): who takes a message also takes the output
        that was written before it, and would wait for output that is already taken. The result is empty after that
        time, or if `ring` was called. Only the thread that has the descriptors calls it.
        """
        found = dict(self._poll(patience))
        if found.pop(self._bell, None):
            os.eventfd_read(self._bell)
        if len(found) < 2:
            return list(found.items())
        return [(fd, found[fd]) for fd in self._fds if fd in found]

    def _poll(self, patience: float | None) -> list[tuple[int, int]]:
        if self._soon and (patience is None or patience > self._soon):
            until = time.monotonic() + self._soon
            while time.monotonic() < until:
                if found := self._all.poll(0):
                    return found
                os.sched_yield()  # what writes may have to wait for this processor
        return self._all.poll(patience)

    # The supervisor

    def take(self) -> bool:
        """Have the descriptors if they are not borrowed; return whether the caller has them, and calls `leave`."""
        return self._lock.acquire(blocking=False)

    def leave(self) -> None:
        """End what `take` began."""
        self._lock.release()

    def end(self) -> None:
        """Have the descriptors for good: wait until a borrower has given them back."""
        self.over = True
        self.ring()
        with self._lock:
            pass

    # The borrower

    def borrow(self) -> bool:
        """Wait until the supervisor does not read, and have the descriptors; return False if its container ends."""
        self._lock.acquire()
        if self.over:
            self._lock.release()
            return False
        self._gate.modify(self._all.fileno(), 0)
        return True

    def give_back(self) -> None:
        """Let the supervisor read them again."""
        self._gate.modify(self._all.fileno(), select.EPOLLIN)
        self._lock.release()

    def ring(self) -> None:
        """Wake the thread that waits in `ready`, or the next one. From any thread or signal handler."""
        with self._bell_lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)
