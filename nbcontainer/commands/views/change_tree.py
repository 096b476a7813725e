"""Changes as a tree: directories with the number of files that changed below them, and their bytes."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.images.layers.changes import DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.containers.diff import Change


@dataclass
class Node:
    """A changed path, or the root. `files` counts what changed below it, by kind; `size` is in bytes.

    `open` is whether its children are shown.
    """

    path: str
    kind: str = ""
    directory: bool = True
    children: list[Node] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)
    size: int = 0
    open: bool = False

    @property
    def collapsed(self) -> bool:
        """Whether it has children that are not shown."""
        return bool(self.children) and not self.open

    def shown(self) -> Iterator[Node]:
        """Yield the nodes that are shown, in the order of their paths."""
        waiting = self.children[::-1] if self.open else []
        while waiting:
            node = waiting.pop()
            yield node
            if node.open:
                waiting += node.children[::-1]


def tree(changes: Iterable[Change]) -> Node:
    """Return the root of the tree of changes, with all directories collapsed. `changes` may have any order."""
    root = Node("")
    nodes = {"": root}
    ordered = sorted(changes, key=lambda change: change.path)
    for change in ordered:
        node = _node(nodes, change.path)
        node.kind, node.directory, node.size = change.kind, change.size is None, change.size or 0
    for node in reversed(nodes.values()):  # a directory was added before what is in it
        node.children.sort(key=lambda child: child.path)
        if not node.directory or node.kind == DELETED:
            node.files[node.kind] += 1
        if node is not root:
            parent = nodes[node.path.rpartition("/")[0]]
            parent.files += node.files
            parent.size += node.size
    return root


def _node(nodes: dict[str, Node], path: str) -> Node:
    """Return the node of a path; it and the directories above it are added where they are missing."""
    missing = []
    above = path
    while above not in nodes:
        missing.append(above)
        above = above.rpartition("/")[0]
    for new in reversed(missing):
        nodes[new] = Node(new)
        nodes[new.rpartition("/")[0]].children.append(nodes[new])
    return nodes[path]


def expand(root: Node, most: int) -> None:
    """Open directories until `most` nodes are shown: those with most files first, if their children fit."""
    root.open = True
    room = most - len(root.children)
    waiting = [(-node.files.total(), node.path, node) for node in root.children if node.children]
    heapq.heapify(waiting)
    while waiting:
        _, _, node = heapq.heappop(waiting)
        if len(node.children) > room:
            continue
        node.open = True
        room -= len(node.children)
        for child in node.children:
            if child.children:
                heapq.heappush(waiting, (-child.files.total(), child.path, child))
