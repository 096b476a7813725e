"""Copying a tree that another process changes meanwhile: what is not there any more is left out."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from nbcontainer.images.layers.flat import copying, links
from nbcontainer.images.layers.flat.copying import copy
from nbcontainer.images.layers.flat.flattening import opened
from nbcontainer.images.layers.flat.links import Entry, Replaced
from tests.requirements import require_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A directory to copy, and an empty one."""
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    return tmp_path / "source", tmp_path / "target"


@contextlib.contextmanager
def descriptors(*paths: Path) -> Iterator[list[int]]:
    """Descriptors of directories."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def copied(source: Path, target: Path, **options: int) -> None:
    """Copy one directory to the other."""
    with descriptors(source, target) as fds:
        copy(*fds, **options)


def test_names_of_one_link_stay_names_of_one_link(trees: tuple[Path, Path]) -> None:
    """The second name is one of the copied link, and never of what the link leads to."""
    source, target = trees
    (source / "file").write_text("the original")
    (source / "one").symlink_to(source / "file")
    os.link(source / "one", source / "two", follow_symlinks=False)
    (source / "below").mkdir()
    os.link(source / "one", source / "below" / "three", follow_symlinks=False)
    copied(source, target)
    facts = [(target / name).lstat() for name in ("one", "two", "below/three")]
    assert {stat.S_IFMT(one.st_mode) for one in facts} == {stat.S_IFLNK}
    assert len({one.st_ino for one in facts}) == 1
    assert (source / "file").stat().st_nlink == 1


def test_a_file_with_names_at_any_depth_is_copied_once(trees: tuple[Path, Path]) -> None:
    """A path may be longer than one call takes (PATH_MAX)."""
    source, target = trees
    (source / "file").write_text("text")
    with contextlib.ExitStack() as stack:
        (folder,) = stack.enter_context(descriptors(source))
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=folder)
            folder = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
            stack.callback(os.close, folder)
        os.link(source / "file", "deep", dst_dir_fd=folder)
    copied(source, target)
    assert (target / "file").stat().st_nlink == 2


def _nothing(_: Path) -> None:
    pass


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


def test_a_name_beside_too_many_is_a_copy(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can have more names in a tree that changes than its file system permits."""
    source, target = trees
    (source / "one").write_text("text")
    os.link(source / "one", source / "two")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    monkeypatch.setattr(os, "link", full)
    copied(source, target)
    assert [(target / name).read_text() for name in ("one", "two")] == ["text", "text"]


def test_a_device_that_cannot_be_made_is_left_out(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a user namespace can have devices, and the sandbox that copies it can make none."""
    require_root()
    source, target = trees
    os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(source / "whiteout", stat.S_IFCHR | 0o600, 0)
    make = os.mknod

    def refusing(name: bytes, mode: int, device: int, **options: int) -> None:
        if device:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        make(name, mode, device, **options)

    monkeypatch.setattr(os, "mknod", refusing)
    copied(source, target)
    assert [path.name for path in target.iterdir()] == ["whiteout"]


def test_a_name_that_is_listed_twice_is_copied_once(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is removed and made again while a directory is read can be there twice (readdir(3))."""
    source, target = trees
    (source / "file").write_text("text")
    (source / "directory").mkdir()
    listed = copying._Copy._listed

    def twice(one: copying._Copy, folder: int) -> Iterator[tuple[bytes, os.stat_result]]:
        found = list(listed(one, folder))
        yield from found + found

    monkeypatch.setattr(copying._Copy, "_listed", twice)
    copied(source, target)
    assert sorted(path.name for path in target.iterdir()) == ["directory", "file"]


def test_a_file_that_grows_is_copied_as_long_as_it_was(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written far behind its end, while its data is looked for, is not copied."""
    source, target = trees
    with (source / "file").open("wb") as file:
        file.write(b"data")
        file.truncate(2 << 20)
    fstat = os.fstat

    def late(fd: int) -> os.stat_result:
        """Let the file grow when its size has been read."""
        found = fstat(fd)
        if found.st_ino == (source / "file").stat().st_ino and found.st_size == 2 << 20:
            with (source / "file").open("r+b") as file:
                file.seek(64 << 20)
                file.write(b"more")
        return found

    monkeypatch.setattr(os, "fstat", late)
    copied(source, target)
    assert (source / "file").stat().st_size > 64 << 20
    assert (target / "file").read_bytes() == b"data" + bytes((2 << 20) - 4)


OTHERS: dict[str, Callable[[Path], object]] = {
    "nothing": _nothing,
    "another file": lambda path: path.write_text("another one"),
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a directory": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": _socket,
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("number", ["another number", "the same number"])
@pytest.mark.parametrize("kind", ["a file", "a link"])
def test_what_has_another_kind_than_it_was_listed_with_is_not_copied(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, kind: str, other: str, number: str
) -> None:
    """A file that was replaced is not given the owner and the mode of the one before; a pipe does not block.

    Its inode may have the number of the one before, which was free.
    """
    source, target = trees
    monkeypatch.chdir(source)
    path = source / "name"
    if kind == "a link":
        path.symlink_to("before")
    else:
        path.write_text("before")
    facts = path.lstat()
    os.link(path, "keeps its inode", follow_symlinks=False)
    path.unlink()
    OTHERS[other](path)
    if number == "the same number" and kind == "a file" and other not in ("nothing", "another file"):
        now = path.lstat()
        facts = os.stat_result((facts.st_mode, now.st_ino, now.st_dev, *facts[3:10]))
    with descriptors(source, target) as (old, new):
        if kind == "a link" and other == "a link":  # its text is that of the new one
            links.copy(Entry(old, b"name"), facts, Entry(new, b"name"))
            return
        with pytest.raises(Replaced):
            links.copy(Entry(old, b"name"), facts, Entry(new, b"name"))
    assert list(target.iterdir()) == []


def test_no_directory_is_reached_by_a_link(trees: tuple[Path, Path]) -> None:
    """Also not as the first part of a longer path: who can change the tree could have put it there."""
    source, _ = trees
    (source / "real" / "below").mkdir(parents=True)
    (source / "link").symlink_to("real")
    with descriptors(source) as (fd,), contextlib.ExitStack() as stack:
        opened(stack, fd, b"real/below")
        with pytest.raises(OSError, match="symbolic links"):
            opened(stack, fd, b"link/below")


def test_the_number_of_entries_is_limited(trees: tuple[Path, Path]) -> None:
    """Who can change the tree could make more for as long as it is copied."""
    source, target = trees
    for number in range(4):
        (source / f"file{number}").touch()
    copied(source, target, most=4)
    (target / "more").mkdir()
    with pytest.raises(OSError, match="too many entries"):
        copied(source, target / "more", most=3)


def test_what_goes_between_its_listing_and_its_copy_is_left_out(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file and a directory are removed at the worst moment; all else is copied."""
    source, target = trees
    for name in ("file", "gone", "other"):
        (source / name).write_text(name)
    for name in ("directory", "gone-too"):
        (source / name).mkdir()
        (source / name / "below").touch()

    def late_copy(one: Entry, facts: os.stat_result, made: Entry) -> None:
        if one.name == b"gone":
            os.unlink(one.name, dir_fd=one.directory)
        links.copy(one, facts, made)

    def late_open(stack: contextlib.ExitStack, root: int, path: bytes) -> int:
        if path == b"gone-too":
            shutil.rmtree(source / "gone-too", ignore_errors=True)
        return opened(stack, root, path)

    monkeypatch.setattr(copying, "copy_file", late_copy)
    monkeypatch.setattr(copying, "opened", late_open)
    copied(source, target)
    assert sorted(path.name for path in target.iterdir()) == ["directory", "file", "gone-too", "other"]
    assert [path.name for path in target.glob("*/*")] == ["below"]
