"""Files and directories as a stream between two trees: one side sends, and the other one trusts nothing of it.

Both sides hold descriptors of directories and follow no link below them (openat2(2)). The side of a container runs with
the container's tree as its root, and nothing is imported there later. The stream has, for each entry, a head, a path,
the target of a link, and pieces of content with their lengths.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ValueUnavailable
from nbcontainer.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct("<cIqHH")  # kind, mode, time of modification in ns, bytes of the path, bytes of a link's target
_PIECE = struct.Struct("<I")
_CHUNK = 1 << 16
DIRECTORY, REGULAR, LINK, END = b"d", b"f", b"l", b"e"
_KINDS = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: REGULAR, stat.S_IFLNK: LINK}

TOO_EARLY = "the copy ended too early"
"""The problem if the other side has stopped, for a reason that it reports itself."""

_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class Counts:
    """The number of `files` copied, and of those left out: `special` ones, and `links` that lead out of the copy."""

    files: int = 0
    special: int = 0
    links: int = 0


# Sending


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
        top = openat2(root, path, os.O_PATH | os.O_CLOEXEC | only, resolve=_INSIDE)
        if stat.S_IFMT(os.fstat(top).st_mode) in (stat.S_IFREG, stat.S_IFDIR):  # a pipe or a device is not opened
            os.close(top)
            top = openat2(root, path, _READ & ~os.O_NOFOLLOW | only, resolve=_INSIDE)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise ValueUnavailable(f"no such file in the container: {path}", hint="check the path") from None
    return top


def opened_folder(root: int, path: str) -> int:
    """Return a descriptor of the directory at `path` below `root`, which the caller closes; links stay below `root`.

    Raises `ValueUnavailable` if there is none, and `OSError`.
    """
    try:
        return openat2(root, path, _FOLDER, resolve=_INSIDE)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise ValueUnavailable(f"no such directory in the container: {path}", hint="make it in a cell") from None


def send(top: int, out: int, *, what: str) -> int:
    """Send what the descriptor `top` leads to, and all below it; return the number of special files left out.

    That of a link is O_PATH.

    Raises `ValueUnavailable` if it is a special file itself, `OSError`.
    """
    kind = _KINDS.get(stat.S_IFMT(os.fstat(top).st_mode))
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
        self._write(_HEAD.pack(END, 0, 0, 0, 0))

    def _directory(self, path: bytes) -> list[bytes]:
        """Send a directory and the files in it; return the paths of the directories in it, the last one first."""
        fd = openat2(self._top, path or b".", _FOLDER, resolve=_BELOW)
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
            kind = _KINDS.get(stat.S_IFMT(facts.st_mode))
            if kind == LINK:
                self._head(LINK, facts, path, os.readlink(name, dir_fd=folder))
            elif kind == REGULAR:
                self._file(os.open(name, _READ, dir_fd=folder), path)
            elif kind is None:
                self.special += 1
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            return False
        return kind == DIRECTORY

    def _file(self, fd: int, path: bytes) -> None:
        """Send a file, as long as it is when it is read, and close it."""
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):  # it was replaced meanwhile
                return
            self._head(REGULAR, facts, path)
            while data := os.read(fd, _CHUNK):
                self._write(_PIECE.pack(len(data)) + data)
            self._write(_PIECE.pack(0))
        finally:
            os.close(fd)

    def _head(self, kind: bytes, facts: os.stat_result, path: bytes, link: bytes = b"") -> None:
        mode = stat.S_IMODE(facts.st_mode)
        self._write(_HEAD.pack(kind, mode, facts.st_mtime_ns, len(path), len(link)) + path + link)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]


# Receiving


@dataclass(frozen=True)
class Entry:
    """One entry of a stream. `path` is relative to the top, which has an empty one."""

    kind: bytes
    mode: int
    mtime: int
    path: bytes
    link: bytes = b""


@dataclass(frozen=True)
class Target:
    """Where a stream goes: `name` in the directory open at `folder`.

    With `content`, the top must be a directory, and what is in it goes to `folder` itself. With `guarded`, the files
    become those of the host's user: no link is made that leads out of the copy, and no setuid or setgid bit.
    """

    folder: int
    name: bytes
    content: bool = False
    guarded: bool = True


def receive(source: int, target: Target) -> Counts:
    """Write a stream's files to a target; a new directory is there whole or not at all. No link is followed.

    Raises `ValueUnavailable` for a stream that breaks the rules or ends too early, and for a file in the place of a
    directory or the other way round, and `OSError`.
    """
    receiver = _Receiver(source, target)
    try:
        return receiver.all_of()
    finally:
        receiver.close()


class _Receiver:
    def __init__(self, source: int, target: Target) -> None:
        self._source = source
        self._target = target
        self._base = -1
        self._new: bytes = b""
        self._late: list[tuple[bytes, Entry]] = []
        self._files = self._links = 0

    def close(self) -> None:
        """Close the directory that is written to, and remove a new one that is not whole."""
        if self._base >= 0:
            os.close(self._base)
        if self._new:
            _remove_tree(self._target.folder, self._new)

    def all_of(self) -> Counts:
        """Write everything up to the end of the stream."""
        top = self._next()
        if top.kind == END or top.path:
            raise _damaged()
        if top.kind != DIRECTORY:
            self._single(top)
            return Counts(self._files, 0, self._links)
        self._open_base(top)
        while (entry := self._next()).kind != END:
            self._below(entry)
        for path, entry in reversed(self._late):
            self._finish(path, entry)
        if self._new:
            os.rename(self._new, self._target.name, src_dir_fd=self._target.folder, dst_dir_fd=self._target.folder)
            self._new = b""
        return Counts(self._files, 0, self._links)

    def _single(self, top: Entry) -> None:
        target = self._target
        if target.content:
            raise ValueUnavailable("cannot copy the content of a file", hint="leave out the /. at the end of its path")
        self._put(target.folder, target.name, top, depth=-1)
        if self._links:
            hint = "name the file that it leads to, or use -L"
            raise ValueUnavailable("cannot copy a link that leads out of the copy", hint=hint)
        if self._next().kind != END:
            raise _damaged()

    def _open_base(self, top: Entry) -> None:
        """Open the directory that the content of the top goes to: an existing one, or a new one with another name."""
        target = self._target
        if target.content:
            self._base = os.dup(target.folder)
            return
        try:
            self._base = openat2(target.folder, target.name, _FOLDER, resolve=_BELOW)
        except FileNotFoundError:
            self._new = b".nbcontainer-" + secrets.token_hex(8).encode()
            os.mkdir(self._new, 0o700, dir_fd=target.folder)
            self._base = openat2(target.folder, self._new, _FOLDER, resolve=_BELOW)
            self._late.append((b"", top))

    def _below(self, entry: Entry) -> None:
        """Write an entry below the top."""
        above, _, name = entry.path.rpartition(b"/")
        folder = openat2(self._base, above, _FOLDER, resolve=_BELOW) if above else os.dup(self._base)
        try:
            if entry.kind == DIRECTORY:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                    self._late.append((entry.path, entry))
                os.close(openat2(folder, name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_BELOW))
                self._files += 1
            else:
                self._put(folder, name, entry, depth=entry.path.count(b"/"))
        finally:
            os.close(folder)

    def _put(self, folder: int, name: bytes, entry: Entry, *, depth: int) -> None:
        """Write a file or a link, which replaces one of that name."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(name))
        if entry.kind == LINK and self._target.guarded and not leads_inside(entry.link, depth):
            self._links += 1
            return
        part = b".nbcontainer-" + secrets.token_hex(8).encode()
        try:
            if entry.kind == LINK:
                os.symlink(entry.link, part, dir_fd=folder)
            else:
                self._content(os.open(part, _NEW, 0o600, dir_fd=folder), entry)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=folder)
            raise
        self._files += 1

    def _content(self, fd: int, entry: Entry) -> None:
        try:
            for data in self._pieces():
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            os.fchmod(fd, self._mode(entry))
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _finish(self, path: bytes, entry: Entry) -> None:
        """Give a new directory its mode and its time, after all that is in it."""
        fd = openat2(self._base, path, _FOLDER, resolve=_BELOW) if path else os.dup(self._base)
        try:
            os.fchmod(fd, self._mode(entry))
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _mode(self, entry: Entry) -> int:
        return entry.mode & (0o777 if self._target.guarded else 0o7777)

    # The stream

    def _next(self) -> Entry:
        kind, mode, mtime, path, link = _HEAD.unpack(self._read(_HEAD.size))
        entry = Entry(kind, mode, mtime, self._read(path), self._read(link))
        names = entry.path.split(b"/") if entry.path else []
        wrong = any(name in (b"", b".", b"..") or b"\0" in name for name in names)
        if kind not in (DIRECTORY, REGULAR, LINK, END) or wrong or b"\0" in entry.link or mode > 0o7777:
            raise _damaged()
        if kind == LINK and not entry.link:
            raise _damaged()
        return entry

    def _pieces(self) -> Iterator[bytes]:
        while length := _PIECE.unpack(self._read(_PIECE.size))[0]:
            if length > _CHUNK:
                raise _damaged()
            yield self._read(length)

    def _read(self, number: int) -> bytes:
        parts = []
        while number and (data := os.read(self._source, number)):
            parts.append(data)
            number -= len(data)
        if number:
            raise ValueUnavailable(TOO_EARLY, hint="copy it again")
        return b"".join(parts)


def leads_inside(link: bytes, depth: int) -> bool:
    """Return whether a link stays in a copy, `depth` directories below its top; whatever other links are there.

    It may go up by as many directories as are above it, and then down: a later `..` could leave by another link.
    """
    names = [name for name in link.split(b"/") if name not in (b"", b".")]
    up = next((number for number, name in enumerate(names) if name != b".."), len(names))
    return not link.startswith(b"/") and up <= depth and b".." not in names[up:]


def _damaged() -> ValueUnavailable:
    return ValueUnavailable("the copy does not have the form of one", hint="copy it again")


def _remove_tree(folder: int, name: bytes) -> None:
    """Remove a directory that this process has made, by descriptors: a link in it is removed and not followed."""
    with contextlib.suppress(OSError):
        fd = openat2(folder, name, _FOLDER, resolve=_BELOW)
        try:
            for inner in os.listdir(fd):  # noqa: PTH208 - of a descriptor
                raw = os.fsencode(inner)
                try:
                    os.unlink(raw, dir_fd=fd)
                except IsADirectoryError:
                    _remove_tree(fd, raw)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=folder)


def target_in(root: int, path: str, name: str, *, content: bool) -> Target:
    """Return the target of a stream at `path` below `root`, in whose tree links stay; the caller closes its folder.

    In a directory at `path`, the stream gets `name`, or with `content` goes into it. Without one, it gets the last
    name of the path, whose directory must exist. Raises `ValueUnavailable`.
    """
    try:
        return Target(openat2(root, path, _FOLDER, resolve=_INSIDE), os.fsencode(name), content, guarded=False)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    above, _, last = path.rpartition("/")
    if not last or last in (".", ".."):
        raise ValueUnavailable(f"no such directory in the container: {path}", hint="make it in a cell") from None
    try:
        folder = openat2(root, above or "/", _FOLDER, resolve=_INSIDE)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise ValueUnavailable(f"no such directory in the container: {above}", hint="make it in a cell") from None
    return Target(folder, os.fsencode(last), guarded=False)
