"""Merging layers by hard links: the result has the effect of the layers, one on the other."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.images.layers.flat.flattening import flatten
from nbcontainer.images.layers.whiteouts import OPAQUE_XATTR, is_opaque
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("NBCONTAINER_FLATTEN_ROUNDS", "60"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system with attributes of users, for a user that may make whiteouts."""
    try:
        os.setxattr(tmp_path, "user.x", b"")
        os.mknod(tmp_path / "whiteout", stat.S_IFCHR, 0)
    except OSError as error:
        require("whiteouts", available=False, why=str(error))
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def merge(place: Path, *layers: str) -> Path:
    """Flatten directories of `place`, the topmost first, into a new one."""
    target = place / "flat"
    target.mkdir()
    fds = [os.open(place / name, os.O_RDONLY) for name in (*layers, "flat")]
    try:
        flatten(fds[:-1], fds[-1])
    finally:
        for fd in fds:
            os.close(fd)
    return target


def whiteout(path: Path) -> None:
    """Make a whiteout as overlayfs does."""
    os.mknod(path, stat.S_IFCHR, 0)


def opaque(path: Path) -> bool:
    """Whether a directory is opaque."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return is_opaque(fd)
    finally:
        os.close(fd)


def test_the_topmost_wins_and_no_byte_is_copied(place: Path) -> None:
    """Of each name the topmost file is there, as a second name of the same inode; directories are merged."""
    for name, text in (("low", "old"), ("high", "new")):
        (place / name / "d").mkdir(parents=True)
        (place / name / "d" / "both").write_text(text)
        (place / name / "d" / name).write_text(text)
    (place / "low" / "link").symlink_to("/etc/passwd")
    flat = merge(place, "high", "low")
    assert sorted(path.name for path in (flat / "d").iterdir()) == ["both", "high", "low"]
    assert (flat / "d" / "both").stat().st_ino == (place / "high" / "d" / "both").stat().st_ino
    assert str((flat / "link").readlink()) == "/etc/passwd"
    assert not opaque(flat / "d")


def test_directories_keep_mode_times_and_attributes(place: Path) -> None:
    """A merged directory has mode, times and attributes of the topmost one, without the notes of overlayfs."""
    for name in ("high", "low"):
        (place / name / "d").mkdir(parents=True)
    high = place / "high" / "d"
    os.setxattr(high, "user.mine", b"1")
    os.setxattr(high, "user.overlay.origin", b"1")
    high.chmod(0o1751)
    os.utime(high, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    flat = merge(place, "high", "low") / "d"
    found = flat.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o1751, 1_400_000_000_987_654_321)
    assert os.listxattr(flat) == ["user.mine"]


def test_deletions_hide_what_is_below_and_stay(place: Path) -> None:
    """A whiteout hides a lower file, and is there for what the image has; a new file replaces it."""
    for name in ("high", "low"):
        (place / name).mkdir()
    (place / "low" / "gone").write_text("")
    whiteout(place / "high" / "gone")
    whiteout(place / "low" / "back")
    (place / "high" / "back").write_text("again")
    flat = merge(place, "high", "low")
    assert stat.S_ISCHR((flat / "gone").lstat().st_mode)
    assert (flat / "back").read_text() == "again"


@pytest.mark.parametrize("how", ["opaque", "whiteout", "file"])
def test_a_directory_that_was_made_anew_is_opaque(place: Path, how: str) -> None:
    """If something was removed before a directory was made, the directory hides what all layers below have."""
    (place / "high" / "d").mkdir(parents=True)
    (place / "high" / "d" / "new").write_text("")
    (place / "low").mkdir()
    if how == "opaque":
        os.setxattr(place / "high" / "d", OPAQUE_XATTR, b"y")
        (place / "low" / "d").mkdir()
        (place / "low" / "d" / "old").write_text("")
    elif how == "whiteout":
        whiteout(place / "low" / "d")
    else:
        (place / "low" / "d").write_text("")
    flat = merge(place, "high", "low")
    assert [path.name for path in (flat / "d").iterdir()] == ["new"]
    assert opaque(flat / "d")


def test_names_of_one_file_stay_so(place: Path) -> None:
    """Hard links in a layer are hard links in the result."""
    (place / "low").mkdir()
    (place / "low" / "a").write_text("x")
    os.link(place / "low" / "a", place / "low" / "b")
    flat = merge(place, "low")
    assert (flat / "a").stat().st_ino == (flat / "b").stat().st_ino


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_file_that_can_have_no_more_names_is_copied(place: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """At the limit of names (EMLINK) the file is copied once, with all its metadata, and keeps its names together."""
    (place / "low" / "d").mkdir(parents=True)
    first = place / "low" / "a"
    first.write_bytes(b"x" * 100_000)
    os.truncate(first, 1 << 20)
    os.setxattr(first, "user.mine", b"1")
    first.chmod(0o4640)
    os.utime(first, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    for name in ("b", "d/c"):
        os.link(first, place / "low" / name)
    made, original = 0, os.link

    def full(*arguments: Any, **keywords: Any) -> None:
        nonlocal made
        if keywords.get("follow_symlinks") is False and keywords.get("src_dir_fd") != keywords.get("dst_dir_fd"):
            if os.lstat(arguments[0], dir_fd=keywords["src_dir_fd"]).st_ino == first.stat().st_ino and made >= room:
                raise OSError(errno.EMLINK, "too many links")
            made += 1
        original(*arguments, **keywords)

    monkeypatch.setattr(os, "link", full)
    before = first.stat()
    flat = merge(place, "low")
    found = [(flat / name).stat() for name in ("a", "b", "d/c")]
    assert len({facts.st_ino for facts in found}) == 1
    assert (found[0].st_ino, found[0].st_nlink) != (before.st_ino, before.st_nlink)
    assert (found[0].st_mode, found[0].st_mtime_ns, found[0].st_size) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_size,
    )
    assert (flat / "a").read_bytes() == first.read_bytes()
    assert os.getxattr(flat / "a", "user.mine") == b"1"


def test_any_depth(place: Path) -> None:
    """Directories nested deeper than a path can be, and than descriptors can be open, are merged."""
    for name in ("high", "low"):
        (place / name).mkdir()
        fd = os.open(place / name, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d" * 20, dir_fd=fd)
            below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open(name, os.O_CREAT, dir_fd=fd))
        os.close(fd)
    flat = merge(place, "high", "low")
    fd = os.open(flat, os.O_RDONLY)
    for _ in range(1500):
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    assert sorted(entry.name for entry in os.scandir(fd)) == ["high", "low"]
    os.close(fd)
    subprocess.run(["rm", "-rf", place / "high", place / "low", flat], check=True)


def test_no_link_is_followed(place: Path) -> None:
    """A link where a lower layer has a directory leads nowhere: it hides the directory, and its target stays empty."""
    victim = place / "victim"
    victim.mkdir()
    (place / "high").mkdir()
    (place / "high" / "d").symlink_to(victim)
    (place / "low" / "d").mkdir(parents=True)
    (place / "low" / "d" / "file").write_text("x")
    (place / "lowest" / "d").mkdir(parents=True)
    flat = merge(place, "high", "low", "lowest")
    assert (flat / "d").is_symlink()
    assert not list(victim.iterdir())


Tree = dict[str, str | None]


def changed(generator: random.Random, tree: Tree, layer: Path) -> Tree:
    """Change a tree (paths, None for a directory) by chance, and note the changes in `layer` as overlayfs does."""
    tree = dict(tree)
    layer.mkdir()
    for _ in range(6):
        parent = generator.choice(["", *(path for path, what in tree.items() if what is None)])
        path = f"{parent}/{generator.choice('abc')}".lstrip("/")
        if path.count("/") > 2:
            continue
        (layer / parent).mkdir(parents=True, exist_ok=True)
        there, target = path in tree, layer / path
        action = generator.choice(["file", "directory", "remove"])
        if action == "directory" and there and tree[path] is None:
            continue
        for below in [one for one in tree if one == path or one.startswith(path + "/")]:
            del tree[below]
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if action == "remove":
            whiteout(target)
        elif action == "file":
            tree[path] = str(generator.random())
            target.write_text(str(tree[path]))
        else:
            tree[path] = None
            target.mkdir()
            os.setxattr(target, OPAQUE_XATTR, b"y")
    return tree


def seen(*layers: Path) -> Tree:
    """What overlayfs shows of layers, the topmost first: a model of its own."""
    tree: Tree = {}
    for layer in reversed(layers):
        for folder, names, files in os.walk(layer):
            inside = os.path.relpath(folder, layer)
            for name in (*names, *files):
                path = os.path.normpath(f"{inside}/{name}")
                real = layer / path
                if real.is_dir() and not opaque(real) and tree.get(path, "") is None:
                    continue
                for below in [one for one in tree if one == path or one.startswith(path + "/")]:
                    del tree[below]
                if real.is_dir():
                    tree[path] = None
                elif real.is_file():
                    tree[path] = real.read_text()
    return tree


def test_any_merged_layers_show_what_the_layers_show(place: Path) -> None:
    """For random changes: any run of layers, flattened, shows with the rest what all layers show one by one."""
    for seed in range(ROUNDS):
        generator = random.Random(seed)
        folder = place / str(seed)
        folder.mkdir()
        tree: Tree = {}
        names = [f"{number}" for number in range(5)]
        for name in names:
            tree = changed(generator, tree, folder / name)
        layers = [folder / name for name in reversed(names)]
        assert seen(*layers) == tree
        low, high = sorted(generator.sample(range(6), 2))
        flat = merge(folder, *reversed(names[low:high]))
        assert seen(*layers[: 5 - high], flat, *layers[5 - low :]) == tree, seed
