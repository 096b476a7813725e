"""Random sequences of cells, `apply`, `discard` and moves in the history, against a model that copies the directory.

The length is set by NBCONTAINER_COW_EXAMPLES, NBCONTAINER_COW_STEPS and NBCONTAINER_COW_KILLS.
"""

from __future__ import annotations

import ast
import itertools
import os
import secrets
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

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
from tests.linux import tree_facts
from tests.linux.cell_python import HERE, IN_CELLS, python_volumes
from tests.linux.killed import killed
from tests.linux.model_facts import (
    DO,
    PATHS,
    ROOT,
    Facts,
    Groups,
    copy,
    drop_attributes,
    followed,
    inodes,
    moved,
)
from tests.linux.tree_facts import facts_of
from tests.linux.volume_views import CAPABILITY, CAPABLE, DO_MORE, KINDS, View, files, names, steady, without_capability
from tests.running import run_script

if TYPE_CHECKING:
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.record import Record
    from nbcontainer.sandbox.spec import Volume

EXAMPLES = int(os.environ.get("NBCONTAINER_COW_EXAMPLES", "2"))
STEPS = int(os.environ.get("NBCONTAINER_COW_STEPS", "12"))

KILLS = int(os.environ.get("NBCONTAINER_COW_KILLS", "1"))
"""Processes of each example that are killed: each costs a start of the interpreter."""


class Volumes(RuleBasedStateMachine):
    """One container with one volume, and its model.

    `base` is the state before which no undo leads, and `tip` the one to which redo leads.
    """

    engine: Engine
    scratch: Path
    counts: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.name = f"cow-{secrets.token_hex(4)}"
        self.numbers = itertools.count(1_500_000_000, 1000)
        self.top = self.scratch / self.name
        self.host = self.top / "host"
        (self.host / "d").mkdir(parents=True)
        (self.host / "a").write_text("of the host\n")
        (self.host / "d" / "e").write_text("of the host\n")
        for name in ("h", "d/a"):
            os.link(self.host / "a", self.host / name)
        for name in ("a", "d"):
            os.setxattr(self.host / name, "user.mine", b"of the host")
        if ROOT:
            os.setxattr(self.host / "d" / "e", CAPABILITY, bytes.fromhex(CAPABLE))
        run_script(self.engine, "true")
        containers.create(self.engine, self.engine.images.find("busybox"), self.name)
        self.volume = cast("Volume", parse_volume(f"{self.host}:/w:cow"))
        self.forks: list[str] = []
        self.python = python_volumes()
        self.views = [View(-1, self._copy(self.host), self._host_groups(), changed=False)]
        self.head = self.base = self.tip = self.killed = 0
        self.crossed = False
        self._run("true")

    @property
    def made(self) -> Container:
        """The container."""
        return containers.get(self.engine, self.name)

    def _copy(self, source: Path) -> Path:
        """A copy of a directory, in which names of one file are files of their own: `groups` say which were."""
        target = self.top / secrets.token_hex(4)
        copy(source, target)
        return target

    def _host_groups(self) -> Groups:
        return {path: ("host", found[0]) for path, found in inodes(self.host).items()}

    def _cell(self, script: str) -> bytes:
        volumes = (self.volume, *self.python)
        ran = run_script(self.engine, f"PY='{IN_CELLS}'; {script}", name=self.name, volumes=volumes)
        assert ran.outcome.ok, ran.stderr
        return ran.stdout

    def _run(self, script: str) -> None:
        """Run a script in the container, and in a copy of the model's directory."""
        place, groups = self._modelled(script)
        before = layers_of(self.made.record.volumes)
        self._cell(f"cd /w && {{ {script}; }} 2>/dev/null; true")
        self._add(place, groups, changed=before != layers_of(self.made.record.volumes))

    def _modelled(self, script: str) -> tuple[Path, Groups]:
        """What cells see after a script: a new directory, and which files in it are one."""
        now, count = self.views[self.head], len(self.views)
        place = self._copy(now.place)
        was, copies = inodes(place), script == DO["move"] and (place / "d").is_dir()
        whole = ["busybox", "sh", "-c", f"PY='{HERE}'; {script}"]
        subprocess.run(whole, cwd=place, check=False, stderr=subprocess.DEVNULL)
        groups = followed(place, was, now.groups, count)
        if copies:
            drop_attributes(place / "b")
            groups |= moved(groups, now.groups, count)
        return place, groups

    def _add(self, place: Path, groups: Groups, *, changed: bool) -> None:
        head = self.made.record.head
        self.views.append(View(self.head, place, groups, changed, 0 if head is None else head.number))
        self.head = self.tip = len(self.views) - 1

    def _changed(self, at: int) -> list[int]:
        """The states up to `at` and since `base` that changed something, the newest first."""
        found = []
        while at > self.base:
            found += [at] if self.views[at].changed else []
            at = self.views[at].parent
        return found

    def _see(self) -> Facts:
        """The facts of the volume, from a cell that leaves no state."""
        out: list[bytes] = []
        err: list[bytes] = []
        options = run_options({"volumes": (self.volume, *self.python)})
        script = f"cd /w && exec {IN_CELLS} -c {shlex.quote(Path(tree_facts.__file__).read_text())}"
        request, made = Request("", self.name, (), script, False, options), self.made
        streams = Streams(out.append, err.append)
        outcome = running.run_in(self.engine, made, made.image(), request, streams, keep=False)
        assert outcome.ok, err
        return cast("Facts", ast.literal_eval(b"".join(out).decode()))

    @rule(kind=some.sampled_from(KINDS), path=some.sampled_from(PATHS), mode=some.sampled_from(("00", "55", "70")))
    def cell(self, kind: str, path: str, mode: str) -> None:
        """Run a cell that changes something, or nothing."""
        self._run(DO_MORE[kind].format(p=path, n=next(self.numbers), m=mode))

    @rule()
    def apply(self) -> None:
        """The host has what cells saw, or there is nothing to apply."""
        if not self.made.record.has_unapplied_changes:
            with pytest.raises(ChangesRefused):
                volume_changes.apply(self.made)
            return
        host, was = facts_of(str(self.host)), inodes(self.host)
        try:
            volume_changes.apply(self.made)
        except ChangesRefused:  # what an earlier `apply` wrote, before its undo, is a change of the host
            assert self.crossed
            assert facts_of(str(self.host)) == host
            volume_changes.apply(self.made, force=True)
        self._applied(was)

    def _applied(self, was: dict[str, tuple[int, int]]) -> None:
        """The host has all facts that cells saw; `was` are its files before. Only capabilities are not written."""
        found = facts_of(str(self.host))
        now = inodes(self.host)
        written = {path for path, one in now.items() if path not in was or was[path][0] != one[0]}
        assert all(one == without_capability(one) for path, one in files(found).items() if path in written)
        there, seen = (
            {path: without_capability(one) for path, one in files(all_).items()} for all_ in (found, self.seen)
        )
        if self.crossed:  # the host has a part of it already, with times of its own
            assert steady(there) == steady(seen)
        else:
            assert there == seen
            self._compare_names(found, was)
        self.base, self.crossed = self.head, False
        self._add(self._copy(self.host), self._host_groups(), changed=True)

    def _compare_names(self, found: Facts, was: dict[str, tuple[int, int]]) -> None:
        """Names of one file are that on the host. A file that no cell changed has its other names there, too."""
        groups = [set(cast("tuple[str]", one)) for one in names(found).values()]
        for one in names(self.seen).values():
            assert any(group.issuperset(cast("tuple[str]", one)) for group in groups)
        for group in groups:
            if tuple(sorted(group)) not in names(self.seen).values():
                assert len({was[path][0] for path in group}) == 1

    @precondition(lambda self: self.made.record.has_unapplied_changes)
    @rule()
    def discard(self) -> None:
        """Cells see the host's directory again."""
        volume_changes.discard(self.made)
        self._add(self._copy(self.host), self._host_groups(), changed=True)

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
        now = self.views[self.head]
        place, source, groups = self._copy(now.place), old.place / path, dict(now.groups)
        subprocess.run(["rm", "-rf", place / path], check=True)
        if source.exists() or source.is_symlink():
            copy(source, place / path)
        inside = [one for one in {*groups, *old.groups} if one == path or one.startswith(f"{path}/")]
        groups = {one: group for one, group in groups.items() if one not in inside}
        groups |= {one: old.groups[one] for one in inside if one in old.groups}
        self._add(place, groups, changed=layers_of(self.made.record.volumes) != layers_of(before.volumes))

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
            view.groups["z"] = ("host", number)

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
        self.counts["kills"] += 1
        before, host, was = self.made.record, facts_of(str(self.host)), inodes(self.host)
        new, words = (self.views[self.head].place, self.views[self.head].groups), list[str]()
        if kind in DO:
            script = DO[kind].format(p=path, n=next(self.numbers), m="55")
            new = self._modelled(script)
            words = [f"cd /w && {{ {script}; }} 2>/dev/null; true", str(self.host)]
        elif kind == "checkout":
            words.append(f"cow-{secrets.token_hex(4)}")
        self.engine.background.wait()
        killed(self.engine, self.name, kind, words, moment)
        self.start_again()
        self._see()  # the next use of the container
        if kind != "apply" or self.made.record.count == before.count:
            assert facts_of(str(self.host)) == host
        self._after_kill(kind, before, new, was)

    def _after_kill(self, kind: str, before: Record, new: tuple[Path, Groups], was: dict[str, tuple[int, int]]) -> None:
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
                self._applied(was)
            elif kind == "discard":
                self._add(self._copy(self.host), self._host_groups(), changed=True)
            else:
                self._add(*new, changed=layers_of(before.volumes) != layers_of(record.volumes))

    @rule()
    def start_again(self) -> None:
        """Read all from disk, as another process does."""
        self.engine.states._known.clear()

    @invariant()
    def trees_agree(self) -> None:
        """Cells see the model's directory, and `changes` lists something if and only if it differs from the host's."""
        self.counts["steps"] += 1
        self.seen = self._see()
        assert steady(files(self.seen)) | names(self.seen) == self.views[self.head].facts
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
    own, counts = Engine(tmp_path / "store"), Counter[str]()
    try:
        machine = type("Bound", (Volumes,), {"engine": own, "scratch": tmp_path, "counts": counts})
        chosen = settings(
            max_examples=EXAMPLES,
            derandomize=EXAMPLES <= 2,
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
        print(*(f"{number} {what}" for what, number in counts.items()))
