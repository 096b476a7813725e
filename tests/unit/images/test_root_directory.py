"""When a root directory counts as changed, and what a new one takes from the layer below."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.images.comparison import root_directory
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str, int]:
    """A new upper directory that is like the one below, and when it was made."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    os.utime(lower, (5, 5))
    upper.mkdir()
    root_directory.match(str(upper), str(lower), lower.stat())
    return str(upper), str(lower), upper.stat().st_ctime_ns


def test_a_new_one_is_like_the_one_below(pair: tuple[str, str, int]) -> None:
    """It has the time of the lower one, and does not count as changed."""
    upper, lower, made = pair
    assert Path(upper).stat().st_mtime == 5
    assert not root_directory.changed(upper, lower, made)


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        (lambda path: Path(path).chmod(0o751), True),
        (lambda path: os.utime(path, (7, 7)), True),
        (lambda path: [change(Path(path, "a")) for change in (Path.mkdir, Path.rmdir)], False),
    ],
    ids=["mode", "an earlier time", "a file that is gone"],
)
def test_what_counts_as_a_change(pair: tuple[str, str, int], change: Callable[[str], object], changes: object) -> None:
    """A mode and an earlier time do; the time that making and removing files leaves does not."""
    upper, lower, made = pair
    change(upper)
    assert root_directory.changed(upper, lower, made) is changes


def test_attributes_count(pair: tuple[str, str, int]) -> None:
    """An attribute of a user's counts as a change, one of overlayfs does not; both by path and by descriptor."""
    upper, lower, made = pair
    try:
        os.setxattr(upper, "user.overlay.impure", b"y")
    except OSError as error:
        require("attributes", available=False, why=f"the file system has no attributes of users: {error}")
    assert not root_directory.changed(upper, lower, made)
    os.setxattr(upper, "user.name", b"x")
    assert root_directory.changed(upper, lower, made)
    below = os.open(lower, os.O_RDONLY)
    assert root_directory.changed(upper, below, made)
    os.close(below)
