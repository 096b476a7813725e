"""SIGKILL at any time in every verb.

The program itself, its launcher or an init is killed. After each kill: no process, mount or control group is left, the
store verifies, what the verb makes is there whole or not at all, the same verb works, and `prune` or the next start
removes the rest.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer import cli
from nbcontainer.containers import startup
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.lookup import list_all
from nbcontainer.containers.record import layers_in_use
from nbcontainer.errors import NbcontainerError
from nbcontainer.linux import procfs
from nbcontainer.linux.process import prctl
from nbcontainer.store import durability
from tests.faults import checks
from tests.faults.checks import Damaged
from tests.faults.verbs.later_acts import later_acts
from tests.faults.verbs.table import KERNEL, Bench, VerbAct, first_acts
from tests.running import DEADLINE, beginners, mounts_of, processes_of, run_script
from tests.unit.images.fake_registry import FakeRegistry

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

VICTIMS = ("program", "launcher", "init")

_LONGEST = 60.0
"""Seconds for one round."""

_USUAL = 0.4

_KERNEL_START = 2.0
"""Seconds: a kernel does not end by itself, and is killed in this time."""


def acts() -> dict[str, VerbAct]:
    """Return the uses of each verb, by name."""
    return {act.name: act for act in (*first_acts(), *later_acts())}


@dataclass(frozen=True)
class VerbRound:
    """One kill: of `victim`, when `share` of the time that the verb takes has passed."""

    act: str
    victim: str
    share: float

    def __str__(self) -> str:
        return f"{self.act}/{self.victim}/{self.share:.4f}"

    @classmethod
    def read(cls, text: str) -> VerbRound:
        """Return the round that `str` of it is. Raises `ValueError`."""
        act, victim, share = text.split("/")
        return cls(act, victim, float(share))


def program(words: Sequence[str], folder: Path) -> None:
    """Be the program with these arguments, on the store in `folder`, until it ends or is killed."""
    os.environ |= {"NBCONTAINER_HOME": str(folder / "store"), "JUPYTER_DATA_DIR": str(folder / "jupyter")}
    os.environ |= {"JUPYTER_RUNTIME_DIR": str(folder / "run"), "IPYTHONDIR": str(folder / "run" / "ipython")}
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    if words[0] == KERNEL:
        sys.argv = ["kernel", *words[1:]]
        startup.start(default_engine())
        from nbcontainer.notebook.kernel.app import main

        main()
    cli.main(words)


@dataclass(frozen=True)
class Things:
    """What a store has when nothing is left over."""

    containers: frozenset[str]
    blobs: frozenset[str]
    layers: frozenset[str]
    others: frozenset[str]

    @classmethod
    def of(cls, bench: Bench) -> Things:
        """Return what the store has, without what belongs to the bench's own session."""
        store = bench.engine.store
        found, _ = list_all(bench.engine)
        own = {one.name for one in found if one.record.session == store.session}
        kept = layers_in_use(store)
        others = {
            f"{name}/{path.name}" for name in ("partial", "volumes", "unsynced") for path in _in(store.path / name)
        }
        others |= {f"tmp/{path.name}" for path in _in(store.path / "tmp") if not path.name.startswith(store.session)}
        others |= {f"sessions/{path.name}" for path in _in(store.path / "sessions") if path.name != store.session}
        others |= {f"out/{path.name}" for path in (bench.folder / "out").rglob(".nbcontainer-*")}
        others |= {f"layers/{path.name}" for path in _in(store.path / "layers" / "sha256") if not path.exists()}
        return cls(
            frozenset(path.name for path in _in(store.path / "containers")) - own,
            frozenset(store.blobs.digests()),
            frozenset(
                path.name
                for path in _in(store.path / "layers")
                if path.name != "sha256" and (not path.name.startswith(store.session) or path.name in kept)
            ),
            frozenset(others),
        )

    def differs(self, before: Things) -> str:
        """Return what there is more or less than before; empty if nothing."""
        told = []
        for name in ("containers", "blobs", "others"):
            now, was = getattr(self, name), getattr(before, name)
            told += [f"{name}: more: {sorted(now - was)}"] * bool(now - was)
            told += [f"{name}: less: {sorted(was - now)}"] * bool(was - now)
        if len(self.layers) != len(before.layers):  # a pulled layer has a new id each time
            told.append(f"layers: {len(before.layers)} became {len(self.layers)}")
        return "; ".join(told)


def _in(path: Path) -> list[Path]:
    return list(path.iterdir())


@dataclass
class VerbKills:
    """Plays rounds on one bench in `folder`; `only` some verbs. Close it with `opened`.

    Unless it is `measured` how long each verb takes, all are taken to take `_USUAL` seconds.
    """

    folder: Path
    only: Collection[str] = ()
    ends: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    measured: bool = True
    times: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def opened(self) -> Iterator[VerbKills]:
        """Make the bench, with what orphans a kill leaves as children of this process."""
        self.folder.mkdir(exist_ok=True)
        self.stayed = checks.below()  # what tests before this one have left, a pool's workers for example
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.faults.verbs.kills", "nbcontainer.notebook.kernel.app"])
        prctl(checks.PR_SET_CHILD_SUBREAPER, 1)
        registry = FakeRegistry()
        try:
            with registry.running():
                kept = dict(registry.blobs)
                self.bench = Bench(self.folder, registry.address, lambda: _reset(registry, kept))
                self.bench.fill()
                kept |= registry.blobs
                self.acts = {name: act for name, act in acts().items() if not self.only or name in self.only}
                self._first()
                try:
                    yield self
                finally:
                    self.bench.close()
        finally:
            prctl(checks.PR_SET_CHILD_SUBREAPER, 0)

    def _first(self) -> None:
        """Do each verb once without a kill if that is to be measured: it works, and this is how long it takes."""
        first = self.context.Process(target=os.getpid)  # starts the server, which stays
        first.start()
        first.join()
        for act in self.acts.values():
            self.times[act.name] = _KERNEL_START if act.words[0] == KERNEL else _USUAL
            if self.measured and act.words[0] != KERNEL:
                self.times[act.name] = self._whole(act)
        checks.wait_for_the_dead(self._others)
        self._clean(new_start=True)
        self.before = Things.of(self.bench)

    def _whole(self, act: VerbAct) -> float:
        """Do a verb without a kill, and return how many seconds it took. Raises `Damaged` if it does not work."""
        act.ready(self.bench)
        began = time.monotonic()
        process = self._start(act)
        process.join(DEADLINE)
        took = time.monotonic() - began
        if process.exitcode != 0:
            raise Damaged(f"{act.name} does not work: {(self.folder / 'stderr').read_text()}")
        act.check(self.bench)
        act.undo(self.bench)
        return took

    def _others(self) -> set[int]:
        """The processes below this one that stay: the launcher, the live cell, the fork server, and what was there."""
        stayed = {lower for pid in self.stayed for lower in procfs.descendants(pid)} | self.stayed
        return self.bench_processes() | stayed | {os.getpid()}

    def bench_processes(self) -> set[int]:
        """Return the processes below this one that are not a program's."""
        from multiprocessing import forkserver, resource_tracker

        servers = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined]
        launchers = [one for one in (self.bench.engine.launcher, self.bench.engine._host_launcher) if one is not None]
        return {pid for pid in servers if pid} | {
            pid for one in launchers for pid in beginners(one) | processes_of(one)
        }

    def _start(self, act: VerbAct) -> multiprocessing.process.BaseProcess:
        process = self.context.Process(target=program, args=(self.bench.filled(act.words), self.folder))
        process.start()
        return process

    def rounds(self, chance: random.Random, count: int) -> Iterator[VerbRound]:
        """Yield rounds: each verb in turn."""
        names = chance.sample(list(self.acts), len(self.acts))
        for number in range(count):
            victim = chance.choices(VICTIMS, (6, 1, 1))[0]
            yield VerbRound(names[number % len(names)], victim, chance.random() * 1.05)

    def play(self, one: VerbRound) -> None:
        """Play a round, and note what is wrong after it."""
        try:
            with checks.no_longer_than(_LONGEST):
                self._play(one)
        except (Damaged, NbcontainerError, OSError, checks.Hangs, AssertionError) as error:
            text = f"{one}: {type(error).__name__}: {error}"
            self.failures.append(text)
            print(f"DAMAGE {text}", flush=True)
            self._restore(self.acts[one.act])

    def _restore(self, act: VerbAct) -> None:
        """Remove what a round with damage left, so that the next rounds do not fail because of it."""
        with contextlib.suppress(Exception):
            act.undo(self.bench)
        with contextlib.suppress(Exception):
            prune(self.bench.engine)
            self.before = Things.of(self.bench)

    def _play(self, one: VerbRound) -> None:
        act = self.acts[one.act]
        act.ready(self.bench)
        self.bench.engine.background.wait()  # what it prewarms for its next cell is there, and not a leftover later
        process = self._start(act)
        time.sleep(self.times[act.name] * one.share)
        end = self._kill(process.pid or 0, one.victim, kernel=act.words[0] == KERNEL)
        process.join(DEADLINE)
        if process.exitcode is None:
            process.kill()
            raise Damaged("the program does not end")
        self.ends[end if process.exitcode == -signal.SIGKILL else f"{end}, exit code {process.exitcode}"] += 1
        checks.wait_for_the_dead(self._others)
        self._check_words(process.exitcode)
        self._check(act, process.pid or 0)

    def _kill(self, pid: int, victim: str, *, kernel: bool) -> str:
        launchers = procfs.children(pid)
        inits = [child for launcher in launchers for child in procfs.children(launcher)]
        found = {"program": [pid], "launcher": launchers, "init": inits}[victim]
        if not found:
            found, victim = [pid], "program"
        for one in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        if kernel:
            os.kill(pid, signal.SIGKILL)
        return victim

    def _check_words(self, code: int) -> None:
        """One line at most explains an end: no traceback of Python."""
        said = (self.folder / "stderr").read_text()
        if code >= 0 and ("Traceback" in said or "Error: " in said or len(said.splitlines()) > 2):
            raise Damaged(f"exit code {code}: {said}")

    def _check(self, act: VerbAct, pid: int) -> None:
        bench = self.bench
        if left := [line for line in mounts_of(self.folder / "store") if "overlay" in line]:
            raise Damaged(f"mounts: {left}")
        if left := list(checks.groups({pid})):
            raise Damaged(f"groups: {left}")
        if run_script(bench.engine, "echo sound").text != "sound":
            raise Damaged("the next cell does not work")
        checks.verified(bench.engine)
        act.check(bench)
        if act.again and act.words[0] not in ("run", "kernel", KERNEL):
            bench.verb(*act.words)
            act.check(bench)
        act.undo(bench)
        self._clean(new_start=sum(self.ends.values()) % 5 == 0)
        if different := Things.of(bench).differs(self.before):
            raise Damaged(different)

    def _clean(self, *, new_start: bool) -> None:
        """Have the next start of a notebook, or `prune`, remove what a kill left."""
        run_script(self.bench.engine, "true")  # the last container is no longer of the round's image
        self.bench.engine.background.wait()
        if new_start:
            self._next_start()
        else:
            durability.flush(self.bench.engine.store)
            prune(self.bench.engine)
        self.bench.engine.background.wait()

    def _next_start(self) -> None:
        """Start and end another notebook: it removes what is left."""
        engine = Engine(self.bench.engine.store.path)
        try:
            startup.start(engine)
            engine.background.wait()
            if run_script(engine, "echo sound").text != "sound":
                raise Damaged("the next notebook's cell does not work")
            durability.flush(engine.store)
            prune(engine)
        finally:
            engine.close()

    def summary(self) -> str:
        """Return what came of the rounds, in a few lines."""
        ends = ", ".join(f"{number} {end}" for end, number in self.ends.most_common())
        return f"{sum(self.ends.values())} kills in {len(self.acts)} verbs: {ends}; {len(self.failures)} with damage"


def _reset(registry: FakeRegistry, kept: dict[str, bytes]) -> None:
    for digest in registry.blobs.keys() - kept.keys():
        del registry.blobs[digest]
