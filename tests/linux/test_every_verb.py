"""Every verb on a store that is read-only, and while another process removes things: an answer, or one line.

The number of rounds with the other process is set by NBCONTAINER_REMOVAL_ROUNDS.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nbcontainer import api
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
from tests.requirements import require_root
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("NBCONTAINER_REMOVAL_ROUNDS", "1"))

READING = {
    "changes": ["changed"],
    "df": [""],
    "diff": ["box", "box@0 box", "image box --text"],
    "doctor": ["--json"],
    "explain": ["image true"],
    "export": ["box -o OUT", "image -o OUT"],
    "history": ["box", "image", "box --all"],
    "images": ["", "--json"],
    "inspect": ["box", "image"],
    "jobs": [""],
    "layers": ["box"],
    "mounts": ["image"],
    "namespaces": ["image"],
    "ps": ["", "--json"],
    "save": ["image -o OUT"],
    "stats": [""],
    "tree": ["", "box"],
    "verify": [""],
    "volume": ["ls", "inspect data"],
}
"""Operands of verbs that only read; OUT is a file elsewhere."""

WRITING = {
    "apply": ["changed"],
    "cache": ["export OUT", "import OUT"],
    "checkout": ["box@0 --name fork", "box@1"],
    "commit": ["box other"],
    "cp": ["box:/f OUT", "OUT box:/g"],
    "discard": ["changed"],
    "import": ["OUT imported"],
    "kill": ["box"],
    "load": ["OUT"],
    "logs": ["box"],
    "port": ["box"],
    "prune": [""],
    "pull": ["localhost:9/none"],
    "push": ["image localhost:9/none"],
    "redo": ["box"],
    "rename": ["box other"],
    "restart": ["box"],
    "restore": ["box@0 /f"],
    "rm": ["box"],
    "rmi": ["image"],
    "stop": ["box"],
    "tag": ["image other"],
    "top": ["box"],
    "undo": ["box"],
    "volume": ["rm data", "create other"],
    "wait": ["box"],
}
"""Operands of the other verbs: those that write, and those of what runs, which nothing does here."""


def lines(table: dict[str, list[str]], place: Path) -> list[tuple[str, list[str]]]:
    """Each verb of a table with its operands; what it writes goes to `place`."""
    return [
        (verb, one.replace("OUT", str(place / "out")).split()) for verb, several in table.items() for one in several
    ]


def answer(engine: Engine, verb: str, words: list[str]) -> str:
    """The text of a verb's view."""
    return str(VERBS[verb].run(Invocation(engine, parse(VERBS[verb].command, words))))


def fill(store: Path, data: Path) -> None:
    """Makes a container, an image, a container with a copy-on-write volume, and a named volume."""
    data.mkdir(exist_ok=True)
    with contextlib.closing(Engine(store)) as engine:
        run_script(engine, "echo kept > /f; rm -r /etc", name="box")
        answer(engine, "commit", ["box", "image"])
        for volumes in ([f"{data}:/data:cow"], ["data:/data"]):
            api.run("busybox", script="echo > /data/f", name="changed", volumes=volumes, engine=engine)


def test_each_verb_has_a_line_here() -> None:
    """A new verb is tried on such a store, too."""
    new, gone = set(VERBS) - {*READING, *WRITING}, {*READING, *WRITING} - set(VERBS)
    assert not new, f"add operands to READING, if the verb only reads, or else to WRITING: {', '.join(sorted(new))}"
    assert not gone, f"remove these from READING or WRITING: {', '.join(sorted(gone))}"


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that is seen through a read-only bind mount."""
    require_root()
    place = tmp_path_factory.mktemp("read-only")
    fill(place / "store", place / "data")
    (place / "view").mkdir()
    subprocess.run(["mount", "--bind", place / "store", place / "view"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place / "view"], check=True)
    yield place / "view"
    subprocess.run(["umount", place / "view"], check=True)


def test_a_verb_that_reads_works_on_a_read_only_store(read_only: Path, tmp_path: Path) -> None:
    """It gives its answer, as on any store."""
    failed = []
    with contextlib.closing(Engine(read_only)) as engine:
        for verb, words in lines(READING, tmp_path):
            try:
                answer(engine, verb, words)
            except Exception as error:
                failed.append((verb, words, repr(error)))
    assert not failed, "\n".join(map(str, failed))


def trouble(engine: Engine, verb: str, words: list[str]) -> list[tuple[str, list[str], str]]:
    """What is wrong with a verb that neither gives an answer nor one line of the package's own errors."""
    try:
        answer(engine, verb, words)
    except NbcontainerError as error:
        return [] if str(error).isprintable() else [(verb, words, repr(error))]
    except Exception as error:
        return [(verb, words, repr(error))]
    return []


def test_a_verb_that_writes_is_one_line_on_a_read_only_store(read_only: Path, tmp_path: Path) -> None:
    """It gives its answer, or one line of the package's own errors."""
    (tmp_path / "out").write_text("x")
    failed = []
    with contextlib.closing(Engine(read_only)) as engine:
        for verb, words in lines(WRITING, tmp_path):
            failed += trouble(engine, verb, words)
    assert not failed, "\n".join(map(str, failed))


REMOVING = """
import contextlib, sys
from pathlib import Path
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
from tests.linux.test_every_verb import answer
from tests.running import run_script

engine = Engine(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    for verb, *words in (
        ["rm", "box"], ["prune"], ["rmi", "image"], ["RUN"],
        ["commit", "box", "image"], ["undo", "box"], ["volume", "rm", "data"],
    ):
        with contextlib.suppress(NbcontainerError):
            if verb == "RUN":
                run_script(engine, "echo kept > /f", name="box")
            else:
                answer(engine, verb, words)
"""


@pytest.mark.slow
def test_a_verb_while_another_process_removes_things(engine: Engine, tmp_path: Path) -> None:
    """Whatever is gone at whatever moment: an answer, or one line of the package's own errors."""
    assert engine
    store = tmp_path / "store"
    fill(store, tmp_path / "data")
    with subprocess.Popen([sys.executable, "-c", REMOVING, store], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        try:
            failed: list[tuple[str, list[str], str]] = []
            with contextlib.closing(Engine(store)) as own:
                every = [*lines(READING, tmp_path), *lines(WRITING, tmp_path)]
                for _, (verb, words) in itertools.product(range(ROUNDS), every):
                    if verb == "doctor":  # it looks at the machine, for seconds
                        continue
                    failed += trouble(own, verb, words)
            assert not failed, "\n".join(map(str, failed))
            assert other.poll() is None
        finally:
            other.kill()
