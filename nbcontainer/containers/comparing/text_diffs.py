"""The texts of differences: unified diffs of small files, and a line for each other one that says what differs."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.images.comparison.small_files import BINARY, LARGE
from nbcontainer.images.comparison.unified_diffs import unified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.comparing.two_trees import Difference, Tree
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.images.comparison.tree_facts import PathFacts

FILE_LIMIT = 256 << 10
"""Bytes of a file that counts as small."""

TOTAL_LIMIT = 16 << 20
"""Bytes of all files of a tree that are read."""

_TYPES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@dataclass(frozen=True)
class TextDiff:
    """A path that differs, and how: `lines` of a unified diff without their ends, and `notes` on all else."""

    difference: Difference
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def text_diffs(workspace: Workspace, before: Tree, after: Tree, found: Sequence[Difference]) -> list[TextDiff]:
    """Return how the paths `found` differ. Raises `StoreError`, `OSError`."""
    old = _texts(workspace, before, [one.path for one in found if _is_file(one.before)])
    new = _texts(workspace, after, [one.path for one in found if _is_file(one.after)])
    return [text_diff(one, old.get(one.path), new.get(one.path)) for one in found]


def _is_file(facts: PathFacts | None) -> bool:
    return facts is not None and facts.is_file


def _texts(workspace: Workspace, tree: Tree, paths: list[str]) -> dict[str, tuple[str, str]]:
    if not paths:
        return {}
    found = workspace.on_layers(sandboxed.texts_of, tree.lowers, paths=paths, limit=FILE_LIMIT, total=TOTAL_LIMIT)
    return {path: (text, reason) for path, (text, reason) in found.items()}


def text_diff(one: Difference, old: tuple[str, str] | None, new: tuple[str, str] | None) -> TextDiff:
    """Return how a path differs; `old` and `new` are its texts, each with a reason if it has none, None for no file."""
    notes = _notes(one)
    reasons = {reason for _, reason in filter(None, (old, new)) if reason}
    if reasons:
        return TextDiff(one, (), (*notes, _unread(one, LARGE if LARGE in reasons else BINARY)))
    if old is None and new is None:
        return TextDiff(one, (), notes)
    lines = unified("" if old is None else old[0], "" if new is None else new[0])
    return TextDiff(one, (), (*notes, _unread(one, LARGE))) if lines is None else TextDiff(one, tuple(lines), notes)


def _unread(one: Difference, reason: str) -> str:
    sizes = [str(facts.size) for facts in (one.before, one.after) if facts is not None and facts.is_file]
    return f"{reason} file, {' -> '.join(sizes)} bytes"


def _notes(one: Difference) -> tuple[str, ...]:
    """Return what differs besides the content of a file."""
    old, new = one.before, one.after
    if old is None or new is None:
        return _alone(new or old)
    notes = []
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        notes.append(f"{_type(old)} -> {_type(new)}")
    if old.link != new.link:
        notes.append(f"target {old.link or '(none)'} -> {new.link or '(none)'}")
    if stat.S_IMODE(old.mode) != stat.S_IMODE(new.mode):
        notes.append(f"mode {stat.S_IMODE(old.mode):o} -> {stat.S_IMODE(new.mode):o}")
    if (old.uid, old.gid) != (new.uid, new.gid):
        notes.append(f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}")
    if old.attributes != new.attributes:
        notes.append("extended attributes")
    return tuple(notes)


def _alone(facts: PathFacts | None) -> tuple[str, ...]:
    """Return what a path is that only one tree has."""
    if facts is None or facts.is_file:
        return ()
    return (f"{_type(facts)} to {facts.link}" if facts.link else _type(facts),)


def _type(facts: PathFacts) -> str:
    return _TYPES.get(stat.S_IFMT(facts.mode), "a file")
