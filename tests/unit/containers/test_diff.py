"""Merging the changes of layers."""

from __future__ import annotations

import random
import sys

from nbcontainer.containers.diff import MergedChanges


def merged(*layers: list[list[str]]) -> dict[str, str]:
    """The last change of each path."""
    changes = MergedChanges()
    for layer in layers:
        changes.add(layer)
    return changes.last


def test_a_deleted_directory_hides_all_changes_below_it() -> None:
    """The changes below a deleted directory are gone; those beside it, with a similar name, stay."""
    below = [["C", "/a"], ["C", "/a/b"], ["C", "/a/b/c"], ["C", "/ab"], ["C", "/ab/c"]]
    assert merged(below, [["D", "/a"]]) == {"/a": "D", "/ab": "C", "/ab/c": "C"}


def test_a_replaced_directory_has_its_new_changes() -> None:
    """An opaque directory is deleted and changed: what its layer has below it stays."""
    below = [["C", "/a"], ["C", "/a/old"], ["C", "/a/both"]]
    assert merged(below, [["D", "/a"], ["C", "/a"], ["C", "/a/both"]]) == {"/a": "C", "/a/both": "C"}


def test_merging_equals_the_definition() -> None:
    """For random layers the result is that of the definition: a deletion removes every path that begins with it."""
    chance = random.Random(15)
    for _ in range(300):
        layers = [_random_layer(chance) for _ in range(4)]
        expected: dict[str, str] = {}
        for kind, path in (change for layer in layers for change in layer):
            if kind == "D":
                expected = {known: last for known, last in expected.items() if not known.startswith(f"{path}/")}
            expected[path] = kind
        assert merged(*layers) == expected


def _random_layer(chance: random.Random) -> list[list[str]]:
    """An upper directory's changes: every parent is there, and nothing is below a deleted path."""
    changes: dict[str, list[list[str]]] = {}
    for _ in range(6):
        parts = [chance.choice("abc") for _ in range(chance.randrange(1, 4))]
        for depth in range(1, len(parts) + 1):
            path = "/" + "/".join(parts[:depth])
            kinds = changes.setdefault(path, [["C", path]] if chance.random() < 0.7 else [["D", path]])
            if kinds == [["D", path]]:
                break
            if chance.random() < 0.1:
                changes[path] = [["D", path], ["C", path]]
    return [change for path in sorted(changes) for change in changes[path]]


def test_the_work_grows_with_the_number_of_deleted_files() -> None:
    """Ten times as many deleted files take ten times as many calls and steps of the interpreter, not a hundred."""
    few, many = (_steps([["D", f"/m/{number}"] for number in range(count)]) for count in (200, 2000))
    assert many < 15 * few


def _steps(deleted: list[list[str]]) -> int:
    """How many lines of Python it takes to merge these changes into a layer that has the same paths."""
    lines = 0

    def count(*_: object) -> object:
        nonlocal lines
        lines += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)  # type: ignore[arg-type]
    try:
        merged([["C", path] for _, path in deleted], deleted)
    finally:
        sys.settrace(before)
    return lines
