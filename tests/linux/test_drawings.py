"""The drawings of mounts and namespaces are those of a real cell."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands import containers
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.grammar import parse
from nbcontainer.errors import NbcontainerError
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
    from nbcontainer.containers.cells.streams import Streams
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
    others = set((engine.store.path / "containers").iterdir())
    verb(engine, "mounts", "busybox")
    engine.background.wait()
    assert set((engine.store.path / "containers").iterdir()) <= others
    assert cell("echo hello").text == "hello"


def test_a_named_container_is_drawn_with_its_layers(engine: Engine, cell: Callable[..., Ran]) -> None:
    """By `--name`, and without a change of it."""
    ran = cell("echo x > /f", name="drawn")
    assert verb(engine, "mounts", "--name", "drawn").mounts[0].fstype == "overlay"
    ran.container.remove()


CELLS = int(os.environ.get("NBCONTAINER_DRAWN_CELLS", "8"))
"""Cells of the random sequence whose layers are drawn."""

_NAMES = ("a", "b", "c")


def _random_cell(chosen: random.Random) -> str:
    """Return a script that changes a few paths below /w."""
    lines = []
    for _ in range(chosen.randint(1, 4)):
        one = "/w/" + "/".join(chosen.choice(_NAMES) for _ in range(chosen.randint(1, 3)))
        other = "/w/" + "/".join(chosen.choice(_NAMES) for _ in range(chosen.randint(1, 3)))
        lines.append(
            chosen.choice(
                (
                    f"mkdir -p {one}",
                    f"mkdir -p ${{one%/*}}; echo {chosen.random()} > {one}".replace(
                        "${one%/*}", one.rpartition("/")[0]
                    ),
                    f"rm -rf {one}",
                    f"mv {one} {other}",
                    f"rm -rf {one}; mkdir -p {one}",
                    f"ln -s {other} {one}",
                    f"chmod 700 {one}",
                )
            )
        )
    return "".join(f"{line} 2>/dev/null\n" for line in lines) + "true"


@pytest.mark.parametrize("seed", range(2))
def test_the_layers_drawn_are_the_tree_that_a_cell_sees(engine: Engine, cell: Callable[..., Ran], seed: int) -> None:
    """After each of many random cells, the paths that the drawing shows are those of a walk of the mounted tree.

    A path that a sheet gives has the content that its cell wrote, which is the content that is seen.
    """
    chosen = random.Random(seed)
    name = f"pile-{seed}"
    cell("mkdir -p /w/a; echo 0 > /w/a/b", name=name)
    try:
        for number in range(CELLS):
            cell(_random_cell(chosen), name=name)
            walked = set(cell("find /w", name=name).lines)
            stack = verb(engine, "layers", name)
            drawn = {one.path for one in stack.seen if one.path == "/w" or one.path.startswith("/w/")}
            assert drawn == walked, (number, str(stack))
        layers = [one.layer for one in containers_of(engine, name).cells if one.layer]
        for one in stack.seen:
            if os.geteuid() != 0 or not one.path.startswith("/w/"):
                continue  # a plain user cannot look into all directories of a layer
            place = engine.store.path / "layers" / layers[one.sheet - 1] / f"diff{one.path}"
            assert os.path.lexists(place)
    finally:
        containers_of(engine, name).remove()


def containers_of(engine: Engine, name: str) -> Any:
    """Return a container by its name."""
    from nbcontainer.containers import lookup

    return lookup.get(engine, name)


def test_sheets_say_what_is_added_changed_and_hidden(engine: Engine, cell: Callable[..., Ran]) -> None:
    """A new file, a changed one of the image, a removed one, and a directory that was made again."""
    cell("echo new > /new; echo x >> /etc/passwd; rm /etc/group", name="marked")
    cell("rm -r /etc; mkdir /etc; echo > /etc/x", name="marked")
    try:
        stack = verb(engine, "layers", "marked")
        first, second = ({entry.path: entry.mark.word for entry in sheet.entries} for sheet in stack.sheets[1:])
        assert (first["/new"], first["/etc/passwd"], first["/etc/group"]) == ("added", "changed", "hidden")
        assert (second["/etc"], second["/etc/x"]) == ("opaque", "added")
        assert "/etc/passwd" not in {one.path for one in stack.seen}
        assert [sheet.role for sheet in stack.sheets] == ["lower", "lower", "upper"]
        assert [sheet.name[:6] for sheet in verb(engine, "layers", "marked@1").sheets] == ["image ", "cell 1"]
        assert len(verb(engine, "layers", "marked@0").sheets) == 1
    finally:
        containers_of(engine, "marked").remove()


@pytest.mark.parametrize(
    ("state", "problem"),
    [("drawn@9", "container 'drawn' has no cell 9"), ("drawn@x", "invalid state 'drawn@x'"), ("nowhere", "nowhere")],
)
def test_a_state_that_does_not_exist_is_an_error(
    engine: Engine, cell: Callable[..., Ran], state: str, problem: str
) -> None:
    """In one line, with what there is."""
    cell("echo > /f", name="drawn")
    try:
        with pytest.raises(NbcontainerError, match=problem):
            verb(engine, "layers", state)
    finally:
        containers_of(engine, "drawn").remove()
