"""Merging the changes of layers."""

from __future__ import annotations

import random
import sys

from nbcontainer.containers.diff import MergedChanges

Layer = list[tuple[str, str] | tuple[str, str, int]]


def merged(*layers: Layer) -> dict[str, str]:
    """The last change of each path. A change without a size is that of a directory."""
    changes = MergedChanges()
    for layer in layers:
        changes.add((*change, None)[:3] for change in layer)
    return changes.last


def test_a_deleted_directory_hides_all_changes_below_it() -> None:
    """The changes below a deleted directory are gone; those beside it, with a similar name, stay."""
    below: Layer = [("C", "/a"), ("C", "/a/b"), ("C", "/a/b/c", 1), ("C", "/ab"), ("C", "/ab/c", 1)]
    assert merged(below, [("D", "/a")]) == {"/a": "D", "/ab": "C", "/ab/c": "C"}


def test_a_replaced_directory_has_its_new_changes() -> None:
    """An opaque directory is deleted and changed: what its layer has below it stays."""
    below: Layer = [("C", "/a"), ("C", "/a/old", 1), ("C", "/a/both", 1)]
    assert merged(below, [("D", "/a"), ("C", "/a"), ("C", "/a/both", 1)]) == {"/a": "C", "/a/both": "C"}


def test_a_file_in_the_place_of_a_directory_hides_all_changes_below_it() -> None:
    """The changes below a path are gone when it is a file or a link, also if a later layer makes it a directory."""
    below: Layer = [("C", "/a"), ("C", "/a/b"), ("C", "/a/b/c", 1), ("C", "/ab"), ("C", "/ab/c", 1)]
    assert merged(below, [("C", "/a", 0)]) == {"/a": "C", "/ab": "C", "/ab/c": "C"}
    assert merged(below, [("C", "/a", 0)], [("C", "/a")]) == {"/a": "C", "/ab": "C", "/ab/c": "C"}


def test_merging_equals_the_definition() -> None:
    """For random layers the result is that of the definition: what is not a directory has no path below it."""
    chance = random.Random(15)
    for _ in range(300):
        layers = [_random_layer(chance) for _ in range(4)]
        expected: dict[str, str] = {}
        for kind, path, *size in (change for layer in layers for change in layer):
            if kind == "D" or size:
                expected = {known: last for known, last in expected.items() if not known.startswith(f"{path}/")}
            expected[path] = kind
        assert merged(*layers) == expected


def _random_layer(chance: random.Random) -> Layer:
    """An upper directory's changes: every parent is there, and nothing is below a file or a deleted path."""
    changes: dict[str, Layer] = {}
    for _ in range(6):
        parts = [chance.choice("abc") for _ in range(chance.randrange(1, 4))]
        for depth in range(1, len(parts) + 1):
            path = "/" + "/".join(parts[:depth])
            leaf: Layer = [("D", path)] if chance.random() < 0.5 else [("C", path, 0)]
            if path not in changes:
                changes[path] = leaf if chance.random() < 0.4 else [("C", path)]
            if changes[path][0] != ("C", path):
                break
            if chance.random() < 0.1:
                changes[path] = [("D", path), ("C", path)]
    return [change for path in sorted(changes) for change in changes[path]]


def test_the_work_grows_with_the_number_of_deleted_files() -> None:
    """Ten times as many deleted files take ten times as many calls and steps of the interpreter, not a hundred."""
    few, many = (_steps([f"/m/{number}" for number in range(count)]) for count in (200, 2000))
    assert many < 15 * few


def _steps(paths: list[str]) -> int:
    """How many lines of Python it takes to merge deletions of files into the layer that has them."""
    lines = 0

    def count(*_: object) -> object:
        nonlocal lines
        lines += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)  # type: ignore[arg-type]
    try:
        merged([("C", path, 1) for path in paths], [("D", path) for path in paths])
    finally:
        sys.settrace(before)
    return lines
