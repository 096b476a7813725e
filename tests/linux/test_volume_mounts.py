"""Root's volumes whose mounts can not all have the container's ids, and devices as volumes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers.mounts import UNMAPPED
from tests.requirements import require, require_linux, require_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.running import Ran

    Cell = Callable[..., Ran]

SCRIPT = """
import json, os, subprocess, sys
from pathlib import Path
from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import mounts
from nbcontainer.containers.engine import Engine
from tests.running import run_script

store, data, volume, limit, script = sys.argv[1:]
top = Path(data)
def mount(fstype, place, options=""):
    place.mkdir()
    subprocess.run(["mount", "-t", fstype, "-o", options or "rw", "none", place], check=True)
    if os.access(place, os.W_OK) and fstype in ("tmpfs", "overlay"):
        (place / "file").touch()

(top / "lower").mkdir()
mount("tmpfs", top / "memory")
(top / "memory" / "upper").mkdir()
(top / "memory" / "work").mkdir()
mount("overlay", top / "overlay", f"lowerdir={top}/lower,upperdir={top}/memory/upper,workdir={top}/memory/work")
mount("tmpfs", top / "overlay" / "inner")
mount("mqueue", top / "memory" / "queues")
mounts.PARTS_LIMIT = int(limit)
engine = Engine(Path(store))
ran = run_script(engine, script, volumes=(parse_volume(volume.format(data)),))
engine.close()
for place in ("overlay/inner", "overlay", "memory/queues", "memory"):
    subprocess.run(["umount", top / place], check=True)   # no container holds it
print(json.dumps({"lines": ran.lines, "notes": ran.stderr.decode().splitlines()}))
"""


@pytest.fixture
def with_mounts(cell: Cell, store_path: Path, tmp_path: Path) -> Callable[..., Any]:
    """Runs a cell with a volume in which there are mounts of each kind, in a mount namespace of the test's own."""
    require_root()
    require("unshare")
    require_linux(6, 3, "idmapped mounts of a tmpfs")
    cell("true")
    data = tmp_path / "data"
    data.mkdir()

    def run(script: str, volume: str = "{}:/data", limit: int = 60) -> Any:
        words = ["unshare", "--mount", sys.executable, "-c", SCRIPT]
        words += map(str, (store_path, data, volume, limit, script))
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"data": str(data)}

    return run


PLACES = "memory/file overlay/file overlay/inner/file"


def test_a_mount_that_cannot_have_ids_has_those_of_the_host(with_mounts: Callable[..., Any]) -> None:
    """The mounts around it and in it are the container's, and one line names those that are not."""
    ran = with_mounts(f"cd /data; stat -c %u . {PLACES}; touch new memory/new overlay/inner/new && ls -d memory/queues")
    assert ran["lines"] == ["0", "0", "65534", "0", "memory/queues"]
    unmapped = f"'{ran['data']}/memory/queues', '{ran['data']}/overlay'"
    expected = UNMAPPED.format(f"files in {unmapped}", "their file system has no idmapped mounts")
    assert ran["notes"] == [f"nbcontainer: {expected}"]


def test_read_only_is_read_only_in_every_mount(with_mounts: Callable[..., Any]) -> None:
    """`:ro` counts for the mounts that are attached one by one, too."""
    script = "cd /data; for d in . memory overlay overlay/inner; do touch $d/new 2>&1 | grep -c 'Read-only'; done"
    assert with_mounts(script, "{}:/data:ro")["lines"] == ["1"] * 4


def test_a_volume_that_is_such_a_mount_works(with_mounts: Callable[..., Any]) -> None:
    """Its files keep the host's ids, and a mount inside it has the container's."""
    ran = with_mounts("cd /data; stat -c %u . file inner/file", "{}/overlay:/data")
    assert ran["lines"] == ["65534", "65534", "0"]


def test_a_file_of_such_a_mount_works(with_mounts: Callable[..., Any]) -> None:
    """A volume may be one file."""
    assert with_mounts("stat -c %u /file; cat /file", "{}/overlay/file:/file")["lines"] == ["65534"]


def test_more_mounts_than_can_travel_are_left_out(with_mounts: Callable[..., Any]) -> None:
    """The volume works without them, and a line names them."""
    ran = with_mounts("ls /data /data/overlay", limit=2)
    assert ran["lines"][:1] == ["/data:"]
    assert f"volume {ran['data']}: these mounts are left out: '{ran['data']}/memory/queues'" in ran["notes"][-1]


def test_the_null_device_is_a_volume(cell: Cell) -> None:
    """It reads as empty, takes what is written, covers a file of the image, and keeps its mode."""
    before = Path("/dev/null").stat()
    ran = cell(
        "cat /etc/passwd; echo x > /etc/passwd; chmod 600 /etc/passwd", volumes=(parse_volume("/dev/null:/etc/passwd"),)
    )
    assert ran.lines == []
    assert b"Read-only" in ran.stderr
    assert Path("/dev/null").stat().st_mode == before.st_mode
    assert b"owner" not in ran.stderr


def test_no_other_device_is_opened_by_a_volume(cell: Cell, tmp_path: Path) -> None:
    """A device file for the host's memory opens in no container, whatever its mode."""
    require_root()
    os.mknod(tmp_path / "mem", stat.S_IFCHR, os.makedev(1, 1))
    (tmp_path / "mem").chmod(0o666)
    ran = cell("head -c 1 /m", volumes=(parse_volume(f"{tmp_path}/mem:/m"),))
    assert not ran.outcome.ok
    assert b"Permission denied" in ran.stderr
