"""What is done while something fails: cells of every sort, a commit, an import. Each says what it says if it works."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbcontainer import api
from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.errors import ContainerNotFound, ImageNotFound
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.cgroups.group import GroupLimits
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.spec import ControlDirectory
from nbcontainer.sandbox.userns import idmap
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome

WAS_KILLED = "killed"
"""What an act says whose cell somebody killed."""


@dataclass(frozen=True)
class Act:
    """`do` returns `says`, or WAS_KILLED; `undo` takes back what it left where it worked, whether it did or not."""

    name: str
    do: Callable[[Engine, Path], str]
    says: str = "sound"
    undo: Callable[[Engine], object] = field(default=lambda _: None)


def _said(engine: Engine, script: str | None = "echo sound", **options: Any) -> str:
    ran = run_script(engine, script, **options)
    if _was_killed(ran.outcome):
        return WAS_KILLED
    return ran.text.replace("\r", "") if ran.outcome.ok else ran.outcome.describe()


def _was_killed(outcome: Outcome) -> bool:
    return outcome.reason == Reason.KILLED or outcome.signal == signal.SIGKILL


def can_limit() -> bool:
    """Whether this user may have control groups."""
    return set(hierarchy.look(Machine()).usable(hierarchy.can_make_group)) == set(hierarchy.WANTED)


_LIMITS = GroupLimits(memory=256 << 20, pids=200) if can_limit() else GroupLimits()


def _plain(engine: Engine, _: Path) -> str:
    return _said(engine)


def _full(engine: Engine, folder: Path) -> str:
    """Something of everything that a plan can have for root in a container."""
    return _said(
        engine,
        hostname="faulty",
        volumes=(parse_volume(f"{folder}:/data"), parse_volume(f"{folder}/file:/file:ro")),
        tmpfs=(parse_tmpfs("/scratch"),),
        workdir="/work",
        read_only=True,
        cgroup_limits=_LIMITS,
        capabilities=("CHOWN", "SETUID", "SETGID"),
    )


def _other_user(engine: Engine, _: Path) -> str:
    return _said(engine, user="33", network="host", cgroup_limits=_LIMITS)


def _terminal(engine: Engine, _: Path) -> str:
    return _said(engine, terminal=True)


def _without_user_namespace(engine: Engine, folder: Path) -> str:
    return _said(engine, userns="host", volumes=(parse_volume(f"{folder}:/data"),))


def _of_the_host(engine: Engine, _: Path) -> str:
    return _said(engine, "rm -rf /etc 2>/dev/null; echo sound", image="host")


def _exchange(engine: Engine, _: Path) -> str:
    from nbcontainer.containers import run
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams

    said: list[bytes] = []
    engine.images.find("busybox")
    control_directory = ControlDirectory(
        files=(("word", 0o644, "sound"),), pipes=("pipe",), directories=(("room", 0o777),)
    )
    streams = Streams(said.append, said.append, control_directory=control_directory, on_control_directory=lambda *_: {})
    request = Request("busybox", script="cat /dev/nbcontainer/word")
    outcome = run.run(engine, request, streams)[1]
    return WAS_KILLED if _was_killed(outcome) else b"".join(said).decode()


def _named(engine: Engine, _: Path) -> str:
    """Two cells in a named container; what they leave becomes an image."""
    said = _said(engine, "echo x > /file; rm -r /etc; mkdir /new; echo one", name="faulty")
    if said != "one":
        return said
    api.commit(api.get("faulty", engine=engine), "faulty-image")
    return _said(engine, "cat /file; echo sound", image="faulty-image")


def _undo_named(engine: Engine) -> None:
    with contextlib.suppress(ContainerNotFound):
        containers.get(engine, "faulty").remove()
    _drop(engine, "faulty-image")


def _drop(engine: Engine, name: str) -> None:
    with contextlib.suppress(ImageNotFound):
        engine.store.index.drop_image(name)


def _import(engine: Engine, folder: Path) -> str:
    from nbcontainer.images.archives.loading import ImportOptions, open_file

    source = open_file(engine.store, folder / "tree.tar")
    try:
        image = engine.images.load(source, ImportOptions("faulty-import"))[0]
    finally:
        os.close(source)
    return f"{len(image.layers)} layer"


def make_inputs(folder: Path) -> None:
    """What the acts find in their folder (host)."""
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("of the host\n")
    with tarfile.open(folder / "tree.tar", "w") as tar:
        for number in range(20):
            content = os.urandom(5000)
            entry = tarfile.TarInfo(f"folder-{number % 3}/file-{number}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def acts(engine: Engine) -> dict[str, Act]:
    """Those that this user's containers can do."""
    found = [
        Act("plain", _plain),
        Act("full", _full),
        Act("terminal", _terminal),
        Act("control_directory", _exchange),
        Act("named", _named, says="x\nsound", undo=_undo_named),
        Act("import", _import, says="1 layer", undo=lambda engine: _drop(engine, "faulty-import")),
    ]
    if engine.idmap.kind != idmap.MapKind.SINGLE:
        found.append(Act("other-user", _other_user))
    if os.geteuid() == 0:
        found.append(Act("userns-host", _without_user_namespace))
        found.append(Act("of-the-host", _of_the_host))
    return {act.name: act for act in found}


PLAIN = Act("plain", _plain)
