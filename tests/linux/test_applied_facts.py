"""What `apply` writes besides content: times, attributes, owners and modes of files and of directories that stay."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, cast

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers.cow import interrupted, volume_changes
from tests.linux.cell_python import IN_CELLS, python_volumes
from tests.linux.test_cow_volumes import Scene, data, scene, shared
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.sandbox.spec import Volume

__all__ = ["data", "scene", "shared"]


def python(scene: Scene, program: str) -> None:
    """Run a program of Python in a cell, in the volume."""
    volume = cast("Volume", parse_volume(f"{scene.data}:/data:cow"))
    script = f"cd /data; {IN_CELLS} -c {shlex.quote(program)}"
    ran = run_script(scene.engine, script, name=scene.name, volumes=(volume, *python_volumes()))
    assert ran.outcome.ok, ran.stderr


def attributes(path: Path) -> dict[str, bytes]:
    """The attributes of users that a file of the host has."""
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")}


def test_a_new_time_alone_is_a_change(scene: Scene) -> None:
    """`touch` of a file is listed by `changes`, and `apply` writes the time."""
    scene.cell("touch -d @1500000000 /data/a")
    assert scene.changes() == ["C /data/a"]
    assert scene.apply().written == 1
    assert (scene.data / "a").stat().st_mtime == 1_500_000_000
    assert scene.changes() == []


def test_attributes_alone_are_changes(scene: Scene) -> None:
    """Attributes that a cell set, changed and removed are so on the host, of files and of directories that stay."""
    for name in ("a", "sub"):
        os.setxattr(scene.data / name, "user.old", b"1")
        os.setxattr(scene.data / name, "user.gone", b"1")
    program = (
        "import os\n"
        "for name in ('a', 'sub'):\n"
        "    os.setxattr(name, 'user.old', b'2'); os.setxattr(name, 'user.new', b'3')\n"
        "    os.removexattr(name, 'user.gone')"
    )
    python(scene, program)
    assert scene.changes() == ["C /data/a", "C /data/sub"]
    assert scene.apply().written == 2
    for name in ("a", "sub"):
        assert attributes(scene.data / name) == {"user.old": b"2", "user.new": b"3"}


def test_attributes_that_the_host_gave_a_directory_stay(scene: Scene) -> None:
    """Of a directory whose attributes the host has changed since, only those of the cell are added."""
    python(scene, "import os; os.setxattr('sub', 'user.mine', b'1')")
    os.setxattr(scene.data / "sub", "user.of-the-host", b"1")
    scene.apply()
    assert attributes(scene.data / "sub") == {"user.mine": b"1", "user.of-the-host": b"1"}


def test_the_directory_itself_keeps_its_attributes(scene: Scene) -> None:
    """`apply` takes no attribute and no setgid bit from the directory that is the volume."""
    os.setxattr(scene.data, "user.of-the-host", b"1")
    scene.data.chmod(0o2755)
    python(scene, "open('new', 'w').close()")
    assert scene.changes() == ["A /data/new"]
    assert scene.apply().written == 1
    assert attributes(scene.data) == {"user.of-the-host": b"1"}
    assert stat.S_IMODE(scene.data.stat().st_mode) == 0o2755


def test_rights_of_a_directory_are_set_back_after_a_killed_apply(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing but the mode and the attributes of directories was written, the next use sets these back, too."""
    (scene.data / "sub").chmod(0o755)
    python(scene, "import os; os.chmod('sub', 0o711); os.setxattr('sub', 'user.mine', b'1')")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, "finish", lambda _: None)
    monkeypatch.setattr(volume_changes, "_settle", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scene.apply()
    monkeypatch.undo()
    assert attributes(scene.data / "sub")
    scene.changes()
    assert stat.S_IMODE((scene.data / "sub").stat().st_mode) == 0o755
    assert attributes(scene.data / "sub") == {}
    scene.apply()
    assert stat.S_IMODE((scene.data / "sub").stat().st_mode) == 0o711
