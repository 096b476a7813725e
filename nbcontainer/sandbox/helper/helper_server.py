"""The notebook's side of the helper's server: orders of inits, and the replies to them."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import itertools
import os
import signal
import socket
from typing import TYPE_CHECKING

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import readable
from nbcontainer.sandbox.helper import operations, program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CUT_OFF = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
"""The flags of a message that was cut off. Operations on flags that are enums take longer than the message."""

_FILES = 2
"""Descriptors that a packet has at most."""

_ANCILLARY = socket.CMSG_SPACE(_FILES * array.array("i").itemsize)
_SPILLED = b"memory file"

_ABOVE = 20
"""The lowest number of a descriptor that is moved before the server gets it."""


class HelperServer:
    """One server. Not thread-safe: `Launcher` has the lock. The caller closes it."""

    def __init__(self, control: socket.socket, pid: int, path: Path) -> None:
        self._control = control
        self.pid = pid
        """The server's host pid."""
        self.path = path
        """The file that has the program (host)."""
        self._numbers = itertools.count(1)
        self._late: dict[int, bytes] = {}
        """By the number of an order: the first batch that was too long for it."""

    def order(self, flags: int, first: bytes, files: Sequence[int] = ()) -> int:
        """Order an init with these namespaces and this first batch; return the order's number. Raises `OSError`.

        Init gets copies of `files`, two at most. A batch that is too long for the order (on a machine with hundreds of
        processors) goes to init by `receive`.
        """
        number = next(self._numbers)
        packet = operations.order(number, flags, first)
        if len(packet) > protocol.PACKET_LIMIT:
            packet = operations.order(number, flags, operations.batch(0, b""))
            self._late[number] = first
        _send(self._control, packet, files)
        return number

    def has_answer(self) -> bool:
        """Return whether `receive` would return at once."""
        return readable(self._control.fileno())

    def receive(self, number: int) -> tuple[int, list[int]]:
        """Return the answer to an order: init's pid, and its pidfd and channel, or a negative errno and none.

        The caller closes the descriptors. An interrupt may have given up an earlier order: its answer is skipped.
        Raises `OSError`: with EMFILE the init ends, since nothing holds it; with any other, the server has ended.
        """
        while True:
            packet, files = receive(self._control)
            if not packet:
                raise ConnectionResetError("the server has ended")
            found, pid = operations.read_answer(packet)
            late = self._late.pop(found, None)
            if found == number and len(files) == (2 if pid > 0 else 0):
                if late is not None and files:
                    _send_late(files, late)
                return pid, files
            protocol.close(files)

    def close(self) -> None:
        """Close the socket: the server and its inits end. Waits for it; in a fork(2) of this process it does not."""
        self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_server(launcher: int, errors: int, namespaces: tuple[int, int], store: int) -> HelperServer:
    """Start a server in a launcher's user and mount namespaces (descriptors). `store` is one of the store there.

    `launcher` is the pid of the process that it ends with; `errors` is where it writes its last line. It is executed
    here and enters by itself: a process that has the capability to trace in the user namespace in which a program was
    executed may look into it (ptrace(2)), and inits are that program. Raises `Unavailable`, `OSError`.
    """
    found = program.program()
    with contextlib.ExitStack() as opened:

        def keep(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        def above(fd: int) -> int:
            """Return a copy with a number that no descriptor of the server is to get."""
            return keep(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE))

        binary = above(keep(program.memory_file(found.content)))
        ours, theirs = protocol.pair()
        opened.enter_context(theirs)
        null, notebook = keep(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)), keep(os.pidfd_open(os.getpid()))
        status = keep(os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC))
        files = (theirs.fileno(), notebook, status, *namespaces, store, keep(os.pidfd_open(launcher)))
        moved = [above(fd) for fd in (null, null, errors, *files)]
        try:
            pid = os.posix_spawn(
                f"/proc/self/fd/{binary}",
                ["nbcontainer"],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(moved)],
                setsid=True,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
        except BaseException:
            ours.close()
            raise
    server = HelperServer(ours, pid, found.path)
    if not _began(ours):
        server.close()
        raise OSError("it cannot enter the namespaces of the launcher")
    return server


def _began(control: socket.socket) -> bool:
    """Return whether the server reports that it can take orders; False if it has ended."""
    packet, files = receive(control)
    protocol.close(files)
    return packet != b"" and operations.read_answer(packet) == (0, 0)


def send(channel: socket.socket, packet: bytes, files: Sequence[int] = ()) -> None:
    """Send a batch to an init, with copies of `files`; one that is too long as a memory file. Raises `OSError`."""
    if len(packet) <= protocol.PACKET_LIMIT:
        _send(channel, packet, files)
        return
    spilled = protocol.memory_file("batch", packet)
    try:
        _send(channel, _SPILLED, (*files, spilled))
    finally:
        protocol.close((spilled,))


def _send_late(files: Sequence[int], packet: bytes) -> None:
    """Send an init, by its pidfd and its channel, its first batch. Raises `OSError`, and closes both then.

    One that has died is ignored: the next read of its channel shows that.
    """
    channel = socket.socket(fileno=files[1])
    try:
        send(channel, packet)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except BaseException:
        channel.detach()
        protocol.close(files)
        raise
    channel.detach()


def _send(channel: socket.socket, packet: bytes, files: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    channel.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return a packet with its descriptors, which the caller closes; an empty one at the end.

    Raises `OSError`, with EMFILE if this process has too many descriptors.
    """
    size = operations.OUTPUT_LIMIT + 64
    try:
        packet, ancillary, flags, _ = channel.recvmsg(size, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # raised once if the peer died with an unread message of ours
        packet, ancillary, flags, _ = channel.recvmsg(size, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    received = array.array("i")
    for _, _, payload in ancillary:
        received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    if flags & _CUT_OFF:
        protocol.close(received)
        if flags & socket.MSG_CTRUNC and len(received) < _FILES:  # there was room for more (recvmsg(2))
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise OSError("a message was cut off")
    return packet, list(received)
