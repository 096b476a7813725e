"""The view of `diff`: small changes file by file, large ones by directory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from nbcontainer.commands.views.change_tree import Node, expand, tree
from nbcontainer.containers.diff import ADDED
from nbcontainer.images.layers.changes import CHANGED, DELETED
from nbcontainer.rendering import page
from nbcontainer.rendering.quantities import size
from nbcontainer.rendering.text import columns, visible

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    from nbcontainer.containers.diff import Change

LINES = 40
"""Lines that the text shows, unless all are asked for."""

ENTRIES = 500
"""Entries that a page has, unless all are asked for; the directories among them are collapsed if there are many."""

DEPTH = 60
"""Directories within directories that a page has: browsers give up after some hundreds."""

_WORDS = {ADDED: "added", CHANGED: "changed", DELETED: "deleted"}
_KINDS = {ADDED: "good", CHANGED: "warn", DELETED: "bad"}


@dataclass(frozen=True)
class Changes:
    """What the cells of a container changed: a sequence of changes, sorted by path. `every` shows all of them,
    and `verb` is the one that lists them.
    """

    changes: tuple[Change, ...]
    every: bool = False
    verb: str = "diff"

    @cached_property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """Kind and path of each change."""
        return tuple((change.kind, change.path) for change in self.changes)

    @property
    def size(self) -> int:
        """Bytes in the files that were added or changed."""
        return sum(change.size or 0 for change in self.changes)

    @property
    def _hint(self) -> str:
        return f"`{self.verb} --all` lists every file"

    def __len__(self) -> int:
        return len(self.changes)

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, at: int) -> Change: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Change]: ...
    def __getitem__(self, at: int | slice) -> Change | Sequence[Change]:
        return self.changes[at]

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def _tree(self, most: int) -> Node:
        root = tree(self.changes)
        expand(root, sys.maxsize if self.every else most)
        return root

    def __str__(self) -> str:
        if not self.changes:
            return "no changes"
        root = self._tree(LINES)
        nodes = list(root.shown())
        if not any(node.collapsed for node in nodes):
            return columns([("CHANGE", "PATH"), *((node.kind, visible(node.path)) for node in nodes)])
        lines = [(node.kind, visible(_name(node)), *_counts(node)) for node in nodes]
        return columns([("CHANGE", "PATH", "FILES", "SIZE"), *lines]) + f"\n{_sum(root)}; {self._hint}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.changes:
            return "<p>no changes</p>"
        root = self._tree(ENTRIES)
        more = f" … {self._hint}" if any(node.collapsed for node in root.shown()) else ""
        head = f"<p>{page.escape(_sum(root))}{page.span(more, 'dim')}</p>"
        return page.page(head + _listed(root, opened=len(self.changes) <= LINES))

    def as_json(self) -> list[dict[str, Any]]:
        """Return all changes as objects: `change`, `path`, and `size` in bytes (null for a directory)."""
        return [{"change": change.kind, "path": change.path, "size": change.size} for change in self.changes]


def _sum(node: Node) -> str:
    """Return what changed below a node: `3 added, 1 deleted, 12 kB`."""
    return f"{_said(node.files)}, {size(node.size)}" if node.size else _said(node.files)


def _name(node: Node) -> str:
    return f"{node.path}/" if node.collapsed else node.path


def _counts(node: Node) -> tuple[str, str]:
    """Return the columns of counts and bytes: a file has only bytes, an open directory neither."""
    if node.collapsed:
        return _said(node.files), size(node.size)
    return "", "" if node.children or node.directory or node.kind == DELETED else size(node.size)


def _said(files: Counter[str]) -> str:
    """Return counts with their nouns: `3 added, 1 deleted`."""
    return ", ".join(f"{files[kind]:,} {word}" for kind, word in _WORDS.items() if files[kind]) or "0 files"


@dataclass(frozen=True)
class _Entry:
    """An entry of the page's lists: a node, the path of the directory whose list it is in, and that list's depth."""

    node: Node
    above: str
    depth: int


def _listed(root: Node, *, opened: bool) -> str:
    """Return the nodes below the root as nested lists. Without recursion: a cell can nest directories deeply."""
    parts: list[str] = []
    waiting = _list(root, 0)
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        node = _end_of_chain(item.node)
        line = _line(node, item.above)
        if node.open and item.depth < DEPTH:
            parts.append(f"<li><details{' open' if opened else ''}><summary>{line}</summary>")
            waiting += ["</details></li>", *_list(node, item.depth + 1)]
        else:
            parts.append(f"<li><span>{line}</span></li>")
    return "".join(parts)


def _list(node: Node, depth: int) -> list[_Entry | str]:
    """Return a directory's list, the last part first."""
    return ["</ul>", *(_Entry(child, node.path, depth) for child in reversed(node.children)), "<ul>"]


def _end_of_chain(node: Node) -> Node:
    """Return the directory at the end of a chain of directories that have nothing but the next one."""
    while node.open and len(node.children) == 1 and node.children[0].children:
        if node.kind not in ("", CHANGED, node.children[0].kind):
            break
        node = node.children[0]
    return node


def _line(node: Node, above: str) -> str:
    """Return the line of a node: its kind, its path below `above`, and what changed in it."""
    name = node.path[len(above) + 1 :] + ("/" if node.children or node.directory else "")
    counts = _sum(node) if node.children else _counts(node)[1]
    kind = page.span(node.kind, _KINDS[node.kind], tip=_WORDS[node.kind]) if node.kind else ""
    return f"{kind} {page.escape(name)} {page.span(counts, 'dim')}"
