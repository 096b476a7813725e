"""The changes of a volume: those of several layers together, and which of them are in a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcontainer.images.cow import comparing, merged

if TYPE_CHECKING:
    from pathlib import Path


def view_of(*layers: Path) -> comparing.View:
    """Return the view of layers on a directory that has nothing."""
    opened = [os.open(layer, os.O_RDONLY | os.O_DIRECTORY) for layer in layers]
    try:
        return comparing.View(-1, (), merged.merge(opened), {}, 0)
    finally:
        for fd in opened:
            os.close(fd)


def made(top: Path, *paths: str) -> Path:
    """Make a layer with these files, and directories where a path ends with a slash."""
    top.mkdir()
    for path in paths:
        place = top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir()
        else:
            place.write_text("")
    return top


def test_what_is_in_a_directory_is_found_beside_names_that_begin_like_it(tmp_path: Path) -> None:
    """Names with characters that sort before and after the slash are not in it; what is deep in it is."""
    view = view_of(made(tmp_path / "layer", "d/x", "d/e/f/g", "d-/x", "d.e", "d0/y", "d!/z", "e"))
    assert [*view.inside(b"d")] == [b"d/e", b"d/e/f", b"d/e/f/g", b"d/x"]
    assert [*view.inside(b"d/e")] == [b"d/e/f", b"d/e/f/g"]
    assert [*view.inside(b"d/e/f/g")] == []
    assert [*view.inside(b"")] == [path for path in view.entries if path]


def test_a_replaced_directory_takes_away_what_was_in_it_and_nothing_else(tmp_path: Path) -> None:
    """A layer with a file of its name; a third one makes it a directory again, which hides the one below."""
    first, second = made(tmp_path / "1", "d/e/x", "d-/x", "f/x"), made(tmp_path / "2", "d")
    assert [*view_of(first, second).entries] == [b"", b"d", b"d-", b"d-/x", b"f", b"f/x"]
    found = view_of(first, second, made(tmp_path / "3", "d/e/y")).entries
    assert [path for path in found if path.startswith(b"d/")] == [b"d/e", b"d/e/y"]
    assert found[b"d"].kind is merged.Kind.OPAQUE


def test_each_entry_is_looked_at_a_few_times(tmp_path: Path) -> None:
    """2,000 directories that replace others: their contents are found by a step for each, not one for each pair."""
    names = [f"d{number}" for number in range(2000)]
    old, new = made(tmp_path / "old", *(f"{name}/x" for name in names)), made(tmp_path / "new", *names)
    compared = 0

    class Counted(bytes):
        """A path that counts how often it is compared."""

        def startswith(self, *prefix: object) -> bool:
            nonlocal compared
            compared += 1
            return bytes(self).startswith(*prefix)  # type: ignore[arg-type]

    view = view_of(old)
    entries: merged.Entries = {Counted(path): entry for path, entry in view.entries.items()}
    view = comparing.View(-1, (), entries, {}, 0)
    assert sum(len([*view.inside(path)]) for path in entries) == 4000 + 2000
    assert compared < 4 * len(entries)
    assert len(view_of(old, new).entries) == 2001
