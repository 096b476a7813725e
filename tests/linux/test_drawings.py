"""The drawings of mounts and namespaces are those of a real cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands import containers
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.grammar import parse
from nbcontainer.linux.procfs import read_mounts
from nbcontainer.sandbox.inside import look_around

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran


def verb(engine: Engine, name: str, *words: str) -> Any:
    """Return the view of a verb."""
    found = containers.VERBS[name]
    return found.answer(Invocation(engine, parse(found.command, words)))


@pytest.mark.parametrize(
    "words",
    [(), ("--tmpfs", "/scratch"), ("-v", "DATA:/data", "-v", "DATA:/x/y:ro"), ("--read-only", "--network", "host")],
    ids=str,
)
def test_the_mounts_are_those_that_a_cell_sees(engine: Engine, tmp_path: Path, words: tuple[str, ...]) -> None:
    """A cell with the same options has the same mounts, with the same access."""
    from nbcontainer.commands.run import RUN, request_of
    from nbcontainer.containers.cell import Streams
    from nbcontainer.containers.run import run

    options = [word.replace("DATA", str(tmp_path)) for word in words]
    out: list[bytes] = []
    request = request_of(parse(RUN, [*options, "busybox", "cat", "/proc/self/mountinfo"]))
    run(engine, request, Streams(out.append, out.append))
    seen = [
        (mount.target, mount.fstype, "ro" in (*mount.options, *mount.super_options))
        for mount in read_mounts(b"".join(out).decode())
    ]
    drawn = verb(engine, "mounts", *options, "busybox").mounts
    assert sorted((mount.target, mount.fstype, mount.read_only) for mount in drawn) == sorted(seen)


def test_the_sources_of_volumes_are_shown(engine: Engine, tmp_path: Path) -> None:
    """A volume has the host's path, and what is hidden is named so."""
    drawn = {mount.target: mount for mount in verb(engine, "mounts", "-v", f"{tmp_path}:/data:ro", "busybox").mounts}
    assert drawn["/data"].source == f"volume {tmp_path}"
    assert drawn["/data"].access.startswith("ro,nosuid,nodev")
    assert drawn["/dev/null"].source == "device of the host"
    assert drawn["/sys/firmware"].source == "hidden"


@pytest.mark.parametrize(("network", "shared"), [("none", set()), ("host", {"net"})])
def test_the_namespaces_are_those_of_a_cell(engine: Engine, network: str, shared: set[str]) -> None:
    """The network is shared if that is asked for; the clock always is."""
    drawn = verb(engine, "namespaces", "--network", network, "busybox").namespaces
    assert {one.kind for one in drawn if one.shared} - {"time"} == shared
    assert {one.kind: one.host for one in drawn} == look_around()["namespaces"]


def test_nothing_is_left_of_a_drawing(engine: Engine, cell: Callable[..., Ran]) -> None:
    """Neither a container nor a write layer, and the next cell starts as usual."""
    verb(engine, "mounts", "busybox")
    engine.background.wait()
    assert not list((engine.store.path / "containers").iterdir())
    assert cell("echo hello").text == "hello"


def test_a_named_container_is_drawn_with_its_layers(engine: Engine, cell: Callable[..., Ran]) -> None:
    """By `--name`, and without a change of it."""
    ran = cell("echo x > /f", name="drawn")
    assert verb(engine, "mounts", "--name", "drawn").mounts[0].fstype == "overlay"
    ran.container.remove()
