"""Random sequences of cells, `apply`, `discard` and moves in the history, against a model that copies the directory.

The length is set by NBCONTAINER_COW_EXAMPLES, NBCONTAINER_COW_STEPS and NBCONTAINER_COW_KILLS.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers import run as running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import attaching, volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history.flatten import Flattening
from nbcontainer.containers.history.volume_states import layers_of
from nbcontainer.containers.integrity.container_check import check_containers
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ChangesRefused, ContainerError
from tests.linux.killed import killed
from tests.linux.model_facts import DO, PATHS, ROOT, Facts, copy
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.record import Record
    from nbcontainer.sandbox.spec import Volume

EXAMPLES = int(os.environ.get("NBCONTAINER_COW_EXAMPLES", "2"))
STEPS = int(os.environ.get("NBCONTAINER_COW_STEPS", "12"))

KILLS = int(os.environ.get("NBCONTAINER_COW_KILLS", "1"))
"""Processes of each example that are killed: each costs a start of the interpreter."""

KINDS = sorted(DO)
"""What cells do."""


@dataclass
class View:
    """A state of the model: the one before it, the directory with what cells see, and whether its cell changed that.

    `number` is that of the state in the container.
    """

    parent: int
    place: Path
    changed: bool
    number: int = 0


def of_directory(top: Path) -> Facts:
    """The facts of all files below a directory: type, owner, mode, time, content or target.

    Links have no time here: `mv` of busybox gives a link another one if it has to copy a directory of the host.
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
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = ("file", owner, stat.S_IMODE(facts.st_mode), int(facts.st_mtime), file.read())
    return found


def of_tar(data: bytes) -> Facts:
    """The facts of all files in a tar, as `of_directory` has them."""
    found: Facts = {}
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        for entry in tar:
            key = entry.name.removeprefix("./").rstrip("/")
            if key in ("", "."):
                continue
            owner = (entry.uid, entry.gid) if ROOT else ()
            if entry.issym():
                found[key] = ("link", owner, entry.linkname)
            elif entry.isdir():
                found[key] = ("directory", owner, entry.mode)
            else:
                source = tar.getmember(entry.linkname) if entry.islnk() else entry
                content = tar.extractfile(source)
                assert content is not None
                owner = (source.uid, source.gid) if ROOT else ()
                found[key] = ("file", owner, source.mode, int(source.mtime), content.read())
    return found


class Volumes(RuleBasedStateMachine):
    """One container with one volume, and its model.

    `base` is the state before which no undo leads, and `tip` the one to which redo leads.
    """

    engine: Engine
    scratch: Path

    def __init__(self) -> None:
        super().__init__()
        self.name = f"cow-{secrets.token_hex(4)}"
        self.numbers = itertools.count(1_500_000_000, 1000)
        self.top = self.scratch / self.name
        self.host = self.top / "host"
        (self.host / "d").mkdir(parents=True)
        (self.host / "a").write_text("of the host\n")
        (self.host / "d" / "e").write_text("of the host\n")
        run_script(self.engine, "true")
        containers.create(self.engine, self.engine.images.find("busybox"), self.name)
        self.volume = cast("Volume", parse_volume(f"{self.host}:/w:cow"))
        self.forks: list[str] = []
        self.views = [View(-1, self._copy(self.host), changed=False)]
        self.head = self.base = self.tip = self.killed = 0
        self.crossed = False
        self._run("true")

    @property
    def made(self) -> Container:
        """The container."""
        return containers.get(self.engine, self.name)

    def _copy(self, source: Path) -> Path:
        """A copy of a directory, in which names of one file are files of their own.

        overlayfs copies a file when one of its names changes, and the others keep what they had. Which names are one
        file, the model of histories compares.
        """
        target = self.top / secrets.token_hex(4)
        copy(source, target)
        return target

    def _cell(self, script: str) -> bytes:
        ran = run_script(self.engine, script, name=self.name, volumes=(self.volume,))
        assert ran.outcome.ok, ran.stderr
        return ran.stdout

    def _run(self, script: str) -> None:
        """Run a script in the container, and in a copy of the model's directory."""
        place = self._copy(self.views[self.head].place)
        subprocess.run(["busybox", "sh", "-c", script], cwd=place, check=False, stderr=subprocess.DEVNULL)
        before = layers_of(self.made.record.volumes)
        self._cell(f"cd /w && {{ {script}; }} 2>/dev/null; true")
        self._add(place, changed=before != layers_of(self.made.record.volumes))

    def _add(self, place: Path, *, changed: bool) -> None:
        head = self.made.record.head
        self.views.append(View(self.head, place, changed, 0 if head is None else head.number))
        self.head = self.tip = len(self.views) - 1

    def _changed(self, at: int) -> list[int]:
        """The states up to `at` and since `base` that changed something, the newest first."""
        found = []
        while at > self.base:
            found += [at] if self.views[at].changed else []
            at = self.views[at].parent
        return found

    def _see(self) -> bytes:
        """A tar of the volume in a cell that leaves no state."""
        out: list[bytes] = []
        err: list[bytes] = []
        options = run_options({"volumes": (self.volume,)})
        request, made = Request("", self.name, (), "cd /w && tar c .", False, options), self.made
        streams = Streams(out.append, err.append)
        outcome = running.run_in(self.engine, made, made.image(), request, streams, keep=False)
        assert outcome.ok, err
        return b"".join(out)

    @rule(kind=some.sampled_from(KINDS), path=some.sampled_from(PATHS), mode=some.sampled_from(("00", "55", "70")))
    def cell(self, kind: str, path: str, mode: str) -> None:
        """Run a cell that changes something, or nothing."""
        self._run(DO[kind].format(p=path, n=next(self.numbers), m=mode))

    @rule()
    def apply(self) -> None:
        """The host has what cells saw, or there is nothing to apply."""
        if not volume_changes.has_changes(self.made):
            with pytest.raises(ChangesRefused):
                volume_changes.apply(self.made)
            return
        host = of_directory(self.host)
        try:
            volume_changes.apply(self.made)
        except ChangesRefused:  # what an earlier `apply` wrote, before its undo, is a change of the host
            assert self.crossed
            assert of_directory(self.host) == host
            volume_changes.apply(self.made, force=True)
        self._applied()

    def _applied(self) -> None:
        assert of_directory(self.host) == of_directory(self.views[self.head].place)
        self.base, self.crossed = self.head, False
        self._add(self.views[self.head].place, changed=True)

    @precondition(lambda self: volume_changes.has_changes(self.made))
    @rule()
    def discard(self) -> None:
        """Cells see the host's directory again."""
        volume_changes.discard(self.made)
        self._add(self._copy(self.host), changed=True)

    @rule(steps=some.integers(1, 3))
    def undo(self, steps: int) -> None:
        """Undo as many cells, as far as to before the last `apply`: earlier states are on another directory now."""
        changed = self._changed(self.head)
        if steps <= len(changed):
            self.made.undo(steps)
            self._undone(changed[steps - 1])

    def _undone(self, state: int) -> None:
        """Go to before a state. The one before `apply` has the changes still, and cells see the same."""
        self.head = self.views[state].parent
        self.crossed |= self.head == self.base > 0

    @rule(steps=some.integers(1, 3))
    def redo(self, steps: int) -> None:
        """Redo as many cells, or be refused."""
        ahead = self._ahead()
        if steps > len(ahead):
            with pytest.raises(ContainerError):
                self.made.redo(steps)
            return
        self.made.redo(steps)
        self.head = self.tip if steps == len(ahead) else self.views[ahead[steps]].parent

    def _ahead(self) -> list[int]:
        """The states that `redo` leads to, the next one first."""
        here = set(self._line())
        return [one for one in self._changed(self.tip) if one not in here][::-1]

    @precondition(lambda self: EXAMPLES > 2)
    @rule(pick=some.integers(0, 1000), path=some.sampled_from(PATHS))
    def restore(self, pick: int, path: str) -> None:
        """Give the volume a path of any state since `base`, or be refused and change nothing. In long runs only."""
        line = self._line()
        old = self.views[line[pick % len(line)]]
        before = self.made.record
        try:
            restore(self.made, old.number, [f"/w/{path}"])
        except ContainerError:
            assert self.made.record.head == before.head
            return
        place, source = self._copy(self.views[self.head].place), old.place / path
        subprocess.run(["rm", "-rf", place / path], check=True)
        if source.exists() or source.is_symlink():
            copy(source, place / path)
        self._add(place, changed=layers_of(self.made.record.volumes) != layers_of(before.volumes))

    def _line(self) -> list[int]:
        """The states since `base`, the newest first."""
        found, at = [self.head], self.head
        while at > self.base:
            at = self.views[at].parent
            found.append(at)
        return found

    @rule(pick=some.integers(0, 1000))
    def checkout(self, pick: int) -> None:
        """Continue in a new container, in any state since `base`; the one before stays."""
        line = [one for one in self._line() if self.views[one].number]
        chosen = line[pick % len(line)]
        fork = f"cow-{secrets.token_hex(4)}"
        self.made.checkout(self.made.state(self.views[chosen].number), fork)
        self.forks.append(self.name)
        self.name, self.head, self.tip = fork, chosen, chosen

    @precondition(lambda self: self.forks)
    @rule(pick=some.integers(0, 1000))
    def remove(self, pick: int) -> None:
        """Remove a container that others were checked out of."""
        containers.get(self.engine, self.forks.pop(pick % len(self.forks))).remove()

    @rule()
    def prune(self) -> None:
        """Drop what was undone: nothing can be redone then."""
        self.engine.background.wait()
        prune(self.engine)
        self.tip = self.head

    @rule()
    def flatten(self) -> None:
        """Flatten all layers of the root that can be flattened."""
        record = self.made.record
        Flattening(self.engine.store, self.engine.states, self.engine, record.base).all(record.head)

    @rule()
    def other(self) -> None:
        """Another container on the same directory applies a file of its own: all states see it on the host."""
        number, name = next(self.numbers), f"cow-{secrets.token_hex(4)}"
        run_script(self.engine, "true")
        made = containers.create(self.engine, self.engine.images.find("busybox"), name)
        script = f"echo {number} > /w/z && touch -d @{number} /w/z"
        ran = run_script(self.engine, script, name=name, volumes=(self.volume,))
        assert ran.outcome.ok, ran.stderr
        made = containers.get(self.engine, name)
        volume_changes.apply(made)
        made.remove()
        for view in self.views:
            subprocess.run(["cp", "-a", self.host / "z", view.place / "z"], check=True)

    @precondition(lambda self: self.killed < KILLS)
    @rule(
        kind=some.sampled_from(("write", "move", "apply", "discard", "undo", "redo", "prune", "checkout")),
        path=some.sampled_from(PATHS),
        moment=some.floats(0, 1),
    )
    def kill(self, kind: str, path: str, moment: float) -> None:
        """Another process does one of these and is killed meanwhile: all of it is done, or nothing."""
        if kind == "undo" and not self._changed(self.head):
            return  # it would lead to before `base`
        self.killed += 1
        before, host = self.made.record, of_directory(self.host)
        place, words = self.views[self.head].place, list[str]()
        if kind in DO:
            script = DO[kind].format(p=path, n=next(self.numbers), m="55")
            place = self._copy(place)
            subprocess.run(["busybox", "sh", "-c", script], cwd=place, check=False, stderr=subprocess.DEVNULL)
            words = [f"cd /w && {{ {script}; }} 2>/dev/null; true", str(self.host)]
        elif kind == "checkout":
            words.append(f"cow-{secrets.token_hex(4)}")
        self.engine.background.wait()
        killed(self.engine, self.name, kind, words, moment)
        self.start_again()
        self._see()  # the next use of the container
        self._after_kill(kind, before, place)
        if kind != "apply" or self.made.record.count == before.count:
            assert of_directory(self.host) == host

    def _after_kill(self, kind: str, before: Record, place: Path) -> None:
        """Find out whether it was done, and move the model."""
        record, changed, ahead = self.made.record, self._changed(self.head), self._ahead()
        if kind == "undo" and record.head != before.head:
            self._undone(changed[0])
        elif kind == "redo" and record.head != before.head:
            self.head = self.tip if len(ahead) == 1 else self.views[ahead[1]].parent
        elif kind == "prune" and record.tip == record.head:
            self.tip = self.head
        elif kind not in ("undo", "redo", "prune", "checkout") and record.count > before.count:
            if kind == "apply":
                self._applied()
            elif kind == "discard":
                self._add(self._copy(self.host), changed=True)
            else:
                self._add(place, changed=layers_of(before.volumes) != layers_of(record.volumes))

    @rule()
    def start_again(self) -> None:
        """Read all from disk, as another process does."""
        self.engine.states._known.clear()

    @invariant()
    def trees_agree(self) -> None:
        """Cells see the model's directory, and `changes` lists something if and only if it differs from the host's."""
        assert of_tar(self._see()) == of_directory(self.views[self.head].place)
        assert check_containers(self.engine.store) == []
        assert not [*self.host.rglob(".nbcontainer-*")]
        if not volume_changes.list_changes(self.made).changes:
            assert of_names(self.host) == of_names(self.views[self.head].place)

    def teardown(self) -> None:
        """Remove the containers."""
        for name in (self.name, *self.forks):
            try:
                containers.get(self.engine, name).remove()
            except ContainerError:
                continue
        self.engine.background.wait()
        shutil.rmtree(self.top)


def of_names(top: Path) -> list[str]:
    """The paths of all files below a directory."""
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.slow
@pytest.mark.timeout(180 if EXAMPLES <= 2 else 7200)
def test_volumes_agree_with_a_model_that_copies_the_directory(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step of random sequences, cells see the model's files, modes and times, and so does the host after
    `apply`."""
    monkeypatch.setattr(attaching, "MOST_LAYERS", 3)
    assert engine
    own = Engine(tmp_path / "store")
    try:
        machine = type("Bound", (Volumes,), {"engine": own, "scratch": tmp_path})
        chosen = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=False,
            # A failure by the moment of a kill may not come again: long runs print their steps, and look for no others.
            verbosity=Verbosity.verbose if EXAMPLES > 2 else Verbosity.normal,
            phases=[Phase.generate] if EXAMPLES > 2 else tuple(Phase),
        )
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        own.close()
