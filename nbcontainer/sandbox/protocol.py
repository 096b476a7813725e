"""Messages between notebook, launcher and init: one JSON object a packet on a SOCK_SEQPACKET socket, with descriptors.

A packet is atomic and has its boundaries (unix(7)). A message too long for one travels as a sealed memory file.
Everything that comes from a container's side is JSON and is only ever parsed as such.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKET_LIMIT = 1 << 16
"""Bytes of one packet; longer messages go to a memory file."""

_SPILLED = b"memory file"  # no JSON

FILES_LIMIT = 250
"""Descriptors of one message; the kernel's limit is 253 (SCM_MAX_FD, unix(7))."""

LAST_WORDS = "nbcontainer init: "
"""How a line begins that an init writes where the launcher's errors go too."""

_ANCILLARY_SIZE = socket.CMSG_SPACE(FILES_LIMIT * array.array("i").itemsize)

_json = json.JSONEncoder(separators=(",", ":"))

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets; the caller closes both."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def encode(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    return _json.encode(message).encode()


def send(channel: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Sends one message with copies of `files`. Raises `OSError` (EPIPE where nobody is left to read)."""
    data = encode(message)
    if len(data) > PACKET_LIMIT:
        spilled = memory_file("message", data)
        try:
            _send(channel, _SPILLED, (*files, spilled))
        finally:
            os.close(spilled)
    else:
        _send(channel, data, files)


def _send(channel: socket.socket, data: bytes, files: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket, files: list[int] | None = None) -> dict[str, Any] | None:
    """The next message, or None at the end. Descriptors go to `files`, for the caller to close, or are closed.

    Raises `OSError` for what `send` did not write, and with EMFILE for descriptors that this process may not have.
    """
    data, ancillary, flags = _take(channel)
    came = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            came.frombytes(payload[: len(payload) - len(payload) % came.itemsize])
    try:
        if flags & socket.MSG_CTRUNC and len(came) < FILES_LIMIT:  # there was room for more (recvmsg(2))
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise OSError("a message was cut off")
        message = _message(data, came)
    except BaseException:
        close(came)
        raise
    if files is None:
        close(came)
    else:
        files.extend(came)
    return message


def _take(channel: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
    try:
        return channel.recvmsg(PACKET_LIMIT, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)[:3]
    except ConnectionResetError:
        # Told once, where the peer died with a message of ours unread. What it had sent is still to be read.
        return channel.recvmsg(PACKET_LIMIT, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)[:3]


def _message(data: bytes, came: array.array[int]) -> dict[str, Any] | None:
    """What the bytes of a packet say. The memory file of a long one, the last to come, is taken off `came`."""
    if not data:
        return None
    if data == _SPILLED and came:
        spilled = came.pop()
        try:
            data = read_memory_file(spilled)
        finally:
            os.close(spilled)
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise OSError("a message is no JSON") from None
    if not isinstance(message, dict):
        raise OSError("a message is no JSON object")
    return message


def memory_file(name: str, data: bytes) -> int:
    """A sealed memory file (memfd_create(2)) with `data`, to be read from its start. The caller closes it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        offset = 0
        while offset < len(view):
            offset += os.pwrite(fd, view[offset:], offset)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memory_file(fd: int) -> bytes:
    """The whole content of a memory file; `fd` stays the caller's."""
    chunks = []
    offset = 0
    size = os.fstat(fd).st_size
    while offset < size:
        chunk = os.pread(fd, size - offset, offset)
        if not chunk:
            break
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def close(files: Iterable[int]) -> None:
    """Closes each descriptor; one that is closed already is none."""
    for fd in files:
        try:  # noqa: SIM105 - a dozen times on the way of every cell
            os.close(fd)
        except OSError:
            pass
