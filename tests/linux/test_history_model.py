"""Random sequences of cells and of moves in the history, against a plain model that copies the tree for each state.

The length is set by NBCONTAINER_HISTORY_EXAMPLES, NBCONTAINER_HISTORY_STEPS and NBCONTAINER_HISTORY_KILLS.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit, export
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.diff import diff
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history.flatten import Flattening
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.integrity.container_check import check_containers
from nbcontainer.errors import ContainerError, ContainerNotFound, ImageNotFound
from nbcontainer.outcome import Outcome, Reason
from tests.linux.history_trees import Cell, Trees
from tests.linux.killed import killed
from tests.linux.model_facts import DO, PATHS, Facts, inodes, of_tar
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container

EXAMPLES = int(os.environ.get("NBCONTAINER_HISTORY_EXAMPLES", "3"))
STEPS = int(os.environ.get("NBCONTAINER_HISTORY_STEPS", "25"))

KILLS = int(os.environ.get("NBCONTAINER_HISTORY_KILLS", "1"))
"""Processes of each example that are killed: each costs a start of the interpreter."""

KILLED = ("write", "move", "restore", "undo", "redo", "checkout", "commit", "remove", "prune", "flatten")


def of_container(made: Container, target: Path, *, links: bool = True) -> Facts:
    """The facts of all files below /w in a container's present state."""
    export(made.workspace, made.lowers[::-1], target)
    with tarfile.open(target) as tar:
        return of_tar(tar, "w/", links=links)


class Histories(RuleBasedStateMachine):
    """One container and its model."""

    engine: Engine
    scratch: Path
    counts: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.name = new_name()
        self.numbers = itertools.count(1_500_000_000, 1000)
        self.place = self.scratch / self.name
        self.model = Trees(self.place)
        self.others: dict[str, int] = {}
        """Other containers, and the state of the model that each was left in."""
        run_script(self.engine, "true")
        containers.create(self.engine, self.engine.images.find("busybox"), self.name)
        self.kept = self.killed = 0
        self._run("mkdir -p .")

    @property
    def made(self) -> Container:
        """The container."""
        return containers.get(self.engine, self.name)

    def _run(self, script: str) -> None:
        """Run a script in the container, and on a copy of the model's tree; add the state to the model."""
        new = self.model.after(script)
        ran = run_script(self.engine, f"mkdir -p /w && cd /w && {{ {script}; }}; true", name=self.name)
        assert ran.outcome.ok, ran.stderr
        self._adopt(new)

    def _adopt(self, new: Cell) -> None:
        last = self.made.record.last
        assert last is not None
        self.model.adopt(new, changed=bool(last.layer))

    def _number(self, chosen: int) -> int:
        """The number that a state of the line has in the container."""
        position = len(self.model.line(chosen))
        numbers = [one.number for one in self.made.history.chain()][::-1]
        return 0 if chosen == 0 else numbers[position - 1]

    def _picked(self, pick: int) -> int:
        """A state of the line, or the image."""
        line = [*self.model.line(self.model.head), 0]
        return line[pick % len(line)]

    @rule(kind=some.sampled_from(sorted(DO)), path=some.sampled_from(PATHS), mode=some.sampled_from(("00", "55", "70")))
    def cell(self, kind: str, path: str, mode: str) -> None:
        """Run a cell that changes something, or nothing."""
        self._run(DO[kind].format(p=path, n=next(self.numbers), m=mode))

    @rule(steps=some.integers(1, 3))
    def undo(self, steps: int) -> None:
        """Undo as many cells, or be refused."""
        if steps > len(self.model.changed(self.model.head)):
            with pytest.raises(ContainerError):
                self.made.undo(steps)
            return
        self.made.undo(steps)
        self.model.undo(steps)

    @rule(steps=some.integers(1, 3))
    def redo(self, steps: int) -> None:
        """Redo as many cells, or be refused."""
        if steps > len(self.model.ahead()):
            with pytest.raises(ContainerError):
                self.made.redo(steps)
            return
        self.made.redo(steps)
        self.model.redo(steps)

    @rule(pick=some.integers(0, 1000), forget=some.booleans())
    def checkout(self, pick: int, *, forget: bool) -> None:
        """Continue in a new container, in any state of the line; the one before is removed, or stays."""
        chosen, fork, model = self._picked(pick), new_name(), self.model
        found = self.made
        found.checkout(found.state(self._number(chosen)), fork)
        if forget:
            found.remove()
        else:
            self.others[self.name] = model.head
        self.name, model.head, model.tip = fork, chosen, chosen

    @rule(path=some.sampled_from(("a", "b")))
    def attribute(self, path: str) -> None:
        """A cell that writes a file with an attribute: busybox has no program for that, so its layer is made here."""
        number, store = next(self.numbers), self.engine.store
        after = self.model.copied()
        was = inodes(after)
        place = store.layers.make_private(store.unique())
        store.new_directory(place / "diff")
        store.new_directory(place / "diff" / "w")
        if (after / path).is_dir() and not (after / path).is_symlink():
            shutil.rmtree(after / path)
        (after / path).unlink(missing_ok=True)
        for file in (after / path, place / "diff" / "w" / path):
            file.write_text(f"{number}\n")
            file.chmod(0o640)
            os.setxattr(file, "user.mine", str(number).encode())
            os.utime(file, (number, number))
        os.chown(place / "diff" / "w" / path, *store.owner)
        found = self.made
        with found.use():
            found.add_cell(CellRecord(place.name, "attribute", "2026-11-24T20:00:00Z", Outcome(Reason.EXITED, 0)))
        self._adopt(self.model.cell(after, was))

    @rule(pick=some.integers(0, 1000), path=some.sampled_from(PATHS))
    def restore(self, pick: int, path: str) -> None:
        """Give the container a path of any state of the line, or be refused."""
        chosen = self._picked(pick)
        number, new = self._number(chosen), self.model.restored(chosen, path)
        if new is None:
            with pytest.raises(ContainerError):
                restore(self.made, number, [f"/w/{path}"])
            return
        restore(self.made, number, [f"/w/{path}"])
        self._adopt(new)

    @precondition(lambda self: self.others)
    @rule(pick=some.integers(0, 1000))
    def remove(self, pick: int) -> None:
        """Remove a container that others may have been checked out of."""
        name = sorted(self.others)[pick % len(self.others)]
        del self.others[name]
        containers.get(self.engine, name).remove()

    @precondition(lambda self: self.killed < KILLS and len(self.model.cells) > 2)
    @rule(
        kind=some.sampled_from(KILLED),
        path=some.sampled_from(PATHS),
        pick=some.integers(0, 1000),
        moment=some.floats(0, 1),
    )
    def kill(self, kind: str, path: str, pick: int, moment: float) -> None:
        """Another process does one of these and is killed meanwhile: all of it is done, or nothing."""
        self.killed += 1
        self.counts["kills"] += 1
        words = self._words(kind, path, pick)
        before = self.made.record
        self.engine.background.wait()
        refused = killed(self.engine, self.name, kind, words, moment)
        self.start_again()
        record = self.made.record
        if kind in (*DO, "restore") and record.count == before.count + 1:
            assert self.new is not None
            self._adopt(self.new)
        elif kind in ("undo", "redo") and record.head != before.head:
            vars(Trees)[kind](self.model, 1)
        elif kind == "prune" and record.tip == record.head:
            self.model.tip = self.model.head
        elif kind == "checkout":
            self._look_at(words[0], self._picked(pick))
        elif kind == "remove":
            self._look_at(words[0], self.model.head)
        elif kind == "commit":
            self._look_at_image(words[0])
        assert not refused or kind in ("undo", "redo") or (kind == "restore" and self.new is None), refused

    def _words(self, kind: str, path: str, pick: int) -> list[str]:
        """What a process that is killed gets besides; `new` is the state of the model after it, None if refused."""
        self.new = None
        if kind == "restore":
            chosen = max(self.model.now.parent, 0)
            self.new = self.model.restored(chosen, path)
            return [str(self._number(chosen)), f"/w/{path}"]
        if kind == "checkout":
            return [new_name(), str(self._number(self._picked(pick)))]
        if kind == "commit":
            return [f"{self.name}-killed{self.killed}"]
        if kind == "remove":
            found, fork = self.made, new_name()
            found.checkout(found.record.head, fork)
            return [fork]
        if kind not in DO:
            return []
        script = DO[kind].format(p=path, n=next(self.numbers), m="55")
        self.new = self.model.after(script)
        return [f"mkdir -p /w && cd /w && {{ {script}; }}; true"]

    def _look_at(self, name: str, state: int) -> None:
        """A container that another process made or removed is there with its whole state, or is not there."""
        try:
            found = containers.get(self.engine, name)
        except ContainerNotFound:
            return
        assert of_container(found, self.place / "tree.tar") == self.model.cells[state].facts
        self.others[name] = state

    def _look_at_image(self, name: str) -> None:
        """An image that another process made is there with the whole tree, or is not there."""
        try:
            image = self.engine.store.index.image(name)
        except ImageNotFound:
            return
        made = containers.create_anonymous(self.engine, image)
        assert of_container(made, self.place / "image.tar", links=False) == self.model.now.tree

    @rule()
    def prune(self) -> None:
        """Drop what was undone: nothing can be redone then. What a process that was killed left goes, too."""
        self.engine.background.wait()
        prune(self.engine)
        self.model.tip = self.model.head
        assert not [path.name for path in (self.engine.store.path / "tmp").iterdir() if not self._own(path)]

    def _own(self, path: Path) -> bool:
        return path.name.partition(".")[0] == self.engine.store.session

    @rule()
    def flatten(self) -> None:
        """Flatten all that can be flattened."""
        record = self.made.record
        Flattening(self.engine.store, self.engine.states, self.engine, record.base).all(record.head)

    @precondition(lambda self: self.kept < 2)
    @rule()
    def commit(self) -> None:
        """An image of the container has the same tree."""
        self.kept += 1
        image = commit(self.made, f"{self.name}-{self.kept}")
        made = containers.create_anonymous(self.engine, image)
        # Each layer of an image has files of its own: names of one file in two layers are two files there.
        assert of_container(made, self.place / "image.tar", links=False) == self.model.now.tree

    @rule()
    def start_again(self) -> None:
        """Read all from disk, as another process does."""
        self.engine.states._known.clear()
        self.engine.states.flats._known.clear()

    @invariant()
    def trees_agree(self) -> None:
        """Tree, differences and number of cells are those of the model, and all that containers need is there."""
        self.counts["steps"] += 1
        found = self.made
        assert of_container(found, self.place / "tree.tar") == self.model.now.facts
        changes = {str(change) for change in diff(found) if change.path.startswith("/w/")}
        assert changes == {f"A /w/{path}" for path in self.model.now.tree}
        assert found.record.count == len(self.model.line(self.model.head))
        assert check_containers(self.engine.store) == []

    def teardown(self) -> None:
        """Remove the containers. The others were not changed by what was done to this one."""
        for name, state in self.others.items():
            self._look_at(name, state)
        for name in (self.name, *self.others):
            containers.get(self.engine, name).remove()
        self.engine.background.wait()
        subprocess.run(["rm", "-rf", self.place], check=True)


def new_name() -> str:
    """A name for a container."""
    return f"model-{secrets.token_hex(4)}"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flatten 3 layers into one, not 16, so that short histories have several levels."""
    monkeypatch.setattr("nbcontainer.containers.history.flats.WIDTH", 3)
    monkeypatch.setattr("nbcontainer.containers.history.flatten.WIDTH", 3)


@pytest.mark.timeout(1800)  # a step is some milliseconds on an idle machine, and a hundred times that on a busy one
@pytest.mark.usefixtures("narrow")
def test_histories_agree_with_a_model_that_copies_the_tree(engine: Engine, tmp_path: Path) -> None:
    """After each step of random sequences, files, modes, times, links and the number of cells are the model's."""
    assert engine
    own, counts = Engine(tmp_path / "store"), Counter[str]()
    try:
        machine = type("Bound", (Histories,), {"engine": own, "scratch": tmp_path, "counts": counts})
        health = list(HealthCheck)
        chosen = settings(
            max_examples=EXAMPLES,
            derandomize=EXAMPLES <= 3,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=health,
            database=None,
            print_blob=False,
            # A failure by the moment of a kill may not come again: long runs print their steps, and look for no others.
            verbosity=Verbosity.verbose if EXAMPLES > 3 else Verbosity.normal,
            phases=[Phase.generate] if EXAMPLES > 3 else tuple(Phase),
        )
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        own.close()
        print(*(f"{number} {what}" for what, number in counts.items()))
