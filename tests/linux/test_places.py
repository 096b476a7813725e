"""Cells in places that cover parts of /proc: they run, and what is different there has one name and one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.mounts import NOT_ADMIN, UNMAPPED
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.proc import LIMITS
from tests import places
from tests.places import LEVELS, MASKS, Kind
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

SCRIPT = """
import json, sys
from pathlib import Path
from nbcontainer.commands.doctor.examination import examine
from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.engine import Engine
from tests.running import run_script

engine = Engine(Path(sys.argv[1]))
looks = "cat /etc/hosts; hostname; cat /proc/self/comm; ls -d /proc/self/fd >/dev/null && echo streams > /dev/stdout"
volume = Path(sys.argv[2])
first, second = (run_script(engine, looks, name=name) for name in ("one", "two"))
mounted = run_script(engine, "cat /data/file; echo new > /data/open; ls -n /data/file; : > /x; cat /x", volumes=(
    parse_volume(f"{volume}:/data"), parse_volume("/dev/null:/x")))
report = examine(engine).as_dict()["checks"]
print(json.dumps({
    "level": engine.launcher.proc,
    "lines": first.lines,
    "second": second.lines,
    "errors": [first.stderr.decode(), second.stderr.decode()],
    "inspect": containers.get(engine, "one").as_dict()["confinement"]["proc"],
    "doctor": next(check for check in report if check["name"] == "/proc"),
    "volume": mounted.lines,
    "notes": mounted.stderr.decode().splitlines(),
    "missing": [check["name"] for check in report if check["state"] == "missing"],
}))
engine.close()
"""

USUAL = [(kind, "podman") for kind in places.kinds()] + [(Kind.ROOTLESS, "docker"), (Kind.ROOTLESS, "containerd")]
"""The places that are always tried; the others have the mark slow."""


def every_place() -> list[Any]:
    """Each kind of place with each program's covers."""
    return [
        pytest.param(kind, masks, marks=[] if (kind, masks) in USUAL else [pytest.mark.slow])
        for kind in places.kinds()
        for masks in MASKS
    ]


@pytest.mark.parametrize(("kind", "masks"), every_place())
def test_cells_run_where_proc_is_covered(kind: Kind, masks: str, tmp_path: Path, engine: Engine) -> None:
    """Named containers run one after another, and the level has one name in the line, in inspect and in doctor."""
    assert engine.launcher.pid
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("hello\n")
    (volume / "open").touch()
    (volume / "open").chmod(0o666)
    done = places.run(kind, masks, SCRIPT, str(tmp_path / "store"), str(volume))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    level = LEVELS[kind]
    assert said["level"] == said["inspect"] == level
    assert said["doctor"]["found"].partition(": ")[0] == level
    assert said["missing"] == []
    *hosts, hostname, comm, streams = said["lines"]
    assert hosts[0].split() == ["127.0.0.1", "localhost"]
    assert hosts[-1].split() == ["127.0.0.1", hostname]
    assert hostname == "one"
    assert (comm, streams) == ("cat", "streams")
    squashed = kind == Kind.ROOTFUL
    content, listed = said["volume"]
    assert (content, listed.split()[2]) == ("hello", "65534" if squashed else "0")
    assert (volume / "open").read_text() == "new\n"
    notes = [f"nbcontainer: {UNMAPPED.format('files in volumes', NOT_ADMIN)}"] if squashed else []
    assert said["notes"] == notes
    assert said["second"][-1] == "streams"
    assert said["errors"] == [f"nbcontainer: /proc: {level}: {LIMITS[level]}; see docs/places.md\n", ""]


def test_where_nothing_is_covered_no_line_says_so(engine: Engine) -> None:
    """The first level has the name `own`, and a cell prints nothing about it."""
    ran = run_script(engine, "true")
    if engine.launcher.proc != ProcLevel.OWN:
        pytest.skip("parts of /proc are covered here")
    assert ran.stderr == b""
    assert ran.container.as_dict()["confinement"]["proc"] == "own"
