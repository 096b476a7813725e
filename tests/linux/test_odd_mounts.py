"""A machine on which something is mounted at a name that is not UTF-8, as old memory sticks and network drives have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import require, require_root

LINES = [
    ["run", "busybox", "true"],
    ["run", "-m", "64m", "busybox", "true"],
    ["run", "host", "true"],
    ["run", "-v", "{place}/plain:/data:cow", "busybox", "true"],
    ["run", "-v", "{place}:/data:ro", "busybox", "true"],
    ["run", "--untrusted", "busybox", "true"],
    ["doctor"],
    ["prune"],
]
MOUNTED = 'mount -t tmpfs none "$1" && shift && exec "$@"'
PROGRAM = "import sys; from nbcontainer.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line[:3]))
def test_a_mount_with_an_odd_name_ends_nothing(store_path: Path, tmp_path: Path, line: list[str]) -> None:
    """The list of mounts is read with whatever bytes it has."""
    require_root()
    require("unshare")
    place = os.fsencode(tmp_path / "place")
    odd = place + b"/caf\351"
    Path(os.fsdecode(odd)).mkdir(parents=True)
    (tmp_path / "place" / "plain").mkdir()
    words = [word.format(place=tmp_path / "place") for word in line]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", odd, sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NBCONTAINER_HOME": str(store_path)},
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0 or line == ["doctor"]
