"""The root directory itself is part of a layer: its owner, mode, time and attributes are those that a cell set."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.running import Ran, run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

_SHOW = "stat -c '%u:%g %a' /"


def _do(engine: Engine, verb: str, *words: str) -> str:
    return str(VERBS[verb].run(Invocation(engine, parse(VERBS[verb].command, words))))


@pytest.fixture
def owner(engine: Engine) -> str:
    """An owner of the root directory that the container's users have, and that is not root if there are several."""
    return "0:0" if engine.idmap.kind == MapKind.SINGLE else "33:44"


@pytest.mark.parametrize("kind", ["plain", "limited", "in memory"])
def test_a_cell_that_changes_only_the_root_is_kept(engine: Engine, name: str, owner: str, kind: str) -> None:
    """The next cells see its owner and mode, also after one that writes files, and in an image of the container."""
    storage = 1 << 24 if kind == "limited" else None
    if kind == "in memory":
        engine.store.use_memory()
    run_script(engine, f"chown {owner} /; chmod 751 /", name=name, storage=storage)
    assert run_script(engine, _SHOW, name=name, storage=storage).text == f"{owner} 751"
    run_script(engine, "echo > /file", name=name, storage=storage)
    assert run_script(engine, _SHOW, name=name).text == f"{owner} 751"
    _do(engine, "commit", name, f"{name}:1")
    try:
        assert run_script(engine, _SHOW, image=f"{name}:1").text == f"{owner} 751"
    finally:
        _do(engine, "rmi", f"{name}:1")


def test_the_owner_alone_is_a_change(engine: Engine, name: str, owner: str) -> None:
    """A cell that gives the root directory away, and the next one that takes it back, are both kept."""
    if owner == "0:0":
        pytest.skip("a single id has one user")
    run_script(engine, f"chown {owner} /", name=name)
    assert run_script(engine, _SHOW, name=name).text == f"{owner} 755"
    run_script(engine, "chown 0:0 /", name=name)
    assert run_script(engine, _SHOW, name=name).text == "0:0 755"


@pytest.mark.parametrize("storage", [None, 1 << 24], ids=["plain", "limited"])
def test_a_time_that_a_cell_sets_is_a_change(engine: Engine, name: str, storage: int | None) -> None:
    """`touch -d` of the root directory is kept; a file that is made and removed in it changes nothing."""
    run_script(engine, "touch -d 2001-01-01 /", name=name, storage=storage)
    before = run_script(engine, "stat -c %Y /", name=name, storage=storage).text
    assert before.startswith("978")
    assert run_script(engine, "stat -c %Y /", name=name).text == before
    run_script(engine, "echo > /file; rm /file", name=name, storage=storage)
    assert run_script(engine, "stat -c %Y /", name=name).text == before


def test_a_cell_that_does_not_change_it_leaves_no_layer(engine: Engine, name: str, owner: str) -> None:
    """On a root directory of an unusual owner and mode, a cell that only reads leaves nothing."""
    run_script(engine, f"chown {owner} /; chmod 775 /; touch -d 2001-01-01 /", name=name)
    for storage in (None, 1 << 24):
        assert _layer_of(run_script(engine, "true", name=name, storage=storage)) == ""


@pytest.mark.parametrize("close", ["chmod 0 /", "chown OWNER /; chmod 700 /"])
@pytest.mark.parametrize("in_memory", [False, True], ids=["on disk", "in memory"])
def test_a_root_directory_that_the_notebook_may_not_list(
    engine: Engine, name: str, owner: str, close: str, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that only reads leaves no layer there, also for a plain user; one that writes leaves one."""
    list_it = os.scandir

    def refused(place: Any) -> Any:
        if str(place).endswith("/diff"):  # as for a plain user
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return list_it(place)

    monkeypatch.setattr(os, "scandir", refused)
    if in_memory:
        engine.store.use_memory()
    assert _layer_of(run_script(engine, close.replace("OWNER", owner), name=name)) != ""
    assert _layer_of(run_script(engine, "true", name=name)) == ""
    assert _layer_of(run_script(engine, "echo > /file", name=name)) != ""
    assert _layer_of(run_script(engine, "ls /file", name=name)) == ""


def test_a_volume_that_the_notebook_may_not_list(engine: Engine, name: str, tmp_path: Path) -> None:
    """The upper directory of a copy-on-write volume that a cell closed counts as changed if it has something."""
    volumes = (parse_volume(f"{tmp_path}:/data:cow"),)
    run_script(engine, "chmod 0 /data", name=name, volumes=volumes)
    record = run_script(engine, "true", name=name, volumes=volumes).container.record
    assert [volume.layers for volume in record.volumes] == [()]
    record = run_script(engine, "echo > /data/f; chmod 0 /data", name=name, volumes=volumes).container.record
    assert [len(volume.layers) for volume in record.volumes] == [1]


def _layer_of(ran: Ran) -> str:
    last = ran.container.record.last
    assert last is not None
    return last.layer
