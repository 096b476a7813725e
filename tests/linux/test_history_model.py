"""Random sequences of cells and of moves in the history, against a plain model that copies the tree for each state.

The length is set by NBCONTAINER_HISTORY_EXAMPLES, NBCONTAINER_HISTORY_STEPS and NBCONTAINER_HISTORY_KILLS.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit, export
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history.flatten import Flattening
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.integrity.container_check import check_containers
from nbcontainer.errors import ContainerError
from nbcontainer.outcome import Outcome, Reason
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.containers.container import Container

EXAMPLES = int(os.environ.get("NBCONTAINER_HISTORY_EXAMPLES", "3"))
STEPS = int(os.environ.get("NBCONTAINER_HISTORY_STEPS", "25"))

KILLS = int(os.environ.get("NBCONTAINER_HISTORY_KILLS", "1"))
"""Processes of each example that are killed: each costs a start of the interpreter."""

ROOT = os.geteuid() == 0
"""Only root can give the model's files to other users, so owners are compared for root alone."""

Facts = dict[str, tuple[object, ...]]

Groups = dict[str, object]
"""The identity of each regular file by its path: names of one file have the same one."""

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
    **({"owner": "[ -e {p} ] && [ ! -L {p} ] && chown {m}:1{m} {p}"} if ROOT else {}),
}


@dataclass
class Cell:
    """A state of the model: the one before it, and the whole tree after it."""

    parent: int
    tree: Facts
    changed: bool
    groups: Groups = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """The tree, and the names of the same file."""
        names: dict[object, list[str]] = {}
        for path, group in self.groups.items():
            names.setdefault(group, []).append(path)
        return self.tree | linked(names.values())


def linked(groups: Iterable[Iterable[str]]) -> Facts:
    """Facts about names of the same file."""
    return {f"={min(names)}": tuple(sorted(names)) for names in map(list, groups) if len(names) > 1}


def of_directory(top: Path) -> Facts:
    """The facts of all files below a directory: type, mode, owner, time, attributes, content or target.

    Links have no time here: `mv` of busybox gives a link another one if it has to copy a directory of a lower layer.
    """
    found: Facts = {}
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            facts, key = os.lstat(path), os.path.relpath(path, top)
            owner = (facts.st_uid, facts.st_gid) if ROOT else ()
            if stat.S_ISLNK(facts.st_mode):
                found[key] = ("link", owner, os.readlink(path))  # noqa: PTH115
            elif stat.S_ISDIR(facts.st_mode):
                found[key] = ("directory", owner, stat.S_IMODE(facts.st_mode))
            else:
                names = [one for one in os.listxattr(path) if one.startswith("user.")]
                attributes = {one: os.getxattr(path, one).decode() for one in names}
                content = Path(path).read_bytes()
                found[key] = ("file", owner, stat.S_IMODE(facts.st_mode), int(facts.st_mtime), attributes, content)
    return found


def inodes(top: Path) -> dict[str, tuple[int, int]]:
    """The inode and the change time of each regular file below a directory."""
    found = {}
    for folder, _, files in os.walk(top):
        for name in files:
            facts = os.lstat(path := os.path.join(folder, name))  # noqa: PTH118
            if stat.S_ISREG(facts.st_mode):
                found[os.path.relpath(path, top)] = (facts.st_ino, facts.st_ctime_ns)
    return found


def copy(source: Path, target: Path) -> None:
    """Copy a file or tree. Names of one file become files of their own: `groups` says which were one."""
    keep = "--preserve=mode,ownership,timestamps,xattr"
    subprocess.run(["cp", "-PR", keep, source, target], check=True)


def of_container(made: Container, target: Path, *, links: bool = True) -> Facts:
    """The facts of all files below /w in a container's present state."""
    export(made.workspace, made.lowers[::-1], target)
    found: Facts = {}
    same: dict[str, set[str]] = {}
    with tarfile.open(target) as tar:
        for entry in tar:
            key = entry.name.removeprefix("./").removeprefix("w/").rstrip("/")
            if not entry.name.removeprefix("./").startswith("w/") or not key:
                continue
            owner = (entry.uid, entry.gid) if ROOT else ()
            if entry.issym():
                found[key] = ("link", owner, entry.linkname)
            elif entry.isdir():
                found[key] = ("directory", owner, entry.mode)
            else:
                first = entry.linkname.removeprefix("./").removeprefix("w/") if entry.islnk() else key
                same.setdefault(first, {first}).add(key)
                source = tar.getmember(entry.linkname) if entry.islnk() else entry
                content = tar.extractfile(source)
                assert content is not None
                prefix, headers = "SCHILY.xattr.", source.pax_headers
                attributes = {name.removeprefix(prefix): headers[name] for name in headers if name.startswith(prefix)}
                owner = (source.uid, source.gid) if ROOT else ()
                found[key] = ("file", owner, source.mode, int(source.mtime), attributes, content.read())
    return found | linked(same.values()) if links else found


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
        self.kept = self.killed = 0
        self._run("mkdir -p .")

    def _run(self, script: str) -> None:
        """Run a script in the container, and on a copy of the model's tree; add the state to the model."""
        new = self._modelled(script)
        ran = run_script(self.engine, f"mkdir -p /w && cd /w && {{ {script}; }}; true", name=self.name)
        assert ran.outcome.ok, ran.stderr
        self._adopt(new)

    def _modelled(self, script: str) -> Cell:
        """The state of the model after a script."""
        after = self._copied()
        was = inodes(after)
        subprocess.run(["busybox", "sh", "-c", script], cwd=after, check=False, stderr=subprocess.DEVNULL)
        return self._cell(after, was)

    def _copied(self) -> Path:
        """A copy of the model's tree, for the next state."""
        before, after = self.place / f"w{self.head}", self.place / f"w{len(self.cells)}"
        shutil.rmtree(after, ignore_errors=True)  # of a process that was killed
        if before.exists():
            copy(before, after)
        else:
            after.mkdir()
        return after

    def _cell(self, after: Path, was: dict[str, tuple[int, int]]) -> Cell:
        """The state with the tree `after`. A file that was not touched is still the one that it was.

        overlayfs copies a file that changes, so it is not the same as its other names any more.
        """
        old, count = self.cells[self.head].groups, len(self.cells)
        groups = {
            path: old[path] if was.get(path) == found and path in old else (count, found[0])
            for path, found in inodes(after).items()
        }
        return Cell(self.head, of_directory(after), changed=False, groups=groups)

    def _adopt(self, new: Cell) -> None:
        last = containers.get(self.engine, self.name).record.last
        assert last is not None
        new.changed = bool(last.layer)
        self.cells.append(new)
        self.head = self.tip = len(self.cells) - 1

    def _number(self, chosen: int) -> int:
        """The number that a state of the line has in the container."""
        position = len(self._line(chosen))
        numbers = [one.number for one in containers.get(self.engine, self.name).history.chain()][::-1]
        return 0 if chosen == 0 else numbers[position - 1]

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
        chosen = line[pick % len(line)]
        found = containers.get(self.engine, self.name)
        fork = f"model-{secrets.token_hex(4)}"
        found.checkout(found.state(self._number(chosen)), fork)
        if forget:
            containers.get(self.engine, self.name).remove()
        else:
            self.names.append(self.name)
        self.name, self.head, self.tip = fork, chosen, chosen

    @rule(path=some.sampled_from(("a", "b")))
    def attribute(self, path: str) -> None:
        """A cell that writes a file with an attribute: busybox has no program for that, so its layer is made here."""
        number, store = next(self.numbers), self.engine.store
        after = self._copied()
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
        found = containers.get(self.engine, self.name)
        with found.use():
            found.add_cell(CellRecord(place.name, "attribute", "2026-11-24T20:00:00Z", Outcome(Reason.EXITED, 0)))
        self._adopt(self._cell(after, was))

    @rule(pick=some.integers(0, 1000), path=some.sampled_from(PATHS))
    def restore(self, pick: int, path: str) -> None:
        """Give the container a path of any state of the line, or be refused."""
        line = [*self._line(self.head), 0]
        chosen = line[pick % len(line)]
        number = self._number(chosen)
        new = self._restored(chosen, path)
        if new is None:
            with pytest.raises(ContainerError):
                restore(containers.get(self.engine, self.name), number, [f"/w/{path}"])
            return
        restore(containers.get(self.engine, self.name), number, [f"/w/{path}"])
        self._adopt(new)

    def _restored(self, chosen: int, path: str) -> Cell | None:
        """The state of the model with a path of the state `chosen`; None if that is refused."""
        old, now = self.cells[chosen].tree, self.cells[self.head].tree
        above = list(itertools.accumulate(path.split("/")[:-1], "{}/{}".format))
        for way in above:
            kinds = [tree.get(way, ("",))[0] for tree in (old, now)]
            if "link" in kinds or kinds == ["directory", "file"] or "directory" not in kinds:
                return None
        if path not in old and path not in now:
            return None
        after, source = self._copied(), self.place / f"w{chosen}"
        was = inodes(after)
        subprocess.run(["rm", "-rf", after / path], check=True)
        groups = dict(self.cells[self.head].groups)
        if path in old:
            for way in above:
                if not (after / way).exists():
                    (after / way).mkdir()
                    facts = (source / way).stat()
                    os.chown(after / way, facts.st_uid, facts.st_gid)
                    (after / way).chmod(stat.S_IMODE(facts.st_mode))
            copy(source / path, after / path)
        new = self._cell(after, was)
        inside = [one for one in new.groups if one == path or one.startswith(f"{path}/")]
        new.groups |= {one: self.cells[chosen].groups[one] for one in inside}
        assert groups.keys() >= new.groups.keys() - set(inside)
        return new

    @precondition(lambda self: self.names)
    @rule(pick=some.integers(0, 1000))
    def remove(self, pick: int) -> None:
        """Remove a container that others may have been checked out of."""
        containers.get(self.engine, self.names.pop(pick % len(self.names))).remove()

    @precondition(lambda self: self.killed < KILLS and len(self.cells) > 2)
    @rule(
        kind=some.sampled_from(("write", "move", "restore", "undo", "prune", "flatten")),
        path=some.sampled_from(PATHS),
        event=some.integers(1, 400),
    )
    def kill(self, kind: str, path: str, event: int) -> None:
        """Another process does one of these and is killed meanwhile: all of it is done, or nothing."""
        self.killed += 1
        chosen, changed = max(self.cells[self.head].parent, 0), self._changed(self.head)
        new: Cell | None = None
        words: list[str] = []
        if kind in DO:
            script = DO[kind].format(p=path, n=next(self.numbers), m="55")
            new, words = self._modelled(script), [f"mkdir -p /w && cd /w && {{ {script}; }}; true"]
        elif kind == "restore":
            new, words = self._restored(chosen, path), [str(self._number(chosen)), f"/w/{path}"]
        count = len(self._line(self.head))
        place = [str(self.engine.store.path), self.name, str(event)]
        child = [sys.executable, "-m", "tests.linux.history_process", *place, kind, *words]
        self.engine.background.wait()
        done = subprocess.run(child, capture_output=True, check=False)
        assert done.returncode in (0, 1, -signal.SIGKILL), done.stderr
        assert done.returncode != 1 or new is None, done.stderr
        self.start_again()
        record = containers.get(self.engine, self.name).record
        if new is not None and record.count == count + 1:
            self._adopt(new)
        elif kind == "undo" and changed and record.count != count:
            self.head = self.cells[changed[0]].parent
        elif kind == "prune" and record.tip == record.head:
            self.tip = self.head

    @rule()
    def prune(self) -> None:
        """Drop what was undone: nothing can be redone then. What a process that was killed left goes, too."""
        self.engine.background.wait()
        prune(self.engine)
        self.tip = self.head
        assert not [path.name for path in (self.engine.store.path / "tmp").iterdir() if not self._own(path)]

    def _own(self, path: Path) -> bool:
        return path.name.partition(".")[0] == self.engine.store.session

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
        # Each layer of an image has files of its own: names of one file in two layers are two files there.
        assert of_container(made, self.place / "image.tar", links=False) == self.cells[self.head].tree

    @rule()
    def start_again(self) -> None:
        """Read all from disk, as another process does."""
        self.engine.states._known.clear()
        self.engine.states.flats._known.clear()

    @invariant()
    def trees_agree(self) -> None:
        """Tree and number of cells are those of the model, and all that containers need is there."""
        found = containers.get(self.engine, self.name)
        assert of_container(found, self.place / "tree.tar") == self.cells[self.head].facts
        assert found.record.count == len(self._line(self.head))
        assert check_containers(self.engine.store) == []

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


@pytest.mark.timeout(1800)  # a step is some milliseconds on an idle machine, and a hundred times that on a busy one
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
            # A failure by the moment of a kill may not come again: long runs print their steps, and look for no others.
            verbosity=Verbosity.verbose if EXAMPLES > 3 else Verbosity.normal,
            phases=[Phase.generate] if EXAMPLES > 3 else tuple(Phase),
        )
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        own.close()
