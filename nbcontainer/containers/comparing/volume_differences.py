"""What differs between two states in their copy-on-write volumes: as cells see them on the host's present directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.comparing.text_diffs import FILE_LIMIT, TOTAL_LIMIT, TextDiff, text_diff
from nbcontainer.containers.comparing.two_trees import Difference
from nbcontainer.containers.cow import directories
from nbcontainer.errors import ContainerError
from nbcontainer.images.comparison.tree_facts import PathFacts
from nbcontainer.images.cow import volume_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.containers.comparing.two_trees import Tree
    from nbcontainer.containers.history.volume_states import VolumeState
    from nbcontainer.containers.workspace import Workspace


@dataclass(frozen=True)
class _Pair:
    """One volume of which two states have other layers: its directory, and these layers, from the bottom up."""

    state: VolumeState
    old: tuple[str, ...]
    new: tuple[str, ...]

    def run(self, workspace: Workspace, job: Callable[..., Any], **arguments: Any) -> Any:
        """Run a function of `volume_jobs` on both. Raises `ChangesRefused`, `OSError`."""
        layers = tuple(dict.fromkeys((*self.old, *self.new)))
        numbers = {layer: number for number, layer in enumerate(layers)}
        sides = [[numbers[layer] for layer in side] for side in (self.old, self.new)]
        with directories.opened(workspace, self.state) as (tree, _):
            return directories.run(workspace, job, tree, layers, sides=sides, **arguments)

    def path(self, inside: str) -> str:
        """Return a path of the volume as one of the container."""
        return self.state.target.rstrip("/") + inside

    def inside(self, difference: Difference) -> str:
        """Return the path of a difference in the volume."""
        return difference.path.removeprefix(self.state.target.rstrip("/"))


Found = list[tuple[_Pair, list[Difference]]]
"""The volumes that differ, each with its differences."""


def volume_differences(workspace: Workspace, before: Tree, after: Tree) -> Found:
    """Return what differs in the volumes of two states. Raises `ContainerError`, `ChangesRefused`, `OSError`."""
    return [(pair, _differences(workspace, pair)) for pair in _pairs(before, after)]


def _differences(workspace: Workspace, pair: _Pair) -> list[Difference]:
    found = pair.run(workspace, volume_jobs.differences)
    return [Difference(pair.path(path), *map(_facts, sides)) for path, *sides in found]


def _facts(values: Sequence[Any] | None) -> PathFacts | None:
    return None if values is None else PathFacts(*values)


def volume_text_diffs(workspace: Workspace, found: Found) -> list[TextDiff]:
    """Return how the paths of `volume_differences` differ. Raises `ChangesRefused`, `OSError`."""
    return [one for pair, different in found for one in _text_diffs(workspace, pair, different)]


def _text_diffs(workspace: Workspace, pair: _Pair, found: list[Difference]) -> list[TextDiff]:
    files = [pair.inside(one) for one in found if any(side is not None and side.is_file for side in _sides(one))]
    old, new = pair.run(workspace, volume_jobs.two_texts, paths=files, limit=FILE_LIMIT, total=TOTAL_LIMIT)
    return [text_diff(one, *(_text(side, pair.inside(one)) for side in (old, new))) for one in found]


def _sides(one: Difference) -> tuple[PathFacts | None, PathFacts | None]:
    return one.before, one.after


def _text(texts: dict[str, Any], path: str) -> tuple[str, str] | None:
    return (texts[path][0], texts[path][1]) if path in texts else None


def _pairs(before: Tree, after: Tree) -> list[_Pair]:
    """Return the volumes of which the states have other layers, by their targets. Raises `ContainerError`."""
    left, right = ({volume.target: volume for volume in tree.volumes} for tree in (before, after))
    found = (_pair(before, after, left.get(target), right.get(target)) for target in sorted({*left, *right}))
    return [pair for pair in found if pair is not None]


def _pair(before: Tree, after: Tree, left: VolumeState | None, right: VolumeState | None) -> _Pair | None:
    old, new = (() if one is None else one.layers for one in (left, right))
    state = right if right is not None and new else left
    if old == new or state is None:
        return None
    if left is not None and right is not None and old and new and not _is_one_directory(left, right):
        sources = f"{left.source} in {before.name}, and {right.source} in {after.name}"
        problem = f"cannot compare volume '{state.target}': it is {sources}"
        raise ContainerError(problem, hint=f"compare each with its image, as in {before.name.partition('@')[0]}@0")
    return _Pair(state, old, new)


def _is_one_directory(left: VolumeState, right: VolumeState) -> bool:
    return left.is_same_directory(right.device, right.inode, right.born)
