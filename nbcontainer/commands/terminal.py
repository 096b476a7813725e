"""A person's terminal while a container's is shown in it."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import termios
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Terminal `fd` hands every key on as it is typed; its settings are restored afterwards (termios(3))."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class WindowSize:
    """Keeps a container's terminal as large as the one it is shown in. Main thread only, for it listens to SIGWINCH."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._to = -1

    def follow(self, to: int) -> None:
        """From now on terminal `to` has this one's size."""
        self._to = to
        self._copy()

    def _copy(self) -> None:
        if self._to >= 0:
            with contextlib.suppress(OSError):  # the container has ended
                fcntl.ioctl(self._to, termios.TIOCSWINSZ, fcntl.ioctl(self.fd, termios.TIOCGWINSZ, bytes(8)))

    def __enter__(self) -> WindowSize:
        self._before = signal.signal(signal.SIGWINCH, lambda *_: self._copy())
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH, self._before)
