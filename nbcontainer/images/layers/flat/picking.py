"""Making a layer that gives a tree some paths of another tree: by hard links, so nothing is copied.

Both trees are layers (overlay upper directories), the topmost first. No link is followed: each step of a path is one
name in an open directory. Source: the kernel's overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerError
from nbcontainer.images.layers.flat.flattening import fill, found_in, make_opaque
from nbcontainer.images.layers.flat.links import Entry, Links, set_metadata
from nbcontainer.images.layers.limits import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.layers.flat.flattening import Found

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Folders = dict[int, int]
"""Descriptors of one directory in those layers that have it, by the layers' numbers, the topmost first."""


def pick(sources: Sequence[int], current: Sequence[int], target: int, paths: Sequence[bytes]) -> list[bytes]:
    """Fill the empty directory `target` so that, above `current`, each of `paths` is as in `sources`.

    All are descriptors, on one file system. `paths` are relative, and none is below another one. Owners, attributes and
    times are kept; a directory above a path is as in `current`, with a new time. A path that `sources` lack becomes a
    whiteout. Return the paths that are in neither tree. Raises `ContainerError`, `OSError`.
    """
    return _Picking(sources, current, target).run(paths)


class _Picking:
    def __init__(self, sources: Sequence[int], current: Sequence[int], target: int) -> None:
        self._sources = sources
        self._current = current
        self._target = target
        self._links = Links(target)
        self._above: dict[bytes, tuple[int, bool]] = {}

    def run(self, paths: Sequence[bytes]) -> list[bytes]:
        with contextlib.ExitStack() as models:
            self._above[b""] = (_kept(models, self._current[0]), False)
            missing = [path for path in paths if not self._pick(models, path)]
            self._finish()
        return missing

    def _pick(self, models: contextlib.ExitStack, path: bytes) -> bool:
        """Make one path; return False if it is in neither tree."""
        above, _, name = path.rpartition(b"/")
        with contextlib.ExitStack() as stack:
            way = _Way(stack, dict(enumerate(self._sources)), dict(enumerate(self._current)))
            if not all(way.step(part) for part in filter(None, above.split(b"/"))):
                return False
            there, here = found_in(way.old, name), found_in(way.now, name)
            if there is None and here is None:
                return False
            folder = self._directory(stack, models, way.walked)
            self._above[above] = (self._above[above][0], True)
            self._make(path, name, there, way.old, folder)
        return True

    def _directory(
        self, stack: contextlib.ExitStack, models: contextlib.ExitStack, walked: Sequence[tuple[bytes, int]]
    ) -> int:
        """Return a descriptor of the directory above a path in the new layer, which is made with those above it."""
        folder = self._target
        for way, model in walked:
            name = way.rpartition(b"/")[2]
            if way not in self._above:
                os.mkdir(name, 0o700, dir_fd=folder)
                self._above[way] = (_kept(models, model), False)
            folder = os.open(name, _LIST, dir_fd=folder)
            stack.callback(os.close, folder)
        return folder

    def _make(self, path: bytes, name: bytes, there: Found | None, old: Folders, folder: int) -> None:
        if there is None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)  # a whiteout; any user may make one (Linux 5.8)
        elif there.layers:
            os.mkdir(name, 0o700, dir_fd=folder)
            fill(self._links, self._sources, self._target, (path, there.layers, True))
            make_opaque(folder, name)
        else:
            self._links.add(Entry(old[there.layer], name), there.facts, Entry(folder, name), path)

    def _finish(self) -> None:
        """Give the directories above paths the metadata of their models: the innermost first."""
        for way in sorted(self._above, reverse=True):
            model, changed = self._above[way]
            fd = os.open(way or b".", _LIST, dir_fd=self._target)
            try:
                set_metadata(model, os.fstat(model), fd)
                if changed:
                    os.utime(fd)
            finally:
                os.close(fd)


class _Way:
    """A walk into a directory of both trees. `walked` has each path on the way, and a descriptor of its directory."""

    def __init__(self, stack: contextlib.ExitStack, old: Folders, now: Folders) -> None:
        self.old, self.now = old, now
        self.walked: list[tuple[bytes, int]] = []
        self._stack = stack
        self._level = stack.enter_context(contextlib.ExitStack())

    def step(self, name: bytes) -> bool:
        """Go into a directory; return False if neither tree has it. Raises `ContainerError`, `OSError`."""
        path = self.walked[-1][0] + b"/" + name if self.walked else name
        there, here = found_in(self.old, name), found_in(self.now, name)
        _check_step(path, there, here)
        level = self._stack.enter_context(contextlib.ExitStack())
        self.old, self.now = _inside(level, self.old, name, there), _inside(level, self.now, name, here)
        self._level.close()  # a container can have hundreds of layers, and a path many parts
        self._level = level
        if not (self.old or self.now):
            return False
        self.walked.append((path, _kept(self._stack, next(iter((self.now or self.old).values())))))
        return True


def _kept(stack: contextlib.ExitStack, folder: int) -> int:
    """Return another descriptor of a directory, closed with `stack`."""
    fd = os.dup(folder)
    stack.callback(os.close, fd)
    return fd


def _inside(stack: contextlib.ExitStack, folders: Folders, name: bytes, found: Found | None) -> Folders:
    """Return the directory `name` in the layers that are merged there; nothing if it is not a directory."""
    opened = {}
    for layer in found.layers if found is not None else ():
        opened[layer] = os.open(name, _LIST, dir_fd=folders[layer])
        stack.callback(os.close, opened[layer])
    return opened


def _check_step(way: bytes, there: Found | None, here: Found | None) -> None:
    """Raise `ContainerError` if a directory above a path is a link, or something else in the present tree."""
    where = shown(b"/" + way)
    if any(found is not None and stat.S_ISLNK(found.facts.st_mode) for found in (there, here)):
        raise ContainerError(f"cannot restore below {where}: it is a link", hint="name the path that it leads to")
    if here is not None and not here.layers and there is not None and there.layers:
        raise ContainerError(f"cannot restore below {where}: it is not a directory now", hint=f"restore {where} itself")
