"""The notebook's end of a shell's control directory: pipes, files and a terminal, which the container can tamper with.

Each open takes one name in the directory, and fails unless the file has the expected type. It follows no link, crosses
no mount and does not wait. Data from the container is checked.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING

from nbcontainer.containers.live.contents import ANSWER, CHANNEL, CONTROL, INPUT, SHOWN, turn
from nbcontainer.errors import ContainerError
from nbcontainer.linux.files import RESOLVE_NO_XDEV, openat2
from nbcontainer.sandbox.prompts.line_terminal import LineTerminal
from nbcontainer.sandbox.steps.control_directory import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 64 << 20
"""Bytes that are read of an answer or of shown data; /dev holds no more."""

_SPARE_TURNS = 3  # lines that wait on `input`: each turn reads one, and must never find the pipe empty
_IN_PIPE = 60_000  # bytes that a pipe takes without waiting (pipe(7))


class Channel:
    """The notebook's end. `close` closes its pipes; the caller closes `directory` and `terminal`.

    `control` and `input` are written, `replies` is read.
    """

    def __init__(self, directory: int, terminal: int, *, turns: bool = True) -> None:
        """Open the pipes; with `turns`, write the shell's own commands.

        Raises `OSError`, and `ContainerError` if one is not a pipe any more.
        """
        self.directory = directory
        self.terminal = terminal
        self._lock = threading.Lock()
        self._closed = False
        self._last_turn = 0
        self._typed = LineTerminal(terminal)
        self._partial_line = b""
        with contextlib.ExitStack() as stack:
            self.control, self.input, self.replies = (
                self._open_pipe(name, stack) for name in (CONTROL, INPUT, CHANNEL)
            )
            self._stack = stack.pop_all()
        if turns:
            self._begin_turns()

    def _begin_turns(self) -> None:
        self._write(self.input, f"case $BASH_VERSION in '') . {EXCHANGE}/ash ;; esac\n")
        self.add_turns(0)

    def _open_pipe(self, name: str, stack: contextlib.ExitStack) -> int:
        """Open a pipe to read and write: neither end waits for the other to open it, or sees it close."""
        fd = self._open(name, os.O_RDWR, stat.S_ISFIFO)
        stack.callback(os.close, fd)
        return fd

    def _open(self, name: str, flags: int, is_kind: Callable[[int], bool], folder: int = -1) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        changed = ContainerError(f"the container changed /dev/nbcontainer/{name}", hint="restart the kernel")
        try:
            # A file that a container with SYS_ADMIN has mounted there could be the kernel's, and this process be root.
            fd = openat2(self.directory if folder < 0 else folder, name, flags, resolve=RESOLVE_NO_XDEV)
        except OSError as error:
            raise changed from error
        if not is_kind(os.fstat(fd).st_mode):
            os.close(fd)
            raise changed
        return fd

    def close(self) -> None:
        """Close the pipes; later writes do nothing. Idempotent. From any thread."""
        with self._lock:
            self._closed = True
            self._stack.close()

    def add_turns(self, number: int) -> None:
        """Write more turns of the shell's loop, after it has read turn `number`; 0 if it can read none of them."""
        last = (number or self._last_turn) + _SPARE_TURNS
        self._write(self.input, "".join(turn(more) for more in range(self._last_turn + 1, last + 1)))
        self._last_turn = max(self._last_turn, last)

    def send(self, line: str) -> None:
        """Write a line for the shell, which waits for one."""
        self._write(self.control, line + "\n")

    def _write(self, fd: int, text: str) -> None:
        # If the pipe is full, the container has filled it.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.write(fd, text.encode())

    def write_file(self, name: str, text: bytes) -> bool:
        """Write the file of a cell or a question, and close it: a file that is open for writing cannot be executed.

        Returns False if the channel is closed. Raises `ContainerError`.
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
                f"cannot write the cell to the container: {error.strerror}", hint="make it smaller: /dev holds 64 MiB"
            ) from error
        finally:
            os.close(fd)
        return True

    def answer(self) -> bytes:
        """Return what the shell wrote into the answer's file."""
        return self._read(ANSWER)

    def read_shown(self, name: str) -> bytes:
        """Return the data that a program shows. Raises `OSError`, `ContainerError`."""
        with self._shown(name) as folder:
            return self._read(name, folder)

    def acknowledge(self, name: str) -> None:
        """Let the program continue that waits at the pipe of that name until its message is handled."""
        with contextlib.suppress(OSError, ContainerError), self._shown(name) as folder:
            fd = self._open(name, os.O_WRONLY, stat.S_ISFIFO, folder)
            try:
                os.write(fd, b"\n")
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _shown(self, name: str) -> Iterator[int]:
        if "/" in name or name in ("", ".", ".."):
            raise ContainerError(f"invalid name of shown data: {name!r}")
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
        """Return the fields of each complete line in `replies`; `data` is what was read since the last call."""
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        self._partial_line = self._partial_line[-_IN_PIPE:]
        return [line.decode("utf-8", "replace").split(" ") for line in lines]

    # The terminal

    @property
    def secret(self) -> bool:
        """Whether a program reads a line that must not be shown."""
        return self._typed.mode.secret

    def type(self, text: str) -> None:
        """Type a line. `without_echo` removes its echo from the output."""
        os.write(self.terminal, self._typed.keys(text))

    def without_echo(self, data: bytes) -> bytes:
        """Return the terminal's output without the echo of the line that was typed."""
        return self._typed.without_echo(data)
