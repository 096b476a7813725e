"""The notebook's end of a container's directory in /dev: pipes and files, which the container can tamper with.

Each open takes one name in the directory, and fails unless the file has the expected type. It follows no link, crosses
no mount and does not wait. Data from the container is checked.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Protocol

from nbcontainer.errors import ContainerError
from nbcontainer.linux import files
from nbcontainer.sandbox.steps.exchange.display import CHANNEL, EXCHANGE, SHOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 64 << 20
"""Bytes that are read of an answer or of shown data; /dev holds no more."""

IN_PIPE = 60_000
"""Bytes that a pipe takes without waiting (pipe(7))."""

_NOBODY_SEES = "this run has no notebook to show it in"


def _changed(name: str) -> ContainerError:
    return ContainerError(f"the container changed {EXCHANGE}/{name}", hint="stop the container, or restart the kernel")


class DisplayListener(Protocol):
    """Receives what the container's programs show, as it comes."""

    def stderr(self, data: bytes) -> None:
        """Receive standard error."""

    def shown(self, mime: str, data: bytes) -> None:
        """Receive data to display."""

    def cleared(self, wait: bool) -> None:
        """Clear the output; with `wait`, when there is more."""


class DisplayChannel:
    """The pipe `replies` and the data to show. `close` closes the pipe; the caller closes `directory`."""

    def __init__(self, directory: int) -> None:
        """Open the pipe. Raises `ContainerError` if it is not a pipe any more."""
        self.directory = directory
        self._partial_line = b""
        self._pipes = contextlib.ExitStack()
        self.replies = self.open_pipe(CHANNEL)

    def open_pipe(self, name: str) -> int:
        """Open a pipe to read and write: neither end waits for the other to open it, or sees it close."""
        fd = self.open(name, os.O_RDWR, stat.S_ISFIFO)
        self._pipes.callback(os.close, fd)
        return fd

    def open(self, name: str, flags: int, is_kind: Callable[[int], bool], folder: int = -1) -> int:
        """Return a descriptor of a file in the directory, or in `folder`; the caller closes it.

        Raises `ContainerError` if it is not there, or is of another kind.
        """
        return self.opener(name, flags, is_kind, folder)()

    def opener(self, name: str, flags: int, is_kind: Callable[[int], bool], folder: int = -1) -> Callable[[], int]:
        """Return a function that does what `open` does with these arguments, for a file that is opened often."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        # A file that a container with SYS_ADMIN has mounted there could be the kernel's, and this process be root.
        call = files.opener(self.directory if folder < 0 else folder, name, flags, resolve=files.RESOLVE_NO_XDEV)

        def open_it() -> int:
            try:
                fd = call()
            except OSError as error:
                raise _changed(name) from error
            if not is_kind(os.fstat(fd).st_mode):
                os.close(fd)
                raise _changed(name)
            return fd

        return open_it

    def close(self) -> None:
        """Close the pipes. Idempotent."""
        self._pipes.close()

    def lines(self, data: bytes) -> list[list[str]]:
        """Return the fields of each complete line in `replies`; `data` is what was read since the last call."""
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        self._partial_line = self._partial_line[-IN_PIPE:]
        return [line.decode("utf-8", "replace").split(" ") for line in lines]

    def serve(self, fields: list[str], listener: DisplayListener | None) -> bool:
        """Do what a line of `display` asks for, and let that program continue; return False for any other line.

        Without a listener, the program fails with an error message.
        """
        match fields:
            case ["display", mime, name, sign]:
                if listener is not None:
                    self._show(mime, name, listener)
            case ["clear", wait, sign]:
                if listener is not None:
                    listener.cleared(wait == "1")
            case _:
                return False
        self._acknowledge(sign, "" if listener is not None else _NOBODY_SEES)
        return True

    def _show(self, mime: str, name: str, listener: DisplayListener) -> None:
        try:
            with self._shown(name) as folder:
                data = self.read(name, folder)
        except (OSError, ContainerError) as error:
            listener.stderr(f"nbcontainer: cannot show {name!r}: {error}\n".encode())
        else:
            listener.shown(mime, data)

    def _acknowledge(self, name: str, refusal: str) -> None:
        """Let the program continue that waits at the pipe of that name until its line is handled."""
        with contextlib.suppress(OSError, ContainerError), self._shown(name) as folder:
            fd = self.open(name, os.O_WRONLY, stat.S_ISFIFO, folder)
            try:
                os.write(fd, refusal.encode() + b"\n")
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _shown(self, name: str) -> Iterator[int]:
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise ContainerError(f"invalid name of shown data: {name!r}", hint="show a file by the command `display`")
        folder = self.open(SHOWN, os.O_RDONLY | os.O_DIRECTORY, stat.S_ISDIR)
        try:
            yield folder
        finally:
            os.close(folder)

    def read(self, name: str, folder: int = -1) -> bytes:
        """Return the content of a file in the directory, or in `folder`, at most `LIMIT` bytes.

        Raises `OSError`, `ContainerError`.
        """
        fd = self.open(name, os.O_RDONLY, stat.S_ISREG, folder)
        with os.fdopen(fd, "rb") as file:
            return file.read(LIMIT)
