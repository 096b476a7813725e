"""Random sequences of cells and of moves in the history, against a plain model that copies the tree for each state."""

from __future__ import annotations

import itertools
import os
import secrets
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nbcontainer.containers import container as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit, export
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history.flatten import Flattening
from nbcontainer.errors import ContainerError
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container

EXAMPLES = int(os.environ.get("NBCONTAINER_HISTORY_EXAMPLES", "3"))
STEPS = int(os.environ.get("NBCONTAINER_HISTORY_STEPS", "25"))

Facts = dict[str, tuple[object, ...]]

PATHS = ("a", "b", "d", "d/a", "d/e", "d/e/f")
DO = {
    "write": "mkdir -p $(dirname {p}) && rm -rf {p} && echo {n} > {p} && touch -d @{n} {p}",
    "append": "[ -f {p} ] && echo {n} >> {p} && touch -d @{n} {p}",
    "remove": "rm -rf {p}",
    "directory": "rm -rf {p}; mkdir -p {p} && chmod 7{m} {p}",
    "mode": "[ -e {p} ] && [ ! -L {p} ] && chmod 7{m} {p}",
    "link": "mkdir -p $(dirname {p}) && rm -rf {p} && ln -s {n} {p} && touch -h -d @{n} {p}",
    "name": "[ -f a ] && [ {p} != a ] && mkdir -p $(dirname {p}) && rm -rf {p} && ln a {p}",
    "move": "[ -d d ] && rm -rf b && mv d b",
    "nothing": "true",
}


@dataclass
class Cell:
    """A state of the model: the one before it, and the whole tree after it."""

    parent: int
    tree: Facts
    changed: bool


def of_directory(top: Path) -> Facts:
    """The facts of all files below a directory: type, mode, time, content or target, and the names of the same file."""
    found: Facts = {}
    names: dict[int, list[str]] = {}
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            facts, key = os.lstat(path), os.path.relpath(path, top)
            if stat.S_ISLNK(facts.st_mode):
                found[key] = ("link", 0o777, int(facts.st_mtime), os.readlink(path))  # noqa: PTH115
            elif stat.S_ISDIR(facts.st_mode):
                found[key] = ("directory", stat.S_IMODE(facts.st_mode))
            else:
                names.setdefault(facts.st_ino, []).append(key)
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = ("file", stat.S_IMODE(facts.st_mode), int(facts.st_mtime), file.read())
    return found | {f"={min(same)}": tuple(sorted(same)) for same in names.values() if len(same) > 1}


def of_container(made: Container, target: Path) -> Facts:
    """The facts of all files below /w in a container's present state."""
    export(made.workspace, made.lowers[::-1], target)
    found: Facts = {}
    same: dict[str, set[str]] = {}
    with tarfile.open(target) as tar:
        for entry in tar:
            key = entry.name.removeprefix("./").removeprefix("w/").rstrip("/")
            if not entry.name.removeprefix("./").startswith("w/") or not key:
                continue
            if entry.issym():
                found[key] = ("link", 0o777, int(entry.mtime), entry.linkname)
            elif entry.isdir():
                found[key] = ("directory", entry.mode)
            else:
                first = entry.linkname.removeprefix("./").removeprefix("w/") if entry.islnk() else key
                same.setdefault(first, {first}).add(key)
                source = tar.getmember(entry.linkname) if entry.islnk() else entry
                content = tar.extractfile(source)
                assert content is not None
                found[key] = ("file", source.mode, int(source.mtime), content.read())
    return found | {f"={min(names)}": tuple(sorted(names)) for names in same.values() if len(names) > 1}


class Histories(RuleBasedStateMachine):
    """One container and its model."""

    engine: Engine
    scratch: Path

    def __init__(self) -> None:
        super().__init__()
        self.name = f"model-{secrets.token_hex(4)}"
        self.numbers = itertools.count(1_500_000_000, 1000)
        self.cells = [Cell(-1, {}, changed=False)]
        self.head = self.tip = 0
        self.names: list[str] = []
        run_script(self.engine, "true")
        self.made = containers.create(self.engine, self.engine.images.find("busybox"), self.name)
        self.place = self.scratch / self.name
        self.place.mkdir()
        self.kept = 0
        self._run("mkdir -p .")

    def _run(self, script: str) -> None:
        """Run a script in the container, and on a copy of the model's tree; add the state to the model."""
        before, after = self.place / f"w{self.head}", self.place / f"w{len(self.cells)}"
        if before.exists():
            subprocess.run(["cp", "-a", before, after], check=True)
        else:
            after.mkdir()
        subprocess.run(["busybox", "sh", "-c", script], cwd=after, check=False, stderr=subprocess.DEVNULL)
        ran = run_script(self.engine, f"mkdir -p /w && cd /w && {{ {script}; }}; true", name=self.name)
        assert ran.outcome.ok, ran.stderr
        last = containers.get(self.engine, self.name).record.last
        assert last is not None
        self.cells.append(Cell(self.head, of_directory(after), bool(last.layer)))
        self.head = self.tip = len(self.cells) - 1

    def _line(self, at: int) -> list[int]:
        line = []
        while at > 0:
            line.append(at)
            at = self.cells[at].parent
        return line

    def _changed(self, at: int) -> list[int]:
        return [one for one in self._line(at) if self.cells[one].changed]

    @rule(kind=some.sampled_from(sorted(DO)), path=some.sampled_from(PATHS), mode=some.sampled_from(("00", "55", "70")))
    def cell(self, kind: str, path: str, mode: str) -> None:
        """Run a cell that changes something, or nothing."""
        self._run(DO[kind].format(p=path, n=next(self.numbers), m=mode))

    @rule(steps=some.integers(1, 3))
    def undo(self, steps: int) -> None:
        """Undo as many cells, or be refused."""
        changed = self._changed(self.head)
        if steps > len(changed):
            with pytest.raises(ContainerError):
                containers.get(self.engine, self.name).undo(steps)
            return
        containers.get(self.engine, self.name).undo(steps)
        self.head = self.cells[changed[steps - 1]].parent

    @rule(steps=some.integers(1, 3))
    def redo(self, steps: int) -> None:
        """Redo as many cells, or be refused."""
        here = set(self._line(self.head))
        ahead = [one for one in self._changed(self.tip) if one not in here][::-1]
        if steps > len(ahead):
            with pytest.raises(ContainerError):
                containers.get(self.engine, self.name).redo(steps)
            return
        containers.get(self.engine, self.name).redo(steps)
        self.head = self.tip if steps == len(ahead) else self.cells[ahead[steps]].parent

    @rule(pick=some.integers(0, 1000), forget=some.booleans())
    def checkout(self, pick: int, *, forget: bool) -> None:
        """Continue in a new container, in any state of the line; the one before is removed, or stays."""
        line = [*self._line(self.head), 0]
        state = containers.get(self.engine, self.name)
        chosen = line[pick % len(line)]
        position = len(self._line(chosen))
        numbers = [one.number for one in state.history.chain()][::-1]
        fork = f"model-{secrets.token_hex(4)}"
        state.checkout(None if chosen == 0 else state.state(numbers[position - 1]), fork)
        if forget:
            containers.get(self.engine, self.name).remove()
        else:
            self.names.append(self.name)
        self.name, self.head, self.tip = fork, chosen, chosen

    @rule()
    def prune(self) -> None:
        """Drop what was undone: nothing can be redone then."""
        self.engine.background.wait()
        prune(self.engine)
        self.tip = self.head

    @rule()
    def flatten(self) -> None:
        """Flatten all that can be flattened."""
        record = containers.get(self.engine, self.name).record
        Flattening(self.engine.store, self.engine.states, self.engine, record.base).all(record.head)

    @precondition(lambda self: self.kept < 2)
    @rule()
    def commit(self) -> None:
        """An image of the container has the same tree."""
        self.kept += 1
        image = commit(containers.get(self.engine, self.name), f"{self.name}-{self.kept}")
        made = containers.create_anonymous(self.engine, image)
        assert of_container(made, self.place / "image.tar") == self.cells[self.head].tree

    @rule()
    def start_again(self) -> None:
        """Read all from disk, as another process does."""
        self.engine.states._known.clear()
        self.engine.states.flats._known.clear()

    @invariant()
    def trees_agree(self) -> None:
        """Tree and number of cells are those of the model."""
        found = containers.get(self.engine, self.name)
        assert of_container(found, self.place / "tree.tar") == self.cells[self.head].tree
        assert found.record.count == len(self._line(self.head))

    def teardown(self) -> None:
        """Remove the containers."""
        for name in (self.name, *self.names):
            containers.get(self.engine, name).remove()
        self.engine.background.wait()
        subprocess.run(["rm", "-rf", self.place], check=True)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flatten 3 layers into one, not 16, so that short histories have several levels."""
    monkeypatch.setattr("nbcontainer.containers.history.flats.WIDTH", 3)
    monkeypatch.setattr("nbcontainer.containers.history.flatten.WIDTH", 3)


@pytest.mark.usefixtures("narrow")
def test_histories_agree_with_a_model_that_copies_the_tree(engine: Engine, tmp_path: Path) -> None:
    """After each step of random sequences, files, modes, times, links and the number of cells are the model's."""
    assert engine
    own = Engine(tmp_path / "store")
    try:
        machine = type("Bound", (Histories,), {"engine": own, "scratch": tmp_path})
        health = list(HealthCheck)
        chosen = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=health,
            database=None,
            print_blob=False,
        )
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        own.close()
