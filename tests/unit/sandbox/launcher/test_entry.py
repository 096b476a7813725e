"""When the launcher runs its interpreter once more, from a read-only mount of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.linux.mounts import AT_FDCWD, MOUNT_ATTR_RDONLY, MS_BIND
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.launcher import entry

if TYPE_CHECKING:
    from pathlib import Path

ME = os.geteuid()


def idmap(kind: str, root: int | None) -> dict[str, Any]:
    """An id map as the launcher is told of it."""
    return {"kind": kind, "uids": [] if root is None else [[1, 100000, 65536], [0, root, 1]]}


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of this user's in the interpreter's place."""
    file = tmp_path / "python"
    file.touch(0o555)
    monkeypatch.setattr(entry, "_INTERPRETER", str(file))
    return file


@pytest.mark.parametrize("kind", ["range", "single"])
def test_an_own_interpreter_is_exposed_to_an_own_root(kind: str, interpreter: Path) -> None:
    """Where containers' root is the owner of the interpreter, it could change its mode: a closed file is no help."""
    assert interpreter.stat().st_mode & 0o222 == 0
    assert entry.is_exposed(idmap(kind, ME))


@pytest.mark.usefixtures("interpreter")
def test_a_mapped_root_owns_nothing() -> None:
    """Where containers' root is nobody on the host, nothing of the host's is exposed."""
    assert not entry.is_exposed(idmap("range", ME + 1_879_048_192))


def test_without_a_user_namespace_root_is_the_hosts(interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For --userns=host, which is for root, root's interpreter is exposed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert entry.is_exposed(idmap("host", None))
    assert interpreter.exists()


def test_an_interpreter_of_anothers_is_not_exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user neither owns nor may write is as safe in a container as outside."""
    if ME == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 1)
        monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(entry, "_INTERPRETER", "/proc/version")
    assert not entry.is_exposed(idmap("single", os.geteuid()))


def test_the_interpreter_is_mounted_over_itself() -> None:
    """What this process runs is bound on itself, and that mount made read-only."""
    kernel = RecordingKernel()
    entry.close_interpreter(kernel)
    path = os.path.realpath(sys.executable)
    assert kernel.calls == [
        call("mount", path, path, None, MS_BIND, None),
        call("mount_setattr", AT_FDCWD, path, 0, attr_set=MOUNT_ATTR_RDONLY),
    ]
