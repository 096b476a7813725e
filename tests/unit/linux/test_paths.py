"""Walking a host path one name at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.linux.paths import LINKS_MAX, absolute, resolve, resolve_existing
from tests.running import open_descriptors


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A real directory with directories, a file and links in it."""
    found = tmp_path.resolve()
    (found / "a" / "b").mkdir(parents=True)
    (found / "a" / "file").write_text("text")
    (found / "link").symlink_to("a/b")
    (found / "far").symlink_to(found / "a")
    (found / "a" / "up").symlink_to("../link/..")
    (found / "file-link").symlink_to("far/file")
    return found


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b",
        "a/file",
        "a/",
        "./a/.",
        "a/b/..",
        "a//b",
        "link",
        "link/..",
        "link/../file",
        "far/b",
        "far/up/up/b",
        "file-link",
        "../../..",
        "..",
        ".",
    ],
)
def test_it_leads_where_the_kernel_goes(path: str, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is the one that stat(2) finds, by its path without links, from the working directory or the root."""
    monkeypatch.chdir(top)
    for whole in (path, f"{top}/{path}", Path(path)):
        with resolve(whole) as place:
            facts = Path(path).stat()
            assert place.node.path == str(Path(path).resolve())
            assert (place.node.device, place.node.inode) == (facts.st_dev, facts.st_ino)
            assert (place.mode, os.fstat(place.fd).st_ino) == (facts.st_mode, facts.st_ino)


def test_what_lies_above_is_known(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory from the root down is listed, those above the working directory among them."""
    monkeypatch.chdir(top / "a")
    with resolve("b") as place:
        assert [node.path for node in place.nodes] == [str(each) for each in [*(top / "a" / "b").parents][::-1]] + [
            str(top / "a" / "b")
        ]
        assert [node.inode for node in place.nodes] == [Path(node.path).stat().st_ino for node in place.nodes]
        assert place.links == ()


def test_each_link_that_was_followed_is_known(top: Path) -> None:
    """A link is listed with its real path, its text and the directories that it really lies in."""
    with resolve(f"{top}/far/up") as place:
        assert [(link.path, link.target) for link in place.links] == [
            (f"{top}/far", f"{top}/a"),
            (f"{top}/a/up", "../link/.."),
            (f"{top}/link", "a/b"),
        ]
        assert [link.above[-1].path for link in place.links] == [str(top), f"{top}/a", str(top)]
        assert {link.above[0].path for link in place.links} == {"/"}


def test_no_more_links_than_in_the_kernel(tmp_path: Path) -> None:
    """Forty links are followed, and one more, or a circle, is ELOOP."""
    (tmp_path / "0").mkdir()
    for number in range(1, LINKS_MAX + 2):
        (tmp_path / str(number)).symlink_to(str(number - 1))
    (tmp_path / "circle").symlink_to("circle")
    resolve(tmp_path / str(LINKS_MAX)).close()
    for name in (str(LINKS_MAX + 1), "circle"):
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            resolve(tmp_path / name)


@pytest.mark.parametrize("path", ["none", "none/x", "a/file/x", "a/file/..", "dangling", "a/none/.."])
def test_what_is_not_there(path: str, top: Path) -> None:
    """A missing name, and a name below a file, are the kernel's errors; nothing stays open."""
    (top / "dangling").symlink_to("nowhere")
    before = open_descriptors()
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        resolve(top / path)
    assert open_descriptors() == before


def test_a_descriptor_leads_to_what_was_found(top: Path) -> None:
    """What is opened by a place is what was found there, whatever has its name by then."""
    with resolve(top / "a" / "file") as place:
        (top / "a" / "file").rename(top / "a" / "old")
        (top / "a" / "file").write_text("other")
        with os.fdopen(place.open(os.O_RDONLY)) as file:
            assert file.read() == "text"


def test_a_directory_that_is_moved_under_way_is_noticed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`..` leads to the directory that was come from, or nowhere."""
    real = os.open

    def move(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "..":
            (top / "a" / "b").rename(top / "moved")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", move)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        resolve(top / "a" / "b" / ".." / "file")


def test_in_a_removed_directory_only_whole_paths_lead_somewhere(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is an error about the directory, and leaves nothing open."""
    (top / "gone").mkdir()
    monkeypatch.chdir(top / "gone")
    (top / "gone").rmdir()
    before = open_descriptors()
    for call in (resolve, resolve_existing, absolute):
        with pytest.raises(UsageError, match=r"^the current directory was removed; change to another one with `%cd`$"):
            call("x")
    assert open_descriptors() == before
    assert absolute(top) == top
    resolve(top).close()


def test_what_is_there_of_a_path(top: Path) -> None:
    """The nearest directory that is there is found, and the names that are missing below it."""
    place, missing = resolve_existing(top / "link" / "x" / "y")
    with place:
        assert (place.node.path, missing) == (f"{top}/a/b", ("x", "y"))
    place, missing = resolve_existing(top / "a")
    with place:
        assert (place.node.path, missing) == (f"{top}/a", ())


def _descriptors() -> int:
    return open_descriptors()


def test_a_failing_call_leaves_no_descriptor(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever call of a walk fails first, no descriptor stays open."""
    fail_at = 0
    real = os.fstat

    def fstat(fd: int) -> os.stat_result:
        nonlocal fail_at
        fail_at -= 1
        if fail_at == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd)

    before = _descriptors()
    left: dict[int, int] = {}  # by call that failed
    for call in range(1, 100):
        fail_at = call
        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", fstat)
            try:
                resolve(top / "far" / "b").close()
            except OSError:
                left[call] = _descriptors() - before
            else:
                break
    assert len(left) > len(top.parts)
    assert set(left.values()) == {0}
