"""A directory tree below one descriptor: no name leads out of it, and the kernel follows no link.

Every step is one openat(2) with O_NOFOLLOW below the last. Symbolic links among the parents are read and resolved here,
with the descriptor as "/"; `..` in them goes back along the path so far. So no symbolic link leads outside, with any
target and at any time, and none of this needs the mounts or the privileges of a container.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers.limits import Limits, shown
from nbcontainer.images.layers.whiteouts import WHITEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_MAX = 40  # as the kernel's MAXSYMLINKS
_STEPS_MAX = 10_000  # directories opened on the way to one name: what links can make of it
_CACHED = 64
_STRIDE = 16  # directories opened at one look-up to be kept: few enough that those of the last look-ups stay
_NO_NAMES = frozenset({b"", b".", b".."})


class Place(NamedTuple):
    """The location of an entry: a name in an open directory.

    `directory` is an O_PATH descriptor that the tree owns; it is valid for the next few look-ups and until `remove`.
    `above` is the true path of that directory below the root, all links resolved.
    """

    directory: int
    name: bytes
    above: bytes

    @property
    def path(self) -> bytes:
        """The entry's true path below the root."""
        return join(self.above, self.name)


def join(head: bytes, name: bytes) -> bytes:
    """`head/name`, or `name` at the root."""
    return head + b"/" + name if head else name


class Tree:
    """The tree below `root_fd`, which the caller closes.

    `made(path)` is called for each missing parent that was made. No other process should change the tree meanwhile:
    that could spoil the result, but not the isolation.
    """

    def __init__(self, root_fd: int, limits: Limits, made: Callable[[bytes], None]) -> None:
        self.root_fd = root_fd
        self._limits = limits
        self._name_max, self._leaf_max = limits.path, limits.component
        self._made = made
        self._parents: dict[bytes, tuple[int, bytes]] = {}
        self._newest: bytes | None = None  # the parent that was looked up last, found again without a search
        self._directory, self._above = root_fd, b""
        self._steps = 0
        self.removed = False
        """Whether a directory was replaced by another entry."""

    def close(self) -> None:
        """Close the directories that are kept open."""
        self._forget(keep=-1)

    def place(self, name: bytes, *, create: bool = True) -> Place | None:
        """Return the place of archive name `name`; None for the root itself.

        Missing parents are made with mode 0755 if `create`, else FileNotFoundError is raised. Raises `HostileArchive`
        for names that lead out of the root, too long ones, and ones below a file; and `OSError`.
        """
        head, _, leaf = name.rpartition(b"/")
        if head != self._newest or leaf in _NO_NAMES or len(leaf) > self._leaf_max or len(name) > self._name_max:
            head, leaf = self._split(name, marker=create)
            if not leaf:
                return None
            self._directory, self._above = self._parent(head, create=create)
            self._newest = head
        return Place(self._directory, leaf, self._above)

    def remove(self, place: Place) -> None:
        """Remove the entry at `place`, a directory with everything below it; follows no link. Raises `OSError`.

        Of the places looked up before, only this one stays valid.
        """
        mode = os.lstat(place.name, dir_fd=place.directory).st_mode
        if stat.S_ISDIR(mode):
            fd = os.open(place.name, _LIST, dir_fd=place.directory)
            try:
                remove_below(fd)
            finally:
                os.close(fd)
            os.rmdir(place.name, dir_fd=place.directory)
            self.removed = True
        else:
            os.unlink(place.name, dir_fd=place.directory)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._forget(keep=place.directory)

    def _split(self, name: bytes, *, marker: bool) -> tuple[bytes, bytes]:
        """Return the parent and the last part of a name. With `marker`, a whiteout may hide the longest name."""
        limits = self._limits
        if len(name) > limits.path:
            raise HostileArchive(f"{shown(name)} has a name of {len(name)} bytes, the limit is {limits.path}")
        head, _, leaf = name.strip(b"/").rpartition(b"/")
        if leaf == b"..":
            raise _dotdot(name)
        if leaf in _NO_NAMES:
            parts = plain_parts(name)
            head, leaf = b"/".join(parts[:-1]), parts[-1] if parts else b""
        elif b".." in head:
            head = b"/".join(plain_parts(head))
        if len(leaf) > limits.component + (len(WHITEOUT) if marker and leaf.startswith(WHITEOUT) else 0):
            raise _too_long(leaf, limits)
        return head, leaf

    def _parent(self, head: bytes, *, create: bool) -> tuple[int, bytes]:
        if not head:
            return self.root_fd, b""
        if (found := self._parents.pop(head, None)) is not None:
            self._parents[head] = found
        elif (found := self._step_down(head, create=create)) is None:
            found = self._walk(head, create=create)
            self._keep(head, found)
        return found

    def _forget(self, keep: int) -> None:
        self._newest = None
        for head, (fd, _) in list(self._parents.items()):
            if fd != keep:
                del self._parents[head]
                os.close(fd)

    def _step_down(self, head: bytes, *, create: bool) -> tuple[int, bytes] | None:
        """Return the directory, if it is a few plain steps below an open one; else None."""
        parts: list[bytes] = []
        above = head
        while above and above not in self._parents:
            above, _, part = above.rpartition(b"/")
            if part in _NO_NAMES or part.startswith(WHITEOUT) or len(parts) == _STRIDE or len(part) > self._leaf_max:
                return None
            parts.append(part)
        found = self._parents[above] if above else (self.root_fd, b"")
        self._steps = 0
        for part in reversed(parts):
            path = join(found[1], part)
            fd = self._step(found[0], part, head, path, create)
            if fd < 0:
                return None
            found = (fd, path)
            above = join(above, part)
            self._keep(above, found)
        return found

    def _keep(self, head: bytes, found: tuple[int, bytes]) -> None:
        if len(self._parents) >= _CACHED:
            oldest = next(iter(self._parents))
            os.close(self._parents.pop(oldest)[0])
        self._parents[head] = found

    def _walk(self, head: bytes, *, create: bool) -> tuple[int, bytes]:
        base, path, rest = self._nearest(head)
        pending = _parent_parts(rest, head)[::-1]
        walked = path.split(b"/") if path else []
        links = self._steps = 0
        fd = base

        def move(new: int) -> int:
            if fd != base:
                os.close(fd)
            return new

        try:
            while pending:
                part = pending.pop()
                if len(part) > self._limits.component:
                    raise _too_long(part, self._limits)
                if part == b"..":
                    del walked[-1:]
                    fd = move(self._rewalk(walked))
                elif (step := self._step(fd, part, head, join(b"/".join(walked), part), create)) >= 0:
                    fd = move(step)
                    walked.append(part)
                else:
                    links += 1
                    if links > _LINKS_MAX:
                        raise HostileArchive(f"{shown(head)} leads through too many symbolic links")
                    target = os.readlink(part, dir_fd=fd)
                    if target.startswith(b"/"):
                        walked.clear()
                        fd = move(self._rewalk(walked))
                    pending.extend(reversed(_parts(target)))
            return self._open(b".", fd) if fd == base else fd, b"/".join(walked)
        except BaseException:
            move(-1)
            raise

    def _nearest(self, head: bytes) -> tuple[int, bytes, bytes]:
        """(descriptor, true path, rest of the name) of the nearest directory above that is open already."""
        above = head
        while above := above.rpartition(b"/")[0]:
            if (known := self._parents.get(above)) is not None:
                return *known, head[len(above) :]
        return self.root_fd, b"", head

    def _open(self, name: bytes, directory: int) -> int:
        self._steps += 1
        if self._steps > _STEPS_MAX:
            raise HostileArchive("the archive's symbolic links form a loop")
        return os.open(name, _STEP, dir_fd=directory)

    def _step(self, fd: int, part: bytes, head: bytes, path: bytes, create: bool) -> int:
        """A descriptor of directory `part` in `fd`, made if missing; -1 for a symbolic link."""
        try:
            return self._open(part, fd)
        except FileNotFoundError:
            if not create:
                raise
        except NotADirectoryError:
            mode = os.lstat(part, dir_fd=fd).st_mode
            if stat.S_ISLNK(mode):
                return -1
            raise HostileArchive(
                f"the archive has entries below {shown(head)}, but {shown(path)} is not a directory"
            ) from None
        if part.startswith(WHITEOUT):
            raise _forged(head)
        os.mkdir(part, 0o755, dir_fd=fd)
        self._made(path)
        return self._open(part, fd)

    def _rewalk(self, walked: list[bytes]) -> int:
        fd = self._open(b".", self.root_fd)
        for part in walked:
            above = fd
            try:
                fd = self._open(part, above)
            finally:
                os.close(above)
        return fd


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _parent_parts(rest: bytes, head: bytes) -> list[bytes]:
    """Return the parts of `rest`, the end of an entry's parent `head`. Raises `HostileArchive` for forbidden names."""
    parts = _parts(rest)
    if any(part.startswith(WHITEOUT) for part in parts):
        raise _forged(head)
    return parts


def plain_parts(name: bytes) -> list[bytes]:
    """Return the parts of a name, with `..` applied as Go's path.Clean does it: without a look at links.

    Docker and podman read names of entries so. Raises `HostileArchive` for a name that leads out of the root.
    """
    parts: list[bytes] = []
    for part in _parts(name):
        if part != b"..":
            parts.append(part)
        elif parts:
            if parts.pop().startswith(WHITEOUT):
                raise _forged(name)
        else:
            raise _dotdot(name)
    return parts


def _dotdot(name: bytes) -> HostileArchive:
    return HostileArchive(f"the archive tries to leave its root: {shown(name)} has '..' in it")


def _forged(head: bytes) -> HostileArchive:
    return HostileArchive(f"the archive has a forged whiteout: {shown(head)} as a directory")


def _too_long(part: bytes, limits: Limits) -> HostileArchive:
    return HostileArchive(
        f"{shown(part)} is a name of {len(part)} bytes between slashes, the limit is {limits.component}"
    )


def remove_below(top: int) -> None:
    """Remove everything below directory `top`, a readable descriptor, with two more at most. Raises `OSError`.

    The depth does not matter: deep directories are moved up to `top` first. No link is followed.
    """
    names = _unlink_files(top)
    taken = set(names)
    while names:
        name = names.pop()
        inner = os.open(name, _LIST, dir_fd=top)
        try:
            for nested in _unlink_files(inner):
                new = nested
                while new in taken:
                    new = b"%d" % len(taken) if new == nested else new + b"+"
                os.rename(nested, new, src_dir_fd=inner, dst_dir_fd=top)
                taken.add(new)
                names.append(new)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _unlink_files(fd: int) -> list[bytes]:
    """Unlink all entries of `fd` but directories, and return the names of those."""
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
    return [name for name, is_directory in found if is_directory]
