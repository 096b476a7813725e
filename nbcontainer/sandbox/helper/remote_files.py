"""The calls of init about files and descriptors, with the names and arguments of `Kernel`."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Any

from nbcontainer.linux import files
from nbcontainer.linux.mounts import AT_EMPTY_PATH, AT_FDCWD
from nbcontainer.sandbox.helper.operations import Block, Flag, Kind, Operation, Outcome
from nbcontainer.sandbox.helper.remote_calls import STATX_SIZE, Facts, RemoteCalls, block_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_SYMLINK_NOFOLLOW = 0x100
_BASIC_STATS = 0x7FF
_CHUNK = 1 << 14  # bytes of one read, as in `linux.files`
_TEXT_LIMIT = 1 << 20
_LISTING = 1 << 15
_DIRECTORY_ENTRY = struct.Struct("=QqHB")  # struct linux_dirent64


class RemoteFiles(RemoteCalls):
    """Calls about files. See `Kernel` for each."""

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = AT_FDCWD if dir_fd is None else dir_fd
        return self._descriptor("openat", place, block_of(path), flags, mode, path=path)

    def openat2(self, dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
        how = Block(struct.pack("=3Q", flags, mode, resolve))
        return self._descriptor("openat2", dirfd, block_of(path), how, 24, path=path, told="openat2")

    def close(self, fd: int) -> None:
        self._call("close", fd)
        if not self._stopped:
            self._mark(self.state.open & ~(1 << fd))
            self._origins.pop(fd, None)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._call("mkdirat", AT_FDCWD if dir_fd is None else dir_fd, block_of(path), mode, path=path)

    def mkfifo(self, path: str, mode: int = 0o666) -> None:
        self._call("mknodat", AT_FDCWD, block_of(path), mode | stat.S_IFIFO, 0, path=path)

    def symlink(self, target: str, path: str) -> None:
        self._call("symlinkat", block_of(target), AT_FDCWD, block_of(path), path=target)

    def chmod(self, path: str, mode: int) -> None:
        self._call("fchmodat", AT_FDCWD, block_of(path), mode, path=path)

    def fchmod(self, fd: int, mode: int) -> None:
        self._call("fchmod", fd, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._call("fchownat", AT_FDCWD, block_of(path), uid, gid, 0, path=path)

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        self._call("fchown", fd, uid, gid)

    def chdir(self, path: str) -> None:
        self._call("chdir", block_of(path), path=path)

    def fchdir(self, fd: int) -> None:
        self._call("fchdir", fd)

    def umask(self, mask: int) -> int:
        operation = Operation(Kind.CALL, flags=Flag.ANY_RESULT)
        return self._call("umask", mask, operation=operation).result

    def write(self, fd: int, data: bytes) -> int:
        return self._call("write", fd, Block(data), len(data), likely=Outcome(len(data))).result

    def sendfile(self, out: int, source: int, offset: int | None, count: int) -> int:
        """Copy; without `offset` from where the file is.

        The size of a travelling file is then in no operation, so that those for files of all sizes are the same: all of
        it is taken to be copied, and the next call, which finds nothing more, shows if it was not.
        """
        origin = self._origins.get(source)
        if offset is not None:
            likely = None if origin is None else Outcome(max(0, min(count, origin.size - offset)))
            return self._call("sendfile", out, source, Block(struct.pack("=q", offset)), count, likely=likely).result
        if origin is None or origin.size == 0:
            return self._call("sendfile", out, source, None, count).result
        self._origins[source] = origin._replace(size=0)
        first = Operation(Kind.CALL, flags=Flag.ANY_RESULT)
        return self._call("sendfile", out, source, None, count, operation=first, likely=Outcome(origin.size)).result

    def dup2(self, fd: int, other: int) -> int:
        self._call("dup3", fd, other, 0, likely=Outcome(other))
        if fd in self._origins:
            self._origins[other] = self._origins[fd]
        else:
            self._origins.pop(other, None)
        return other

    def fstat(self, fd: int) -> Any:
        origin = self._origins.get(fd)
        likely = None
        if origin is not None:
            likely = Outcome(0, origin.as_statx())
        return self._facts(fd, "", AT_EMPTY_PATH, None, likely)

    def stat(self, path: str, *, follow_symlinks: bool = True) -> Any:
        return self._facts(AT_FDCWD, path, 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW, path, None)

    def _facts(self, place: int, path: str, flags: int, filename: str | None, likely: Outcome | None) -> Facts:
        operation = Operation(Kind.CALL, output=4, output_size=STATX_SIZE)
        before = len(self.operations)
        words = (place, block_of(path), flags, _BASIC_STATS, 0)
        outcome = self._call("statx", *words, operation=operation, likely=likely, path=filename)
        return Facts(outcome.output, operation if len(self.operations) > before else None)

    def readlink(self, path: str) -> str:
        words = (AT_FDCWD, block_of(path), 0, 4096)
        return os.fsdecode(self._output("readlinkat", *words, output=2, size=4096, path=path).output)

    def read_text(self, path: str) -> str:
        """Return the text of a small file, as `linux.files.read_text` does."""
        try:
            fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            text = b""
            while len(text) < _TEXT_LIMIT and (more := self._read(fd)):
                text += more
            return text.decode("utf-8", "replace")
        except OSError:
            return ""
        finally:
            self.close(fd)

    def _read(self, fd: int) -> bytes:
        return self._output("read", fd, 0, _CHUNK, output=1, size=_CHUNK).output

    def listdir(self, path: str) -> list[str]:
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found: list[str] = []
            while more := self._entries(fd):
                found += more
            return [name for name in found if name not in (".", "..")]
        finally:
            self.close(fd)

    def _entries(self, fd: int) -> list[str]:
        """Return the names that one getdents64(2) writes. Init compares them, and no numbers of files."""
        operation = Operation(Kind.CALL, flags=Flag.BY_RESULT, output=1, output_size=_LISTING)
        outcome = self._call("getdents64", fd, 0, _LISTING, operation=operation, likely=None)
        names = list(_names(outcome.output))
        operation.looked = {(place, len(name) + 1) for place, name in names}
        return [os.fsdecode(name) for _, name in names]

    def ioctl(self, fd: int, request: int, argument: int | bytes = 0) -> Any:
        if isinstance(argument, int):
            if request == files.TIOCGPTPEER:
                return self._descriptor("ioctl", fd, request, argument)
            return self._call("ioctl", fd, request, argument).result
        return self.preloaded("ioctl", fd, request, argument, likely=Outcome(0, argument))

    def preloaded(self, name: str, fd: int, request: int, argument: bytes, likely: Outcome) -> bytes:
        size = len(argument)
        operation = Operation(
            Kind.CALL, flags=Flag.PRELOADED, output=2, output_size=size, preload=argument, looked={(0, size)}
        )
        return self._call(name, fd, request, 0, operation=operation, likely=likely).output

    def fcntl(self, fd: int, command: int, argument: int = 0) -> int:
        return self._call("fcntl", fd, command, argument).result


def _names(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the place and the name of each entry that getdents64(2) has written."""
    place = 0
    while place + _DIRECTORY_ENTRY.size < len(raw):
        size = _DIRECTORY_ENTRY.unpack_from(raw, place)[2]
        yield place + _DIRECTORY_ENTRY.size, raw[place + _DIRECTORY_ENTRY.size : place + size].partition(b"\0")[0]
        place += max(size, _DIRECTORY_ENTRY.size)
