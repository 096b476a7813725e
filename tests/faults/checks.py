"""What could be left behind, in numbers and names: the same before and after a fault, or the fault left something."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.images.verify import verify
from nbcontainer.linux import procfs
from nbcontainer.progress import Tracker
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.diagnosis import Machine
from tests.running import DEADLINE, all_dead, beginners, mounts_of, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.containers.engine import Engine


class Damaged(AssertionError):
    """A fault left something, or showed something that no person should see."""


class Hangs(BaseException):
    """What a fault was in did not come to an end."""


@dataclass(frozen=True)
class State:
    """What there is, once the background thread has nothing to do."""

    processes: tuple[str, ...]
    descriptors: tuple[str, ...]
    launcher_descriptors: int
    in_tmp: int
    layers: int
    containers: tuple[str, ...]
    sessions: int
    groups: tuple[str, ...]
    mounts: tuple[str, ...]
    memory: bool

    def differs(self, before: State, but: Iterable[str] = ()) -> str:
        """What is different from what was there before, `but` these fields, in words; empty where nothing is."""
        told = []
        for part in fields(self):
            if part.name in but:
                continue
            was, now = getattr(before, part.name), getattr(self, part.name)
            if was != now:
                told.append(f"{part.name}: {was} became {now}")
        return "; ".join(told)


def state(engine: Engine) -> State:
    """What is there now of an engine that runs nothing."""
    for _ in range(2):  # what is removed in the background goes in the background
        engine.background.wait()
    engine._warm.layers.trim((), 0)  # roots that wait for a next container may be there or not
    store = engine.store.path
    launchers = [one for one in (engine.launcher, engine._host_launcher) if one is not None]
    pids = [one.pid for one in launchers]
    begun = [pid for one in launchers for pid in beginners(one)]
    engine.launcher.collect()
    return State(
        processes=tuple(_name(pid) for beginner in begun for pid in procfs.descendants(beginner)),
        descriptors=_descriptors(engine.launcher.spares.roots.mounted),
        launcher_descriptors=len(list(Path(f"/proc/{pids[0]}/fd").iterdir())),
        in_tmp=len(list((store / "tmp").iterdir())),
        layers=len(list((store / "layers").iterdir())),
        containers=tuple(sorted(path.name for path in (store / "containers").iterdir())),
        sessions=len(list((store / "sessions").iterdir())),
        groups=groups({os.getpid()}),
        mounts=tuple(mounts_of(store)),
        memory=engine.store.memory.exists(),
    )


def stable(engine: Engine) -> State:
    """What is there when nothing comes and goes any more."""
    before = None
    while (now := state(engine)) != before:
        before = now
        time.sleep(0.1)
    return now


def settled(engine: Engine, before: State, seconds: float = DEADLINE, but: Iterable[str] = ()) -> None:
    """Waits until there is what was there before: whoever is killed takes a moment to die. Raises `Damaged`."""
    deadline = time.monotonic() + seconds
    while different := state(engine).differs(before, but):
        if time.monotonic() > deadline:
            raise Damaged(different)
        time.sleep(0.01)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def _descriptors(roots: int) -> tuple[str, ...]:
    """What this process has open: paths, and the sorts of what has none.

    Two are of each root of a warm container that is mounted for others, too: it may have one or not.
    """
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that the list itself is read by
            found.append(str(path.readlink()).partition(":[")[0])
    for _ in range(2 * roots):
        found.remove("/")
    return tuple(sorted(name for name in found if not name.endswith("/tape")))


def groups(pids: Iterable[int]) -> tuple[str, ...]:
    """The control groups that are there of what these processes run, or ran."""
    names = [f"{hierarchy.PREFIX}{pid}-*" for pid in pids]
    places = hierarchy.look(Machine()).places()
    return tuple(sorted(str(path) for place in places for name in names for path in place.glob(name)))


def verified(engine: Engine) -> None:
    """Raises `Damaged` where the store has something that is not what it should be."""
    if problems := verify(engine.store, Tracker("verify")):
        raise Damaged(f"the store is damaged: {problems}")


PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def below() -> set[int]:
    """The processes below this one."""
    return set(procfs.descendants(os.getpid()))


def kill(pids: Iterable[int], then: Callable[[], object] = lambda: None) -> None:
    """SIGKILL, `then` something, and waits until these and all below are dead; who is dead already is killed."""
    pids = list(pids)
    fds = pidfds({*pids, *(lower for pid in pids for lower in procfs.descendants(pid))})
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    then()
    if not all_dead(fds):
        raise Damaged(f"{pids} were killed, and something goes on below")


def wait_for_the_dead(but: set[int] | Callable[[], set[int]], seconds: float = DEADLINE) -> None:
    """Waits until no process is below this one `but` these, by a function those that there are then.

    Reaps what was handed to it (PR_SET_CHILD_SUBREAPER).

    Raises `Damaged` where one goes on.
    """
    deadline = time.monotonic() + seconds
    while found := list(_orphans(but() if callable(but) else but)):
        if time.monotonic() > deadline:
            raise Damaged(f"still there: {found}")
        time.sleep(0.002)


def _orphans(but: set[int]) -> Iterator[str]:
    for pid in below() - but:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        yield f"{_name(pid)} ({pid})"


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Raises `Hangs` in the main thread when the time is up."""

    def ring(_: int, __: object) -> None:
        raise Hangs(f"no end after {seconds} s")

    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
