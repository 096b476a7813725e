"""`apply` that is killed between any two renames: the next one completes it, and `discard` moves everything back."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from nbcontainer.images.cow import below, comparing, merged, placing, recovering
from nbcontainer.images.cow.before import Before
from nbcontainer.images.cow.below import renameat2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Found = TypeVar("Found")

MOVES = 5
"""The renames that these changes take."""

LATER = 1 << 63
"""A time after all: nothing counts as changed meanwhile."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of the host's."""
    top = tmp_path / "data"
    for name in ("a", "b", "gone/f", "sub/x"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"{name} of the host\n")
    return top


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A layer that changes, replaces, adds and removes."""
    top = tmp_path / "layer"
    (top / "n" / "deep").mkdir(parents=True)
    (top / "sub").mkdir()
    for name in ("a", "n/deep/f", "sub/y"):
        (top / name).write_text(f"{name} of the layer\n")
    for name in ("b", "gone"):
        os.mknod(top / name, 0o20000, 0)
    return top


def tree(top: Path) -> dict[str, str]:
    """The text of each file below a directory."""
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


def names(top: Path) -> list[str]:
    """The names in a directory."""
    return sorted(path.name for path in top.iterdir())


def on_view(data: Path, layer: Path, act: Callable[[comparing.View], Found]) -> Found:
    """Call a function on the changes of a layer to a directory."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (data, layer)]
    try:
        return act(comparing.View(fds[0], fds[1:], merged.merge(fds[1:]), {}, LATER))
    finally:
        for fd in fds:
            os.close(fd)


def apply(view: comparing.View) -> None:
    """Apply the changes."""
    assert placing.apply(view, b"test").conflicts == []


def recover(view: comparing.View) -> list[tuple[bytes, bytes]]:
    """Move everything back; return what is left."""
    return recovering.recover(view, placing.left_area(view, b"test")).left


def apply_in_a_child(data: Path, layer: Path) -> int:
    """Apply in another process, which a replaced function may kill; return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            on_view(data, layer, apply)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def killed_at(number: int, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Apply in a process that kills itself before its rename of that number, from 0; return its wait status."""
    count = iter(range(1000))

    def rename(*words: object) -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        renameat2(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(below, "renameat2", rename)
        return apply_in_a_child(data, layer)


@pytest.mark.parametrize("number", range(MOVES + 1))
def test_the_next_apply_completes_a_killed_one(
    number: int, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was done, the directory has all changes afterwards, and no staging directory."""
    status = killed_at(number, data, layer, monkeypatch)
    assert (status == signal.SIGKILL) == (number < MOVES)
    on_view(data, layer, apply)
    assert tree(data) == {
        "a": "a of the layer\n",
        "n/deep/f": "n/deep/f of the layer\n",
        "sub/x": "sub/x of the host\n",
        "sub/y": "sub/y of the layer\n",
    }
    assert names(data) == ["a", "n", "sub"]


@pytest.mark.parametrize("number", range(MOVES))
def test_a_killed_apply_is_moved_back(number: int, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the log in the staging directory, the directory is as before."""
    before = tree(data)
    assert killed_at(number, data, layer, monkeypatch) == signal.SIGKILL
    on_view(data, layer, recover)
    assert tree(data) == before
    assert names(data) == ["a", "b", "gone", "sub"]


def test_what_cannot_be_moved_back_is_kept(data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the host, whose place something else has by now, stays in the staging directory, and is named."""
    assert killed_at(MOVES - 1, data, layer, monkeypatch) == signal.SIGKILL
    (data / "a").rename(data / "elsewhere")
    left = on_view(data, layer, recover)
    assert [path for path, _ in left] == [b"a"]
    kept = data / os.fsdecode(left[0][1])
    assert kept.read_text() == "a of the host\n"
    (data / "elsewhere").rename(data / "a")
    assert on_view(data, layer, recover) == []
    assert (data / "a").read_text() == "a of the host\n"
    assert names(data) == ["a", "b", "gone", "sub"]


@pytest.mark.parametrize("text", ["", "[]", "\0"])
def test_nothing_is_removed_by_a_damaged_log(
    text: str, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a log that cannot be read stands for is not known: the files beside it can be the host's."""
    assert killed_at(MOVES - 1, data, layer, monkeypatch) == signal.SIGKILL
    (area,) = data.glob(".nbcontainer-apply-*")
    (area / "log").write_text(text)
    before = names(area)
    assert on_view(data, layer, recover) == [(b"", os.fsencode(area.name))]
    assert names(area) == before


@pytest.mark.parametrize("steps", range(3))
def test_a_killed_exchange_without_flags_is_moved_back(
    steps: int, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an exchange is three renames, a kill between two of them loses nothing, and is moved back without flags."""
    before, count, rename = tree(data), iter(range(1000)), os.rename

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    def killed(*words: Any, **keywords: Any) -> None:
        if words[0].endswith(b".new"):  # the log
            rename(*words, **keywords)
            return
        if next(count) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*words, **keywords)

    monkeypatch.setattr(below, "renameat2", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        assert apply_in_a_child(data, layer) == signal.SIGKILL
    assert on_view(data, layer, recover) == []
    assert tree(data) == before


def test_a_run_that_made_the_deepest_directory_is_moved_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The staging directory is beside a directory that the host did not have, and has after the move."""
    layer, before, count = tmp_path / "layer", names(data), iter(range(1000))
    (layer / "n" / "deep").mkdir(parents=True)
    (layer / "n" / "deep" / "f").write_text("new\n")

    def killed(_: int) -> None:
        if next(count) == 1:  # after the moves
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(placing, "syncfs", killed)
        assert apply_in_a_child(data, layer) == signal.SIGKILL
    assert (data / "n" / "deep" / "f").exists()
    assert on_view(data, layer, recover) == []
    assert names(data) == before


@pytest.mark.parametrize("number", range(MOVES))
def test_a_failing_rename_moves_everything_back(
    number: int, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the file system in the middle leaves the directory as before."""
    before, count = tree(data), iter(range(1000))

    def rename(*words: object) -> None:
        if next(count) == number:
            raise OSError(28, "No space left on device")
        renameat2(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(below, "renameat2", rename)
    with pytest.raises(OSError, match="No space"):
        on_view(data, layer, apply)
    assert tree(data) == before
    assert names(data) == ["a", "b", "gone", "sub"]


@pytest.mark.parametrize("number", range(1, MOVES))
def test_what_was_moved_back_is_not_a_change_of_the_host(
    number: int, data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename gives a new ctime: the next `apply` needs no force for its own, and refuses what the host changed."""
    count = iter(range(1000))
    began = max(path.lstat().st_ctime_ns for path in data.rglob("*"))
    own: dict[bytes, Before] = {}

    def rename(*words: object) -> None:
        if next(count) == number:
            raise OSError(28, "No space left on device")
        renameat2(*words)  # type: ignore[arg-type]

    def fail(view: comparing.View) -> None:
        placing.apply(replace(view, began=began), b"test", moved_back=own)

    def conflicts(view: comparing.View) -> None:
        found.extend(path for path, _ in placing.apply(replace(view, began=began, moved_back=own), b"test").conflicts)

    monkeypatch.setattr(below, "renameat2", rename)
    with pytest.raises(OSError, match="No space"):
        on_view(data, layer, fail)
    monkeypatch.undo()
    assert b"a" in own
    found: list[bytes] = []
    (data / "a").write_text("changed by the host\n")
    on_view(data, layer, conflicts)
    assert found == [b"a"]
    found.clear()
    own[b"a"] = Before.of((data / "a").lstat())
    on_view(data, layer, conflicts)
    assert found == []
    assert names(data) == ["a", "n", "sub"]


def test_a_file_system_without_exchange_is_written_too(
    data: Path, layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file system refuses the flags of renameat2(2), plain renames do it."""

    def rename(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(below, "renameat2", rename)
    on_view(data, layer, apply)
    assert (data / "a").read_text() == "a of the layer\n"
    assert names(data) == ["a", "n", "sub"]
