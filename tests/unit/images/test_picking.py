"""Picking paths of one tree for another: the result is right on any layers, and no link is followed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import ContainerError
from nbcontainer.images.layers.flat.flattening import flatten
from nbcontainer.images.layers.flat.picking import pick
from nbcontainer.images.layers.whiteouts import OPAQUE_XATTR, is_opaque
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory on a file system with attributes of users, for a user that may make whiteouts."""
    try:
        os.setxattr(tmp_path, "user.x", b"")
        os.mknod(tmp_path / "whiteout", stat.S_IFCHR, 0)
    except OSError as error:
        require("whiteouts", available=False, why=str(error))
    return tmp_path


def picked(place: Path, old: list[str], now: list[str], *paths: bytes) -> tuple[Path, list[bytes]]:
    """Pick paths for a new layer; the topmost layers are first."""
    target = place / "new"
    target.mkdir()
    fds = [os.open(place / name, os.O_RDONLY) for name in (*old, *now, "new")]
    try:
        return target, pick(fds[: len(old)], fds[len(old) : -1], fds[-1], paths)
    finally:
        for fd in fds:
            os.close(fd)


def opaque(path: Path) -> bool:
    """Whether a directory is opaque."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return is_opaque(fd)
    finally:
        os.close(fd)


def is_whiteout(path: Path) -> bool:
    """Whether a file is a whiteout."""
    facts = path.lstat()
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def test_a_directory_is_merged_and_hides_what_came_later(place: Path) -> None:
    """A picked directory has what all layers of its tree have in it, is opaque, and has no whiteout."""
    (place / "low/d/e").mkdir(parents=True)
    (place / "low/d/e/x").write_text("x")
    (place / "low/d/gone").write_text("gone")
    (place / "top/d").mkdir(parents=True)
    (place / "top/d/y").write_text("y")
    os.mknod(place / "top/d/gone", stat.S_IFCHR, 0)
    new, missing = picked(place, ["top", "low"], ["top", "low"], b"d")
    assert missing == []
    assert opaque(new / "d")
    assert sorted(str(path.relative_to(new)) for path in new.rglob("*")) == ["d", "d/e", "d/e/x", "d/y"]
    assert (new / "d/y").stat().st_ino == (place / "top/d/y").stat().st_ino


def test_what_the_tree_lacks_becomes_a_whiteout(place: Path) -> None:
    """A path that only the present tree has is hidden; one in neither tree is reported and makes nothing."""
    (place / "old").mkdir()
    (place / "now/a").mkdir(parents=True)
    (place / "now/a/f").write_text("f")
    (place / "now/a").chmod(0o710)
    new, missing = picked(place, ["old"], ["now"], b"a/f", b"b/none", b"none")
    assert is_whiteout(new / "a/f")
    assert stat.S_IMODE((new / "a").stat().st_mode) == 0o710
    assert missing == [b"b/none", b"none"]
    assert sorted(os.listdir(new)) == ["a"]  # noqa: PTH208


def test_a_whiteout_ends_the_search(place: Path) -> None:
    """What a whiteout or an opaque directory hides in lower layers is not picked."""
    (place / "low/d").mkdir(parents=True)
    (place / "low/d/x").write_text("x")
    (place / "low/f").write_text("f")
    (place / "top/d").mkdir(parents=True)
    os.setxattr(place / "top/d", OPAQUE_XATTR, b"y")
    os.mknod(place / "top/f", stat.S_IFCHR, 0)
    new, missing = picked(place, ["top", "low"], ["low"], b"d/x", b"f")
    assert missing == []
    assert is_whiteout(new / "f")
    assert is_whiteout(new / "d/x")


@pytest.mark.parametrize("side", ["old", "now"])
def test_a_link_on_the_way_is_refused(place: Path, side: str) -> None:
    """A link above a path, in either tree, leads nowhere: the directory behind it is not read and not changed."""
    (place / "outside").mkdir()
    (place / "outside/f").write_text("f")
    for name in ("old", "now"):
        (place / name).mkdir()
        if name == side:
            (place / name / "d").symlink_to(place / "outside")
        else:
            (place / name / "d").mkdir()
            (place / name / "d/f").write_text("inside")
    with pytest.raises(ContainerError, match="it is a link"):
        picked(place, ["old"], ["now"], b"d/f")
    assert (place / "outside/f").stat().st_nlink == 1
    assert os.listdir(place / "outside") == ["f"]  # noqa: PTH208


def test_names_of_one_file_and_its_facts_are_kept(place: Path) -> None:
    """Two picked names of one file are names of one file; mode, time and attributes are those of the tree."""
    (place / "old").mkdir()
    (place / "now").mkdir()
    (place / "old/a").write_text("a")
    os.setxattr(place / "old/a", "user.mine", b"1")
    os.utime(place / "old/a", ns=(5, 7_000_000_003))
    os.link(place / "old/a", place / "old/b")
    new, _ = picked(place, ["old"], ["now"], b"a", b"b")
    assert (new / "a").stat().st_ino == (new / "b").stat().st_ino
    assert (new / "a").stat().st_mtime_ns == 7_000_000_003
    assert os.getxattr(new / "b", "user.mine") == b"1"


def test_a_path_of_many_parts_in_many_layers_needs_few_descriptors(place: Path) -> None:
    """Descriptors of directories on the way are closed: at most two levels are open at a time."""
    deep = "/".join(["d"] * 60)
    layers = [f"layer{number}" for number in range(40)]
    for name in layers:
        (place / name / deep).mkdir(parents=True)
    (place / layers[-1] / deep / "f").write_text("f")
    new, missing = picked(place, layers, layers, f"{deep}/f".encode())
    assert missing == []
    assert (new / deep / "f").read_text() == "f"


def test_flattened_whiteouts_below_an_opaque_directory_are_left_out(place: Path) -> None:
    """In a directory of an opaque one a whiteout hides nothing, and overlayfs would list it as a file."""
    (place / "low/d/e").mkdir(parents=True)
    os.setxattr(place / "low/d", OPAQUE_XATTR, b"y")
    (place / "low/d/e/x").write_text("x")
    (place / "top/d/e").mkdir(parents=True)
    os.mknod(place / "top/d/e/x", stat.S_IFCHR, 0)
    (place / "flat").mkdir()
    fds = [os.open(place / name, os.O_RDONLY) for name in ("top", "low", "flat")]
    try:
        assert flatten(fds[:-1], fds[-1]) == []
    finally:
        for fd in fds:
            os.close(fd)
    assert os.listdir(place / "flat/d/e") == []  # noqa: PTH208
