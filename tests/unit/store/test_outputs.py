"""Files of the host's that are written whole or not at all, and what else is written to."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import ImageError
from nbcontainer.store import outputs
from nbcontainer.store.outputs import replacing

if TYPE_CHECKING:
    from nbcontainer.store.layout import Store


def write(store: Store, target: Path, data: bytes = b"new") -> None:
    with replacing(store, target) as fd:
        os.write(fd, data)


@pytest.fixture(params=["nameless", "named"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With files that have no name until they are whole, and on a file system without."""
    real = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, mode, dir_fd=dir_fd)

    if request.param == "named":
        monkeypatch.setattr(os, "open", refuse)
    return str(request.param)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("old", ["nothing", "a file", "a link", "a link to nothing", "a link to a pipe"])
def test_what_has_the_name_is_replaced(old: str, store: Store, tmp_path: Path) -> None:
    """The new file takes the place of a file or of the link itself; what it leads to stays, and nothing else does."""
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "other").write_text("other")
    os.mkfifo(tmp_path / "pipe")
    target = place / ("x" * 250 + ".tar")  # no room for more in its name
    if old == "a file":
        target.write_text("old")
    elif old != "nothing":
        target.symlink_to({"a link": "../other", "a link to a pipe": "../pipe"}.get(old, "../none"))
    write(store, target)
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert (tmp_path / "other").read_text() == "other"
    assert list(place.iterdir()) == [target]


@pytest.mark.usefixtures("kind")
def test_after_an_error_it_is_as_before(store: Store, tmp_path: Path) -> None:
    """What fails on the way leaves the old file, and nothing beside it."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "x.tar").write_text("old")
    with pytest.raises(ImageError, match="No space left on device; free some space"), replacing(store, place / "x.tar"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [path.read_text() for path in place.iterdir()] == ["old"]


def test_a_missing_file_of_its_content_is_not_its_directory(store: Store, tmp_path: Path) -> None:
    """If something that is to be written into the file is missing, the error names that, and makes no directory."""
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "inner")
    with (
        pytest.raises(ImageError, match="'inner' was there and is not; try") as raised,
        replacing(store, tmp_path / "x"),
    ):
        raise missing
    assert "mkdir" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none/x.tar", "No such file or directory; mkdir -p"),
        ("no ne/x.tar", "No such file or directory; mkdir -p '/.*/no ne'$"),
        ("folder", "Is a directory; name a file in it"),
        ("folder/", "Is a directory; name a file in it"),
        ("folder/..", "Is a directory; name a file in it"),
        ("pipe", "it is a pipe, a socket or a device; name another file, or redirect"),
        ("file/x.tar", "Not a directory; check the path: a part of it is not a directory"),
        ("loop/x.tar", "Too many levels of symbolic links; check the path: its symbolic links lead in a circle"),
        ("x" * 300, "File name too long; choose a shorter path"),
    ],
)
def test_what_cannot_be_written(name: str, words: str, store: Store, tmp_path: Path) -> None:
    """Each is one line with what to do; no pipe is waited for."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for do in (write, outputs.check):
        with pytest.raises(ImageError, match=words):
            do(store, Path(f"{tmp_path}/{name}"))


def test_a_check_changes_nothing(store: Store, tmp_path: Path) -> None:
    """What can be written is as it was after the check, and beside it there is nothing new."""
    (tmp_path / "old.tar").write_text("old")
    for name in ("old.tar", "new.tar"):
        outputs.check(store, tmp_path / name)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.tar*")} == {"old.tar": "old"}


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "/dev/stdout"])
def test_a_descriptor_of_this_process_is_written_to(name: str, store: Store, tmp_path: Path) -> None:
    """/dev/stdout and /dev/fd/N are not paths here: the file that is open there is written to, and no name replaced."""
    with (tmp_path / "out").open("wb+", buffering=0) as file:
        file.write(b"old ")
        saved = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            write(store, Path(name.format(file.fileno())))
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert (tmp_path / "out").read_bytes() == b"old new"
    assert Path("/dev/stdout").is_symlink()


def test_a_descriptor_that_is_not_open_is_an_error(store: Store) -> None:
    """A number that nothing is open by is one line."""
    with pytest.raises(ImageError, match="Bad file descriptor"):
        write(store, Path("/dev/fd/987654"))


def test_the_null_device_takes_everything(store: Store) -> None:
    """/dev/null is written to, as everywhere: it stays a device."""
    write(store, Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
    with pytest.raises(ImageError, match="it is a pipe, a socket or a device"):
        write(store, Path("/dev/full"))
