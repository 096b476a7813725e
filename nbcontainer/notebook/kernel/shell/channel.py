"""The notebook's end of a shell's exchange: pipes, files and a terminal, all of which the container can tamper with.

Whatever is opened is one name in the directory, and only if it is what it should be: no link is followed, no mount
crossed, nothing is waited for, and what comes from the other side is data to be checked.
"""

from __future__ import annotations

import contextlib
import os
import stat
import termios
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerError
from nbcontainer.linux.files import RESOLVE_NO_XDEV, openat2
from nbcontainer.notebook.kernel.shell.contents import ANSWER, CHANNEL, CONTROL, INPUT, SHOWN, turn
from nbcontainer.sandbox.steps.control_directory import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 64 << 20
"""Bytes of an answer or of something shown that are read; /dev holds no more."""

_SPARE_TURNS = 3  # lines that wait on `input`: one is read at each turn, and its reader must never find none
_IN_PIPE = 60_000  # bytes that a pipe surely takes without waiting (pipe(7))


@dataclass(frozen=True)
class Echo:
    """Whether what is typed into the terminal is echoed, and whether lines are edited (termios(3))."""

    echo: bool
    canonical: bool

    @property
    def secret(self) -> bool:
        """Whether a program reads a line that must not be seen."""
        return self.canonical and not self.echo


class Channel:
    """The notebook's end. `directory` and `terminal` stay the caller's, all else is closed by `close`."""

    def __init__(self, directory: int, terminal: int) -> None:
        """Opens the pipes. Raises `OSError` where one is not what was made."""
        self.directory = directory
        self.terminal = terminal
        self._lock = threading.Lock()
        self._closed = False
        self._turns = 0
        self._echoed = b""
        self._rest = b""
        with contextlib.ExitStack() as stack:
            self.control, self.input, self.channel = (
                self._open_pipe(name, stack) for name in (CONTROL, INPUT, CHANNEL)
            )
            self._stack = stack.pop_all()
        self._write(self.input, f"case $BASH_VERSION in '') . {EXCHANGE}/ash ;; esac\n")
        self.turned(0)

    def _open_pipe(self, name: str, stack: contextlib.ExitStack) -> int:
        """For reading and writing, so that neither end ever waits for the other to be opened, or sees it close."""
        fd = self._open(name, os.O_RDWR, stat.S_ISFIFO)
        stack.callback(os.close, fd)
        return fd

    def _open(self, name: str, flags: int, right: Callable[[int], bool], folder: int = -1) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        changed = ContainerError(f"/dev/nbcontainer/{name} is not what it was", hint="restart the kernel")
        try:
            # A file that a container with SYS_ADMIN has mounted there could be the kernel's, and this process be root.
            fd = openat2(self.directory if folder < 0 else folder, name, flags, resolve=RESOLVE_NO_XDEV)
        except OSError as error:
            raise changed from error
        if not right(os.fstat(fd).st_mode):
            os.close(fd)
            raise changed
        return fd

    def close(self) -> None:
        """Closes the pipes; nothing is written any more. Idempotent. From any thread."""
        with self._lock:
            self._closed = True
            self._stack.close()

    def turned(self, number: int) -> None:
        """The shell has read turn `number`: sees to it that more are there. 0: it can read none of those written."""
        last = (number or self._turns) + _SPARE_TURNS
        self._write(self.input, "".join(turn(more) for more in range(self._turns + 1, last + 1)))
        self._turns = max(self._turns, last)

    def tell(self, line: str) -> None:
        """Writes a line for the shell, which waits for one."""
        self._write(self.control, line + "\n")

    def _write(self, fd: int, text: str) -> None:
        # A pipe that is full is one that the container has filled.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.write(fd, text.encode())

    def put(self, name: str, text: bytes) -> bool:
        """Writes the file of a cell or of a question anew, and closes it, since what is open cannot be executed.

        False where nobody is there any more to read it. Raises `ContainerError`.
        """
        with self._lock:
            if self._closed:
                return False
            fd = self._open(name, os.O_WRONLY, stat.S_ISREG)
        try:
            os.ftruncate(fd, 0)
            view = memoryview(text)
            while view:
                view = view[os.write(fd, view) :]
        except OSError as error:
            raise ContainerError(
                f"cannot hand the cell to the shell: {error.strerror}", hint="/dev holds 64 MiB: make it smaller"
            ) from error
        finally:
            os.close(fd)
        return True

    def answer(self) -> bytes:
        """What the shell wrote into the answer's file."""
        return self._read(ANSWER)

    def take_shown(self, name: str) -> bytes:
        """What a program wants to be shown. Raises `OSError`, `ContainerError`."""
        with self._shown(name) as folder:
            return self._read(name, folder)

    def sign(self, name: str) -> None:
        """Lets a program go on that waits, at the pipe of that name, until what it told is done."""
        with contextlib.suppress(OSError, ContainerError), self._shown(name) as folder:
            fd = self._open(name, os.O_WRONLY, stat.S_ISFIFO, folder)
            try:
                os.write(fd, b"\n")
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _shown(self, name: str) -> Iterator[int]:
        if "/" in name or name in ("", ".", ".."):
            raise ContainerError(f"{name!r} is no name of something to show")
        folder = self._open(SHOWN, os.O_RDONLY | os.O_DIRECTORY, stat.S_ISDIR)
        try:
            yield folder
        finally:
            os.close(folder)

    def _read(self, name: str, folder: int = -1) -> bytes:
        fd = self._open(name, os.O_RDONLY, stat.S_ISREG, folder)
        with os.fdopen(fd, "rb") as file:
            return file.read(LIMIT)

    def lines(self, data: bytes) -> list[list[str]]:
        """The words of each whole line on the channel, `data` being what has come since."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_IN_PIPE:]
        return [line.decode("utf-8", "replace").split(" ") for line in lines]

    # The terminal

    def echo(self) -> Echo:
        """How the terminal is set now."""
        flags = termios.tcgetattr(self.terminal)[3]
        return Echo(bool(flags & termios.ECHO), bool(flags & termios.ICANON))

    def type(self, text: str) -> None:
        """Types a line; what is echoed of it is not shown once more."""
        data = text.encode("utf-8", "surrogateescape")
        if "\x04" not in text:
            data += b"\n"
        self._echoed = data.replace(b"\n", b"\r\n") if self.echo().echo else b""
        os.write(self.terminal, data)

    def unechoed(self, data: bytes) -> bytes:
        """What a program wrote to the terminal, of all that came from there."""
        while data and self._echoed and data[0] == self._echoed[0]:
            data, self._echoed = data[1:], self._echoed[1:]
        return data
