"""Comparing the changes of a volume with the host's directory: what to write there, and what is in conflict."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.images.cow import attributes
from nbcontainer.images.cow.before import Before, Noted
from nbcontainer.images.cow.below import join, look, names, opened, walk
from nbcontainer.images.cow.merged import Entries, Entry, Kind
from nbcontainer.linux.files import data_grains

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STAGING = b".nbcontainer-apply-"
"""How the names of staging directories begin, which are in the host's directory while changes are applied."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK

MEANWHILE = "changed on the host meanwhile"
REMOVED = "removed from the host meanwhile"
MOUNTED = "a file system is mounted there"
DEVICE = "a device"
RESERVED = "a reserved name"
_ALWAYS = frozenset({MOUNTED, DEVICE, RESERVED})
"""The conflicts that `--force` does not override."""


@dataclass(frozen=True)
class View:
    """The two sides: `tree` is the host's directory and `layers` the layers' (descriptors); `entries` are the changes.

    `noted` is what the host had when a cell changed a path, and `began` the time before the first cell, in nanoseconds.
    `mounts` are the paths at which other file systems are mounted in the directory. `moved_back` is what a failed
    `apply` has put back at paths that were not in conflict: that gave them a new ctime.
    """

    tree: int
    layers: Sequence[int]
    entries: Entries
    noted: Noted
    began: int
    mounts: frozenset[bytes] = frozenset()
    moved_back: Mapping[bytes, Before] = field(default_factory=dict)

    @functools.cached_property
    def names(self) -> Mapping[tuple[int, int], Sequence[bytes]]:
        """The paths of each file of a layer with several names, by the layer's number and the inode."""
        found: dict[tuple[int, int], list[bytes]] = {}
        for path, entry in self.entries.items():
            if entry.kind == Kind.FILE and entry.facts.st_nlink > 1:
                found.setdefault((entry.layer, entry.facts.st_ino), []).append(path)
        return found

    @functools.cached_property
    def _places(self) -> Mapping[bytes, int]:
        return {path: number for number, path in enumerate(self.entries, 1)}

    @functools.cached_property
    def _paths(self) -> Sequence[bytes]:
        return list(self.entries)

    def inside(self, path: bytes) -> Iterator[bytes]:
        """Yield the paths of the entries below that of a directory, which is one itself. They follow it in order."""
        top = path + b"/" if path else b""
        for place in range(self._places[path], len(self._paths)):
            if not self._paths[place].startswith(top):
                return
            yield self._paths[place]


@dataclass(frozen=True)
class Action:
    """One path to write: `entry` is what it becomes, and `host` what is there now, None for nothing."""

    path: bytes
    entry: Entry
    host: os.stat_result | None


@dataclass
class Comparison:
    """What to do: `writes` replace, make or remove a path, `merges` set the facts of a directory that stays.

    `conflicts` are paths with the reason why they cannot be written.
    """

    writes: list[Action] = field(default_factory=list)
    merges: list[Action] = field(default_factory=list)
    conflicts: list[tuple[bytes, str]] = field(default_factory=list)


def compare(view: View, *, force: bool = False) -> Comparison:
    """Return what applying the changes takes; with `force`, the host's own changes are overwritten.

    Raises `OSError`.
    """
    found = Comparison()
    whole: bytes | None = None  # a directory that is made as a whole, with all that is in it
    for path, entry in view.entries.items():
        if whole is not None and path.startswith(whole + b"/"):
            if reason := _never(view, path, entry):
                found.conflicts.append((path, reason))
            continue
        whole = None
        host, reason = _seen(view, path, entry)
        if reason:
            found.conflicts.append((path, reason))
        elif host is not None and _is_merged(view, path, entry, host):
            found.merges.append(Action(path, entry, host))
        elif is_same(view, path, entry, host, force=force):
            whole = path
        else:
            whole = path
            if reason := conflict(view, path, host, force=force):
                found.conflicts.append((path, reason))
            else:
                found.writes.append(Action(path, entry, host))
    return found


def _is_merged(view: View, path: bytes, entry: Entry, host: os.stat_result) -> bool:
    """Return whether a directory stays, and what is in it is looked at one by one."""
    if not entry.is_directory or not stat.S_ISDIR(host.st_mode):
        return False
    return entry.kind == Kind.DIRECTORY or is_new_on_both(view, path)


def is_new_on_both(view: View, path: bytes) -> bool:
    """Return whether the host did not have a path when a cell made it, and has it now."""
    return path in view.noted and view.noted[path] is None


def _seen(view: View, path: bytes, entry: Entry) -> tuple[os.stat_result | None, str]:
    """Return what the host has at a path, and a reason why it can never be written."""
    try:
        return look(view.tree, path), _never(view, path, entry)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return None, MOUNTED


def _never(view: View, path: bytes, entry: Entry) -> str:
    """Return why a path can never be written, empty if it can."""
    if entry.kind == Kind.FILE and (stat.S_ISCHR(entry.facts.st_mode) or stat.S_ISBLK(entry.facts.st_mode)):
        return DEVICE
    if path.rpartition(b"/")[2].startswith(STAGING):
        return RESERVED
    for mount in view.mounts:
        covered = path == mount or path.startswith(mount + b"/")
        if covered or (entry.kind != Kind.DIRECTORY and mount.startswith(path + b"/")):
            return MOUNTED
    return ""


def conflict(view: View, path: bytes, host: os.stat_result | None, *, force: bool) -> str:
    """Return why the host's path must not be written, empty if it may. Raises `OSError`."""
    if force:
        return ""
    noted = view.noted.get(path)
    if host is None:
        return REMOVED if noted is not None else ""
    if (own := view.moved_back.get(path)) is None or own != Before.of(host):
        if path in view.noted and (noted is None or not _is_as_noted(noted, host)):
            return MEANWHILE
        if host.st_ctime_ns > view.began:
            return MEANWHILE
    if stat.S_ISDIR(host.st_mode) and changed_inside(view, path):
        return MEANWHILE
    return ""


def _is_as_noted(noted: Before, host: os.stat_result) -> bool:
    now = Before.of(host)
    return (noted.inode, noted.size, noted.ctime) == (now.inode, now.size, now.ctime)


def changed_inside(view: View, path: bytes) -> bool:
    """Return whether the host has changed anything in a directory since the container's first cell."""
    return any(facts.st_ctime_ns > view.began for _, facts in walk(view.tree, path))


# What is the same already


def mode_of(entry: Entry) -> int:
    """Return the permissions that a path gets: files have no setuid and setgid bits."""
    return stat.S_IMODE(entry.facts.st_mode) & (0o3777 if entry.is_directory else 0o1777)


def is_same(view: View, path: bytes, entry: Entry, host: os.stat_result | None, *, force: bool = False) -> bool:
    """Return whether nothing is to be written at a path: the host has all that the changes have there.

    If the host has made the same change itself, its times and links may be others. Raises `OSError`.
    """
    if not done(view, path, entry, host):
        return False
    return _is_exact(view, path, entry) or bool(conflict(view, path, host, force=force))


def done(view: View, path: bytes, entry: Entry, host: os.stat_result | None) -> bool:
    """Return whether the host has at `path` what the changes have there. Raises `OSError`."""
    if host is None or entry.kind == Kind.DELETED:
        return host is None and entry.kind == Kind.DELETED
    if not _is_alike(entry, host):
        return False
    if stat.S_ISREG(host.st_mode):
        return _has_content_of(view, path, entry)
    if stat.S_ISLNK(host.st_mode):
        with opened(view.tree, path) as there, opened(view.layers[entry.layer], path) as here:
            return os.readlink("", dir_fd=there) == os.readlink("", dir_fd=here)
    return not entry.is_directory or (_has_attributes_of(view, path, entry) and _has_same_below(view, path))


def _is_exact(view: View, path: bytes, entry: Entry) -> bool:
    """Return whether the host has the same facts at a path and at all that is below it. Raises `OSError`."""
    below = view.inside(path) if entry.is_directory else ()
    return all(_has_facts_of(view, one, view.entries[one]) for one in (path, *below))


def _has_facts_of(view: View, path: bytes, entry: Entry) -> bool:
    """Return whether the time and the names of the same file are those of the changes."""
    host = look(view.tree, path)
    if host is None or entry.kind == Kind.DELETED:
        return host is None and entry.kind == Kind.DELETED
    return host.st_mtime_ns == entry.facts.st_mtime_ns and _is_linked_alike(view, entry, host)


def _is_linked_alike(view: View, entry: Entry, host: os.stat_result | None) -> bool:
    """Return whether the other names that the changes give a file are names of the host's one. Raises `OSError`."""
    if host is None or entry.kind != Kind.FILE or entry.facts.st_nlink < 2:
        return True
    others = (look(view.tree, name) for name in view.names[entry.layer, entry.facts.st_ino])
    return all(other is not None and other.st_ino == host.st_ino for other in others)


def _is_alike(entry: Entry, host: os.stat_result) -> bool:
    """Return whether the type, the owner and the permissions are the same."""
    facts = entry.facts
    if stat.S_IFMT(facts.st_mode) != stat.S_IFMT(host.st_mode) or (facts.st_uid, facts.st_gid) != (
        host.st_uid,
        host.st_gid,
    ):
        return False
    return stat.S_ISLNK(host.st_mode) or mode_of(entry) == stat.S_IMODE(host.st_mode)


def _has_content_of(view: View, path: bytes, entry: Entry) -> bool:
    with opened(view.tree, path, _READ) as there, opened(view.layers[entry.layer], path, _READ) as here:
        if os.fstat(there).st_size != entry.facts.st_size or attributes.kept(there) != attributes.kept(here):
            return False
        both = itertools.zip_longest(data_grains(here, entry.facts.st_size), data_grains(there, entry.facts.st_size))
        return all(ours == theirs for ours, theirs in both)


def _has_attributes_of(view: View, path: bytes, entry: Entry) -> bool:
    """Return whether the host's file or directory has the attributes of the changes. Raises `OSError`."""
    with opened(view.tree, path, _READ) as there, opened(view.layers[entry.layer], path, _READ) as here:
        return attributes.kept(there) == attributes.kept(here)


def _is_alike_directory(view: View, path: bytes, entry: Entry, host: os.stat_result) -> bool:
    return _is_alike(entry, host) and _has_attributes_of(view, path, entry)


def _has_same_below(view: View, path: bytes) -> bool:
    """Return whether the host's directory has what the changes have in a directory that is made as a whole."""
    wanted: dict[bytes, set[bytes]] = {path: set()}
    for below in view.inside(path):
        entry = view.entries[below]
        if entry.kind == Kind.DELETED:
            continue
        above, _, name = below.rpartition(b"/")
        wanted[above].add(name)
        host = look(view.tree, below)
        if entry.is_directory:
            wanted[below] = set()
            if host is None or not _is_alike(entry, host) or not _has_attributes_of(view, below, entry):
                return False
        elif not done(view, below, entry, host):
            return False
    return all(set(names(view.tree, folder)) == there for folder, there in wanted.items())


def listed(view: View) -> list[tuple[str, bytes, int | None]]:
    """Return (kind, path, size) of each difference that applying would make: A, C or D; None for a directory's size."""
    found: list[tuple[str, bytes, int | None]] = []
    for path, entry in view.entries.items():
        host = _seen(view, path, entry)[0]
        if host is not None and _is_merged(view, path, entry, host):
            if path and not is_new_on_both(view, path) and not _is_alike_directory(view, path, entry, host):
                found.append(("C", path, None))
        elif entry.kind == Kind.DELETED:
            if host is not None:
                found.append(("D", path, 0))
        elif entry.is_directory or not is_same(view, path, entry, host):
            size = None if entry.is_directory else entry.facts.st_size
            if host is None or entry.kind != Kind.OPAQUE or not stat.S_ISDIR(host.st_mode):
                found.append(("A" if host is None else "C", path, size))
            else:
                found += _hidden(view, path, entry, host)
    return found


def _hidden(view: View, path: bytes, entry: Entry, host: os.stat_result) -> list[tuple[str, bytes, int | None]]:
    """Return the changes of a directory that was removed and made again: what the host has in it is deleted."""
    own: list[tuple[str, bytes, int | None]] = [] if _is_alike(entry, host) else [("C", path, None)]
    paths = (join(path, name) for name in names(view.tree, path))
    return own + [("D", one, 0) for one in paths if one not in view.entries]
