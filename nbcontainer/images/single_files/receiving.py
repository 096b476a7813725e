"""Receiving a stream (`stream`): its files are written to a directory, and nothing in it is trusted."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ValueUnavailable
from nbcontainer.images.layers.tree import remove_below
from nbcontainer.images.single_files.stream import (
    BELOW,
    CHUNK,
    DIRECTORY,
    END,
    FOLDER,
    HEAD,
    INSIDE,
    LINK,
    NOT_THERE,
    PIECE,
    REGULAR,
)
from nbcontainer.linux.files import openat2

if TYPE_CHECKING:
    from collections.abc import Iterator

TOO_EARLY = "the copy ended too early"
"""The problem if the other side has stopped, for a reason that it reports itself."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Counts:
    """The number of `files` copied, and of those left out: `special` ones, and `links` that lead out of the copy."""

    files: int = 0
    special: int = 0
    links: int = 0


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
    become those of the host's user: no link is made that leads out of the copy, and no setuid or setgid bit. More than
    `most` bytes of content are `TooLarge`. With `only_directory`, which a slash at the end of the user's path means, no
    file gets this name.
    """

    folder: int
    name: bytes
    content: bool = False
    guarded: bool = True
    most: int | None = None
    only_directory: bool = False


class TooLarge(ValueUnavailable):
    """The files of a stream have more bytes together than its target takes."""


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
        self._files = self._links = self._bytes = 0

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
        if target.only_directory:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(target.name))
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
            self._base = openat2(target.folder, target.name, FOLDER, resolve=BELOW)
        except FileNotFoundError:
            self._new = b".nbcontainer-" + secrets.token_hex(8).encode()
            os.mkdir(self._new, 0o700, dir_fd=target.folder)
            self._base = openat2(target.folder, self._new, FOLDER, resolve=BELOW)
            self._late.append((b"", top))

    def _below(self, entry: Entry) -> None:
        """Write an entry below the top."""
        above, _, name = entry.path.rpartition(b"/")
        folder = openat2(self._base, above, FOLDER, resolve=BELOW) if above else os.dup(self._base)
        try:
            if entry.kind == DIRECTORY:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                    self._late.append((entry.path, entry))
                os.close(openat2(folder, name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve=BELOW))
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
        fd = openat2(self._base, path, FOLDER, resolve=BELOW) if path else os.dup(self._base)
        try:
            os.fchmod(fd, self._mode(entry))
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _mode(self, entry: Entry) -> int:
        return entry.mode & (0o777 if self._target.guarded else 0o7777)

    # The stream

    def _next(self) -> Entry:
        kind, mode, mtime, path, link = HEAD.unpack(self._read(HEAD.size))
        entry = Entry(kind, mode, mtime, self._read(path), self._read(link))
        names = entry.path.split(b"/") if entry.path else []
        wrong = any(name in (b"", b".", b"..") or b"\0" in name for name in names)
        if kind not in (DIRECTORY, REGULAR, LINK, END) or wrong or b"\0" in entry.link or mode > 0o7777:
            raise _damaged()
        if kind == LINK and not entry.link:
            raise _damaged()
        return entry

    def _pieces(self) -> Iterator[bytes]:
        while length := PIECE.unpack(self._read(PIECE.size))[0]:
            if length > CHUNK:
                raise _damaged()
            self._bytes += length
            if self._target.most is not None and self._bytes > self._target.most:
                raise TooLarge(f"the copy has more than {self._target.most} bytes", hint="use a volume")
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
    return ValueUnavailable("the copy is damaged", hint="copy it again")


def _remove_tree(folder: int, name: bytes) -> None:
    """Remove a directory that this process has made, of any depth; a link in it is removed and not followed."""
    with contextlib.suppress(OSError):
        fd = openat2(folder, name, FOLDER, resolve=BELOW)
        try:
            remove_below(fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=folder)


def target_in(root: int, path: str, name: str, *, content: bool) -> Target:
    """Return the target of a stream at `path` below `root`, in whose tree links stay; the caller closes its folder.

    In a directory at `path`, the stream gets `name`, or with `content` goes into it. Without one, it gets the last
    name of the path, whose directory must exist. Raises `ValueUnavailable`.
    """
    try:
        return Target(openat2(root, path, FOLDER, resolve=INSIDE), os.fsencode(name), content, guarded=False)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
    above, _, last = path.rstrip("/").rpartition("/")
    if not last or last in (".", ".."):
        raise ValueUnavailable(f"no such directory in the container: {path}", hint="make it in a cell") from None
    try:
        folder = openat2(root, above or "/", FOLDER, resolve=INSIDE)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        raise ValueUnavailable(f"no such directory in the container: {above}", hint="make it in a cell") from None
    return Target(folder, os.fsencode(last), guarded=False, only_directory=path.endswith("/"))
