"""The files of a layer that a cell left. The cell made them: only directories are opened, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST = 1000  # entries that are read of a layer
_DEPTH = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STRAIGHT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_ORIGIN = ("user.overlay.origin", "trusted.overlay.origin")


@dataclass(frozen=True)
class LayerFiles:
    """Paths (container, absolute) of the files that a cell wrote, and of new directories.

    `count` is the number of files; `more` is whether the layer has more than were read.
    """

    files: frozenset[str]
    directories: frozenset[str]
    more: bool = False

    @property
    def count(self) -> int:
        """The number of files, without directories and deletions."""
        return len(self.files)

    def have(self, word: str) -> bool:
        """Return whether a word of a script names one: by its path, or by the end of it."""
        if word.startswith("/"):
            path = posixpath.normpath(word)
            return path in self.files or path in self.directories
        tail = "/" + posixpath.normpath(word)
        return any(path.endswith(tail) for path in self.files)


@dataclass(frozen=True)
class LayerTree:
    """The tree of a layer at `top`, on the trees `below` (host); None if this machine is below, as in `host`."""

    top: Path
    below: tuple[Path, ...] | None

    def files(self) -> LayerFiles:
        """Return the files of the layer. Directories that cannot be read are left out."""
        files: list[str] = []
        directories: list[str] = []
        more = False
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for number, found in enumerate(_walk(self._open(stack), 0)):
                if number >= _MOST:
                    more = True
                    break
                if found.new_directory:
                    directories.append(found.path)
                elif found.file:
                    files.append(found.path)
        return LayerFiles(frozenset(files), frozenset(directories), more)

    def is_new_directory(self, path: str) -> bool:
        """Return whether a container path is a directory of the layer that nothing below it has."""
        with contextlib.ExitStack() as stack:
            try:
                folder = self._open(stack)
                for name in filter(None, posixpath.normpath(path).split("/")):
                    folder = folder.enter(name, stack)
            except OSError:
                return False
            return folder.new

    def _open(self, stack: contextlib.ExitStack) -> _Folder:
        fd = os.open(self.top, _FOLDER & ~os.O_NOFOLLOW)  # of a store in memory, `top` is the store's own link
        stack.callback(os.close, fd)
        return _Folder(fd, "", self.below)


@dataclass(frozen=True)
class _Folder:
    """An open directory of a layer: its path, and whether it was there before (`copied`) or is `new`."""

    fd: int
    path: str
    below: tuple[Path, ...] | None
    copied: bool = False
    new: bool = False

    def enter(self, name: str, stack: contextlib.ExitStack) -> _Folder:
        """Open a directory in it, which `stack` closes. Raises `OSError`, for a link too.

        Overlay gives a directory that it copied up an attribute with its origin, if the file system below has handles
        (overlayfs.rst).
        """
        fd = os.open(name, _FOLDER, dir_fd=self.fd)
        stack.callback(os.close, fd)
        path = f"{self.path}/{name}"
        copied = _has_origin(fd)
        new = not copied and (self.new or self.copied or self._is_not_below(path))
        return _Folder(fd, path, self.below, copied, new)

    def _is_not_below(self, path: str) -> bool:
        return self.below is not None and not any(_is_there(tree, path) for tree in self.below)


class _Found(NamedTuple):
    """An entry of a layer: a file, a directory that nothing below has, or neither."""

    path: str
    file: bool = False
    new_directory: bool = False


def _walk(folder: _Folder, depth: int) -> Iterator[_Found]:
    """Yield each entry below a directory."""
    with contextlib.suppress(OSError), os.scandir(folder.fd) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield _Found(f"{folder.path}/{entry.name}", file=not _is_deletion(entry))
            elif depth < _DEPTH:
                with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                    below = folder.enter(entry.name, stack)
                    yield _Found(below.path, new_directory=below.new)
                    yield from _walk(below, depth + 1)


def _is_there(tree: Path, path: str) -> bool:
    """Return whether a tree (host) has an absolute container path. No link of the tree is followed."""
    with contextlib.ExitStack() as stack:
        try:
            top = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, top)
            found = openat2(top, path.lstrip("/"), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, resolve=_STRAIGHT)
            stack.callback(os.close, found)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return True


def _has_origin(fd: int) -> bool:
    for name in _ORIGIN:
        with contextlib.suppress(OSError):
            os.getxattr(fd, name)
            return True
    return False


def _is_deletion(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a whiteout: a device 0:0 (overlayfs.rst)."""
    if entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return False
    facts = entry.stat(follow_symlinks=False)
    return facts.st_rdev == 0 and (facts.st_mode & 0o170000) == 0o020000
