"""Sending a file or a directory, with all below it, as a stream (`stream`)."""

from __future__ import annotations

import os
import stat

from nbcontainer.errors import ValueUnavailable
from nbcontainer.images.single_files.stream import (
    BELOW,
    CHUNK,
    DIRECTORY,
    END,
    FOLDER,
    HEAD,
    INSIDE,
    KINDS,
    LATEST,
    LINK,
    NOT_THERE,
    PIECE,
    REGULAR,
)
from nbcontainer.linux.files import openat2

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

UNKNOWN = 16 << 20
"""The most bytes of a file that says that it has none."""


def send_path(root: int, path: str, out: int, *, follow: bool) -> int:
    """Send the file or directory at `path` below `root` to the descriptor `out`; return the number left out.

    Raises as `opened_top`.
    """
    top = opened_top(root, path, follow=follow)
    try:
        return send(top, out, what=f"{path} in the container")
    finally:
        os.close(top)


def opened_top(root: int, path: str, *, follow: bool) -> int:
    """Return a descriptor of what is at `path` below `root`, which the caller closes; O_PATH for a link or a device.

    Links on the way stay below `root`, and the last name is followed if it is a link and `follow` is true. Raises
    `ValueUnavailable` if there is no such file, and `OSError`.
    """
    only = 0 if follow else os.O_NOFOLLOW
    try:
        top = openat2(root, path, os.O_PATH | os.O_CLOEXEC | only, resolve=INSIDE)
        if stat.S_IFMT(os.fstat(top).st_mode) in (stat.S_IFREG, stat.S_IFDIR):  # a pipe or a device is not opened
            os.close(top)
            top = openat2(root, path, _READ & ~os.O_NOFOLLOW | only, resolve=INSIDE)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        raise ValueUnavailable(f"no such file in the container: {path}", hint="check the path") from None
    return top


def opened_folder(root: int, path: str) -> int:
    """Return a descriptor of the directory at `path` below `root`, which the caller closes; links stay below `root`.

    Raises `ValueUnavailable` if there is none, and `OSError`.
    """
    try:
        return openat2(root, path, FOLDER, resolve=INSIDE)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        raise ValueUnavailable(f"no such directory in the container: {path}", hint="make it in a cell") from None


def send(top: int, out: int, *, what: str) -> int:
    """Send what the descriptor `top` leads to, and all below it; return the number of special files left out.

    That of a link is O_PATH.

    Raises `ValueUnavailable` if it is a special file itself, `OSError`.
    """
    kind = KINDS.get(stat.S_IFMT(os.fstat(top).st_mode))
    if kind is None:
        hint = "copy regular files, directories and links"
        raise ValueUnavailable(f"cannot copy {what}: it is a pipe, a socket or a device", hint=hint)
    sender = _Sender(top, out)
    sender.all_of(kind)
    return sender.special


class _Sender:
    def __init__(self, top: int, out: int) -> None:
        self._top = top
        self._out = out
        self.special = 0

    def all_of(self, kind: bytes) -> None:
        """Send the top, all below it, and the end."""
        if kind == LINK:
            self._head(LINK, os.fstat(self._top), b"", os.readlink(b"", dir_fd=self._top))
        elif kind == REGULAR:
            self._file(os.dup(self._top), b"")
        else:
            waiting = [b""]
            while waiting:
                waiting += self._directory(waiting.pop())
        self._write(HEAD.pack(END, 0, 0, 0, 0))

    def _directory(self, path: bytes) -> list[bytes]:
        """Send a directory and the files in it; return the paths of the directories in it, the last one first."""
        fd = openat2(self._top, path or b".", FOLDER, resolve=BELOW)
        try:
            self._head(DIRECTORY, os.fstat(fd), path)
            below = []
            for name in sorted(os.fsencode(name) for name in os.listdir(fd)):  # noqa: PTH208 - of a descriptor
                if self._entry(fd, name, inner := path + b"/" + name if path else name):
                    below.append(inner)
            return below[::-1]
        finally:
            os.close(fd)

    def _entry(self, folder: int, name: bytes, path: bytes) -> bool:
        """Send a file or a link; return whether the entry is a directory. What has just been removed is left out."""
        try:
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = KINDS.get(stat.S_IFMT(facts.st_mode))
            if kind == LINK:
                self._head(LINK, facts, path, os.readlink(name, dir_fd=folder))
            elif kind == REGULAR:
                self._file(os.open(name, _READ, dir_fd=folder), path)
            elif kind is None:
                self.special += 1
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            return False
        return kind == DIRECTORY

    def _file(self, fd: int, path: bytes) -> None:
        """Send a file and close it: as many bytes as it has now, since it may grow faster than it is read.

        Files of proc(5) and sysfs say that they have none: of an empty one, up to UNKNOWN bytes are read. Raises
        `ValueUnavailable` if there are more.
        """
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):  # it was replaced meanwhile
                return
            self._head(REGULAR, facts, path)
            left = facts.st_size or UNKNOWN
            while data := os.read(fd, min(CHUNK, left)):
                self._write(PIECE.pack(len(data)) + data)
                left -= len(data)
            if not facts.st_size and not left and os.read(fd, 1):
                problem = f"a file that says that it is empty has more than {UNKNOWN >> 20} MiB"
                raise ValueUnavailable(problem, hint="copy it to another file first")
            self._write(PIECE.pack(0))
        finally:
            os.close(fd)

    def _head(self, kind: bytes, facts: os.stat_result, path: bytes, link: bytes = b"") -> None:
        mode = stat.S_IMODE(facts.st_mode)
        time = max(-LATEST, min(facts.st_mtime_ns, LATEST))
        self._write(HEAD.pack(kind, mode, time, len(path), len(link)) + path + link)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]
