"""The root directory itself is part of a layer: its owner, mode, time and attributes are those that a cell set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.running import run_script

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine

_SHOW = "stat -c '%u:%g %a' /"


def _do(engine: Engine, verb: str, *words: str) -> str:
    return str(VERBS[verb].run(Invocation(engine, parse(VERBS[verb].command, words))))


@pytest.fixture
def owner(engine: Engine) -> str:
    """An owner of the root directory that the container's users have, and that is not root if there are several."""
    return "0:0" if engine.idmap.kind == MapKind.SINGLE else "33:44"


@pytest.mark.parametrize("storage", [None, 1 << 24], ids=["plain", "limited"])
def test_a_cell_that_changes_only_the_root_is_kept(engine: Engine, name: str, owner: str, storage: int | None) -> None:
    """The next cells see its owner and mode, also after one that writes files, and in an image of the container."""
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


def test_a_time_that_a_cell_sets_is_a_change(engine: Engine, name: str) -> None:
    """`touch -d` of the root directory is kept; a file that is made and removed in it changes nothing."""
    run_script(engine, "touch -d 2001-01-01 /", name=name)
    before = run_script(engine, "stat -c %Y /", name=name).text
    assert before.startswith("978")
    run_script(engine, "echo > /file; rm /file", name=name)
    assert run_script(engine, "stat -c %Y /", name=name).text == before


def test_a_cell_that_does_not_change_it_leaves_no_layer(engine: Engine, name: str, owner: str) -> None:
    """On a root directory of an unusual owner and mode, a cell that only reads leaves nothing.

    The notebook must be able to list the directory: what a plain user cannot list counts as changed.
    """
    run_script(engine, f"chown {owner} /; chmod 775 /; touch -d 2001-01-01 /", name=name)
    for storage in (None, 1 << 24):
        done = run_script(engine, "true", name=name, storage=storage)
        last = done.container.record.last
        assert last is not None
        assert last.layer == ""
