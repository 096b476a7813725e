"""Which directories of this machine containers see without a volume that names them."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import DirectoryRefused
from nbcontainer.linux.paths import resolve
from nbcontainer.store import shared_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAY_OUT = "or write -v "


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This user's home is `own`, and `home/ann` is that of another one."""
    for name in ("own/project", "home/ann/project", "store/blobs", "work"):
        (tmp_path / name).mkdir(parents=True)
    real = pwd.getpwall()
    ann = pwd.struct_passwd(("ann", "x", 1000, 1000, "", str(tmp_path / "home/ann"), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [*real, ann])
    monkeypatch.setenv("HOME", str(tmp_path / "own"))
    shared_directory._homes.cache_clear()
    yield
    shared_directory._homes.cache_clear()


def judge(path: str | Path, tmp_path: Path) -> str:
    """The line about a directory, empty for one that is shown."""
    try:
        with resolve(path) as place:
            shared_directory.check(place, tmp_path / "store")
    except DirectoryRefused as error:
        return error.notice
    return ""


@pytest.mark.parametrize("name", ["work", "own/project", "home/ann/project"])
def test_a_directory_of_a_project_is_shown(name: str, tmp_path: Path) -> None:
    """A directory beside homes or in one is shown."""
    assert judge(tmp_path / name, tmp_path) == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("own", "the notebook is in your home directory: move it to a subdirectory"),
        ("home/ann", "the notebook is in a home directory"),
        ("home", "contains the home directory"),
        ("", "contains "),
        ("store", "contains the store"),
        ("store/blobs", "is in the store"),
    ],
)
def test_homes_and_the_store_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    """A home, the store, and what is above or, for the store, below it are refused, with the way out."""
    line = judge(tmp_path / name, tmp_path)
    assert reason in line
    path = (tmp_path / name).resolve()
    assert line.endswith(f"{WAY_OUT}{path}:{path}")


@pytest.mark.parametrize("path", ["/", "/home", "/etc", "/usr", "/var", "/proc", "/sys/kernel", "/dev", "/tmp"])
def test_directories_of_the_system_are_refused(path: str, tmp_path: Path) -> None:
    """So are / and the system's own directories, and /tmp, where all users may write."""
    assert WAY_OUT in judge(path, tmp_path)


def test_a_link_to_a_home_is_a_home(tmp_path: Path) -> None:
    """The directory counts, and not the name by which it was reached."""
    (tmp_path / "link").symlink_to(tmp_path / "own")
    assert "home directory" in judge(tmp_path / "link", tmp_path)


def test_a_store_behind_a_link_is_the_store(tmp_path: Path) -> None:
    """The store's path may have links, too."""
    (tmp_path / "work" / "kept").mkdir()
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").symlink_to(tmp_path / "work" / "kept")
    assert "contains the store" in judge(tmp_path / "work", tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757, 0o773])
def test_one_that_other_users_may_write_is_refused(mode: int, tmp_path: Path) -> None:
    """Write permission for all users counts, with the sticky bit or without, and where they cannot list it."""
    (tmp_path / "work").chmod(mode)
    assert "may be written by other users" in judge(tmp_path / "work", tmp_path)


@pytest.mark.parametrize(("members", "refused"), [([], False), (["ann"], True)])
def test_a_group_counts_if_it_has_other_members(
    members: list[str], refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of the user's own group (umask 002) is shown; one of a group with others is not."""
    import grp

    own = grp.struct_group(("own", "x", (tmp_path / "work").stat().st_gid, members))
    monkeypatch.setattr(grp, "getgrgid", lambda _: own)
    me = [user for user in pwd.getpwall() if user.pw_uid == os.geteuid()]
    monkeypatch.setattr(pwd, "getpwall", lambda: me)
    (tmp_path / "work").chmod(0o775)
    assert ("may be written by other users of a group" in judge(tmp_path / "work", tmp_path)) is refused


def test_an_access_control_list_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that names further users shows in the bits of the group."""
    monkeypatch.setattr(shared_directory, "_has_others", lambda _: False)
    monkeypatch.setattr(os, "getxattr", lambda *_, **__: b"list")
    (tmp_path / "work").chmod(0o770)
    assert "other users of a group" in judge(tmp_path / "work", tmp_path)


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o1777, False)])
def test_one_that_other_users_may_replace_is_refused(mode: int, refused: bool, tmp_path: Path) -> None:
    """Write permission above it lets other users put another directory in its place, but not if it is sticky."""
    (tmp_path / "own").chmod(mode)
    assert ("may be replaced by other users" in judge(tmp_path / "own/project", tmp_path)) is refused


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    """Root's notebook in a directory of a user: that user may write there."""
    os.chown(tmp_path / "work", 12345, 0)
    assert "its owner, 12345" in judge(tmp_path / "work", tmp_path)
