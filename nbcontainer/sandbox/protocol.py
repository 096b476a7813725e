"""Messages between notebook, launcher and init: JSON objects and descriptors in the packets of a socket.

The packets of a SOCK_SEQPACKET socket are atomic and keep their boundaries (unix(7)). A message that is too long for
one packet is sent as a sealed memory file. What comes from a container's side is parsed as JSON and in no other way.
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
"""Bytes of one packet; a longer message is sent as a memory file."""

_SPILLED = b"memory file"  # not JSON

FILES_LIMIT = 250
"""The most descriptors of one message; the kernel's limit is 253 (SCM_MAX_FD, unix(7))."""

INIT_PREFIX = "nbcontainer init: "
"""The start of an error line from init. It shares standard error with the launcher."""

_ANCILLARY_SIZE = socket.CMSG_SPACE(FILES_LIMIT * array.array("i").itemsize)

_json = json.JSONEncoder(separators=(",", ":"))

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets; the caller closes both."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def encode(message: dict[str, Any]) -> bytes:
    """Return the bytes of a message."""
    return _json.encode(message).encode()


def send(channel: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Send one message with copies of `files`. Raises `OSError` (EPIPE if the other end is closed)."""
    send_encoded(channel, encode(message), files)


def send_encoded(channel: socket.socket, data: bytes, files: Sequence[int] = ()) -> None:
    """Send what `encode` returned, as `send` does."""
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
    """Return the next message; None at the end.

    Its descriptors are added to `files`, for the caller to close; without `files` they are closed.
    Raises `OSError` for what `send` did not write, and with EMFILE if this process has too many descriptors.
    """
    data, ancillary, flags = _take(channel)
    received = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    try:
        if flags & socket.MSG_CTRUNC and len(received) < FILES_LIMIT:  # there was room for more (recvmsg(2))
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise OSError("a message was cut off")
        message = _message(data, received)
    except BaseException:
        close(received)
        raise
    if files is None:
        close(received)
    else:
        files.extend(received)
    return message


def _take(channel: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
    try:
        return channel.recvmsg(PACKET_LIMIT, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)[:3]
    except ConnectionResetError:
        # Raised once if the peer died with an unread message of ours. What it sent can still be read.
        return channel.recvmsg(PACKET_LIMIT, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)[:3]


def _message(data: bytes, received: array.array[int]) -> dict[str, Any] | None:
    """Return the message in a packet. If it is in a memory file, that is the last descriptor; it is removed here."""
    if not data:
        return None
    if data == _SPILLED and received:
        spilled = received.pop()
        try:
            data = read_memory_file(spilled)
        finally:
            os.close(spilled)
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise OSError("a message is not valid JSON") from None
    if not isinstance(message, dict):
        raise OSError("a message is not a JSON object")
    return message


def memory_file(name: str, data: bytes) -> int:
    """Return a sealed memory file (memfd_create(2)) with `data`, at offset 0. The caller closes it."""
    return fill_memory_file(empty_memory_file(name), data)


def empty_memory_file(name: str) -> int:
    """Return a memory file for `fill_memory_file`. The caller closes it."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def fill_memory_file(fd: int, data: bytes) -> int:
    """Write `data` to an empty memory file and seal it; return it, at offset 0. It is closed if that fails."""
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


def is_sealed(fd: int) -> bool:
    """Return whether a descriptor is a memory file that nothing can change (F_GET_SEALS, fcntl(2))."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # another kind of file
        return False


def read_memory_file(fd: int) -> bytes:
    """Return the whole content of a memory file. `fd` stays open."""
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
    """Close each descriptor. One that is closed already is ignored."""
    for fd in files:
        try:  # noqa: SIM105 - called a dozen times per cell, and suppress() is slower
            os.close(fd)
        except OSError:
            pass
