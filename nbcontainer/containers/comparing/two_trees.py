"""What differs between two trees: states of containers, or images.

Only the paths that the layers above the common ones name can differ. They are looked up in both trees, each in a
sandbox that has the tree as its root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.diff import ADDED, Change, MergedChanges
from nbcontainer.errors import ImageError
from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host
from nbcontainer.images.comparison.tree_facts import PathFacts
from nbcontainer.images.layers.changes import CHANGED, DELETED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.history.volume_states import VolumeState
    from nbcontainer.containers.workspace import Workspace


@dataclass(frozen=True)
class Tree:
    """A state or an image: its `name` as the user wrote it, and its `layers` (ids), from the bottom up.

    `lowers` are few layers with the same files, the topmost first. `volumes` are a state's copy-on-write volumes.
    """

    name: str
    layers: tuple[str, ...]
    lowers: tuple[str, ...]
    volumes: tuple[VolumeState, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A path that differs. `before` and `after` are what the trees have there, None for nothing."""

    path: str
    before: PathFacts | None
    after: PathFacts | None

    @property
    def kind(self) -> str:
        """`A` for added, `D` for deleted, `C` for changed."""
        if self.before is None:
            return ADDED
        return DELETED if self.after is None else CHANGED

    @property
    def change(self) -> Change:
        """The path as a row of `diff`."""
        if self.after is None:
            return Change(DELETED, self.path)
        return Change(self.kind, self.path, None if self.after.is_directory else self.after.size)


def differences(workspace: Workspace, before: Tree, after: Tree) -> list[Difference]:
    """Return what differs between two trees, sorted by path: type, content, mode, owner, time, attributes, target.

    Of a deleted directory, what was in it is listed too. Raises `ImageError`, `StoreError`, `OSError`.
    """
    shared = _shared(before.layers, after.layers)
    left, right = before.layers[shared:], after.layers[shared:]
    _check_host(workspace, before, left)
    _check_host(workspace, after, right)
    paths, whole = _candidates(workspace, (left, right))
    if not paths:
        return []
    old, new = (_facts(workspace, tree, paths, whole) for tree in (before, after))
    found = [Difference(path, old.get(path), new.get(path)) for path in sorted({*old, *new})]
    different = [one for one in found if one.before != one.after]
    return sorted(different + _same_facts(workspace, before, after, found), key=lambda one: one.path)


def outermost(found: Sequence[Difference]) -> list[Difference]:
    """Return the differences without what is in deleted directories, as `docker diff` lists them."""
    deleted = {one.path for one in found if one.after is None}
    return [one for one in found if one.after is not None or one.path.rpartition("/")[0] not in deleted]


def _shared(left: Sequence[str], right: Sequence[str]) -> int:
    """Return how many layers at the bottom are the same."""
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return number
    return min(len(left), len(right))


def _check_host(workspace: Workspace, tree: Tree, above: Sequence[str]) -> None:
    """Raise `ImageError` if the image `host` itself, which is not a tree in the store, would be compared."""
    if tree.layers[:1] == above[:1] and above and host.directories(workspace.store, above[0]):
        problem = f"cannot compare '{tree.name}': its image is the host"
        raise ImageError(problem, hint="compare states of containers on the same image `host`")


def _candidates(workspace: Workspace, sides: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the paths that can differ, sorted by their directories, and those below which all can."""
    paths: set[str] = set()
    whole: set[str] = set()
    for side in sides:
        merged = MergedChanges()
        for changes in changes_of(workspace, side):
            merged.add(changes)
        whole |= merged.replaced  # whether a directory was in that place shows in the other tree
        paths.update(merged.last, merged.replaced)
    return sorted(paths, key=lambda path: path.rpartition("/")), sorted(whole)


def changes_of(workspace: Workspace, layers: Sequence[str]) -> list[list[tuple[str, str, int | None]]]:
    """Return what each layer has, as `list_changes` does. Those on disk are read in one sandbox."""
    places = [f"{layer}/diff" for layer in layers]
    if any((workspace.store.path / "layers" / place).is_symlink() for place in places):  # in memory
        return [workspace.on_directory(sandboxed.list_changes, f"layers/{place}", read_only=True) for place in places]
    found: Any = (
        workspace.on_directory(sandboxed.list_layers, "layers", read_only=True, layers=places) if places else []
    )
    return [[(kind, path, size) for kind, path, size in one] for one in found]


def _facts(workspace: Workspace, tree: Tree, paths: list[str], whole: list[str]) -> dict[str, PathFacts]:
    found = workspace.on_layers(sandboxed.facts_of, tree.lowers, paths=paths, whole=whole)
    return {path: PathFacts(*facts) for path, facts in found.items()}


def _same_facts(workspace: Workspace, before: Tree, after: Tree, found: Sequence[Difference]) -> list[Difference]:
    """Return files with the same facts and another content: a program can set the time of a file."""
    same = [one for one in found if one.before == one.after and one.after is not None and one.after.is_file]
    if not same:
        return []
    paths = [one.path for one in same]
    old, new = (workspace.on_layers(sandboxed.digests_of, tree.lowers, paths=paths) for tree in (before, after))
    return [one for one in same if old.get(one.path) != new.get(one.path)]
