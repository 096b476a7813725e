"""A cell may close the root directory, or give it away: each verb and each later cell finds the files all the same."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.live.exec_client import ExecRequest, run_there
from nbcontainer.errors import SetupFailed
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

    Do = Callable[..., str]

WAYS = ["chmod 0 /", "chown 33:33 /; chmod 700 /"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, engine: Engine) -> str:
    """A script that closes the root directory."""
    script: str = request.param
    if engine.idmap.kind == MapKind.SINGLE and "chown" in script:
        pytest.skip("a single id has one user")
    return script


@pytest.fixture
def do(engine: Engine) -> Do:
    """Runs a verb; returns the text of its answer."""
    return lambda verb, *words: str(VERBS[verb].run(Invocation(engine, parse(VERBS[verb].command, words))))


def test_every_verb_reads_it(engine: Engine, name: str, way: str, do: Do, tmp_path: Path) -> None:
    """Comparing, copying, exporting, committing and going back work as they do on an open root."""
    assert run_script(engine, f"mkdir /d; echo x > /d/f; {way}", name=name).outcome.ok
    assert "/d/f" in do("diff", name)
    do("export", name, "-o", str(tmp_path / "exported.tar"))
    do("cp", f"{name}:/d/f", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "x\n"
    do("cp", str(tmp_path / "f"), f"{name}:/d/g")
    assert "/d/g" in do("layers", name)
    assert "/d/g" in do("diff", f"{name}@1", f"{name}@2")
    do("undo", name)
    do("restore", f"{name}@2", "/d/g")
    assert run_script(engine, "cat /d/f /d/g", name=name).text == "x\nx"


def test_an_image_has_it(engine: Engine, name: str, way: str, do: Do, tmp_path: Path) -> None:
    """An image of such a container runs, is saved, and is loaded again."""
    run_script(engine, f"echo x > /f; {way}", name=name)
    do("commit", name, f"{name}:1")
    try:
        assert run_script(engine, "cat /f", image=f"{name}:1").text == "x"
        do("save", f"{name}:1", "-o", str(tmp_path / "saved.tar"))
        do("rmi", f"{name}:1")
        do("load", str(tmp_path / "saved.tar"))
        assert run_script(engine, "cat /f", image=f"{name}:1").text == "x"
    finally:
        do("rmi", f"{name}:1")


def test_it_is_copied_while_it_runs(engine: Engine, name: str, way: str, do: Do, tmp_path: Path) -> None:
    """A frozen copy of a running container has the files, also if another user owns the directory that holds them."""
    found: list[str] = []

    def look(_: bytes) -> None:
        found.append(do("diff", name))
        do("export", name, "-o", str(tmp_path / "exported.tar"))
        do("cp", f"{name}:/f", str(tmp_path / "f"))
        os.kill(engine.active[name].pid, signal.SIGTERM)

    run_script(engine, f"echo x > /f; {way}; echo ready; sleep 1000", name=name, stdout=look)
    assert "/f" in found[0]
    assert (tmp_path / "f").read_text() == "x\n"


def test_more_processes_start_in_it(engine: Engine, name: str, way: str) -> None:
    """Init starts a program beside a job that closed the root, and survives that the job does so as it begins."""
    out: list[bytes] = []
    job = start(engine, Request("busybox", name, script=f"echo x > /f; {way}; echo done > /ready; exec sleep 1000"))
    try:
        command = ("sh", "-c", "until [ -e /ready ]; do :; done; cat /f; pwd")
        run_there(engine, ExecRequest(name, command), Streams(out.append, out.append))
    finally:
        job.stop(0)
    assert b"".join(out) == b"x\n/\n"


def test_a_limited_layer_is_kept(engine: Engine, name: str, way: str, do: Do) -> None:
    """The layer of a cell with `--storage`, which is copied out of memory, is whole."""
    assert run_script(engine, f"echo x > /f; {way}", name=name, storage=1 << 24).outcome.ok
    assert "/f" in do("diff", name)


def test_another_user_gets_the_reason(engine: Engine, name: str, way: str) -> None:
    """A user to whom the root directory is closed gets one line with the way out."""
    if engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("a single id has one user")
    run_script(engine, f"echo x > /f; {way}", name=name)
    for script, command in (("true", ()), (None, ("true",))):
        with pytest.raises(SetupFailed, match=r"cannot .*: Permission denied; .*closed to this user"):
            run_script(engine, script, name=name, command=command, user="1000")
