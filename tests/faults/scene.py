"""One store and one engine, with points in all of its processes: where rounds are played, one after the other."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cleanup import prune, sweep
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.warm.warm_pool import DEPTH
from nbcontainer.errors import NbcontainerError, SandboxError
from nbcontainer.linux import procfs
from nbcontainer.sandbox.helper.program import SWITCH
from tests.faults import acts, checks, limits
from tests.faults.notebook import points_everywhere, unnoticed
from tests.faults.points import REMOVING
from tests.faults.tape import CHILD, INIT, LAUNCHER, NOTEBOOK, ROLES, WAIT, WAITING, Tape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from nbcontainer.sandbox.cgroups.group import GroupLimits
    from nbcontainer.sandbox.plan import PlanTemplate

CODES = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EIO)

SOMETIME = "sometime"
"""In place of a role: nobody comes to a point, and somebody is killed all the same."""

LIMIT = "limit"
"""In place of a role: a limit of the process is lowered, so that the kernel itself refuses."""

VICTIMS = ("launcher", "init", "cell")

_LONGEST = 40.0  # seconds for an act; it takes some hundredths of one


class OneByOne(Engine):
    """An engine that makes no container ahead: so that the only init there is, is the cell's."""

    def prewarm(self, lowers: tuple[str, ...], limits: GroupLimits, template: PlanTemplate) -> None:
        """Makes none."""


@contextlib.contextmanager
def chosen_init(*, compiled: bool) -> Iterator[None]:
    """Launchers that start meanwhile have a compiled init or an interpreted one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "1" if compiled else "0")
        yield


@dataclass(frozen=True)
class Round:
    """One fault. `who` is the role that comes to point number `position`; `what` an errno's name, or whom to kill."""

    act: str
    who: str
    position: int
    what: str
    pool: bool = False
    times: int = 1

    def __str__(self) -> str:
        more = (" pool" if self.pool else "") + (f" x{self.times}" if self.times > 1 else "")
        return f"{self.act} {self.who} {self.position} {self.what}{more}"

    @property
    def action(self) -> int:
        return WAIT if self.what in VICTIMS else int(getattr(errno, self.what, 0))


class Scene:
    """Plays rounds in `folder` (host), of all acts or `only` some. After one that did damage there is a new engine.

    Its containers have a `compiled` init where that is available, or an interpreted one, in which there are points.
    """

    def __init__(self, folder: Path, *, pool: bool = False, only: Collection[str] = (), compiled: bool = False) -> None:
        self.folder = folder
        self.compiled = compiled
        self.only = only
        self.pool = pool
        folder.mkdir(exist_ok=True)
        self.tape = Tape(folder / "tape")
        self.others = checks.below()
        acts.make_inputs(folder / "inputs")
        self._engine: Engine | None = None
        self._before: checks.State | None = None
        self.acts: dict[str, acts.Act] = {}
        self.fired = 0
        self.played = 0
        self.ends: dict[str, int] = {}

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = (Engine if self.pool else OneByOne)(self.folder / "store")
            known = acts.acts(self._engine)
            self.acts = {name: act for name, act in known.items() if name in self.only or not self.only}
            for act in self.acts.values():
                assert act.do(self._engine, self.folder / "inputs") == act.says
                self._take_back(act)
            self._before = checks.stable(self._engine)
        return self._engine

    @contextlib.contextmanager
    def opened(self) -> Iterator[Scene]:
        with points_everywhere(self.tape), chosen_init(compiled=self.compiled):
            assert self.engine
            try:
                yield self
            except BaseException:
                with contextlib.suppress(checks.Damaged):
                    self.close()
                raise
            self.close()

    def close(self) -> None:
        """Ends the engine. Raises `Damaged` where something is left of it, but the image."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        self.tape.off()
        with contextlib.suppress(checks.Hangs), checks.no_longer_than(_LONGEST):
            engine.close()
        checks.wait_for_the_dead(self.others)
        store = self.folder / "store"
        left = [str(path) for name in ("tmp", "containers", "sessions") for path in (store / name).iterdir()]
        if left := (left or list(checks.groups({os.getpid()}))):
            raise checks.Damaged(f"after the close there are {left}")

    def points(self, act: acts.Act) -> dict[int, list[str]]:
        """The names of the points that each role passes in an act."""
        assert self.engine
        self.tape.record()
        try:
            act.do(self.engine, self.folder / "inputs")
            self.engine.background.wait()
        finally:
            self.tape.off()
        found = {role: self.tape.points(role) for role in (LAUNCHER, INIT, CHILD, NOTEBOOK)}
        self._take_back(act)
        return found

    def play(self, one: Round) -> str:
        """Plays a round: how it ended, in a word. Raises `Damaged`."""
        assert self.engine
        act = self.acts[one.act]
        at = ""
        try:
            with self._fault(one):
                end = self._end_of(act)
            at = self._at
            self._look_after(act, at)
        except checks.Damaged as error:
            raise checks.Damaged(f"{one} (at {self._at}): {error}") from error
        self.fired += at != ""
        self.ends[end] = self.ends.get(end, 0) + 1
        return end

    @contextlib.contextmanager
    def _fault(self, one: Round) -> Iterator[None]:
        """What goes wrong goes wrong in here."""
        self._at = ""
        over = threading.Event()
        work = {SOMETIME: self._kill_sometime, LIMIT: None}.get(one.who, self._kill_at_point)
        if one.who == LIMIT:
            with limits.lowered(self.engine, one.what, one.position):
                self._at = LIMIT
                yield
            return
        if one.who != SOMETIME:
            self.tape.arm(ROLES.index(one.who), one.position, one.action, one.times)
        killer = threading.Thread(target=work, args=(one, over))
        if one.action == WAIT:
            killer.start()
        try:
            yield
        finally:
            self._at = self.tape.at or self._at
            self.tape.off()
            over.set()
            if one.action == WAIT:
                killer.join()

    def _end_of(self, act: acts.Act) -> str:
        try:
            with checks.no_longer_than(_LONGEST):
                said = act.do(self.engine, self.folder / "inputs")
                self.engine.background.wait()
        except NbcontainerError as error:
            if "\n" in str(error) or not str(error) or "Error: " in str(error):
                raise checks.Damaged(f"no line for a person: {error}") from error
            self.last_line = f"{type(error).__name__}: {error}"
            return type(error).__name__
        except checks.Hangs as error:
            raise checks.Damaged(f"{self.tape.at}: {error}") from error
        except Exception as error:
            raise checks.Damaged(f"at {self.tape.at}: bare {type(error).__name__}: {error}") from error
        if said not in (act.says, acts.WAS_KILLED):
            raise checks.Damaged(f"at {self.tape.at}: it says {said!r}")
        return "works" if said == act.says else said

    def _take_back(self, act: acts.Act) -> None:
        with unnoticed():
            act.undo(self.engine)
            # What it was that is rubbish now: blobs, layers.
            if act.name in _OF_IMAGES:
                for _ in range(2):
                    self.engine.background.wait()
                    prune(self.engine)
        if self.pool:
            # A container made ahead that failed, or was killed, is the next cell's: that has the line to say it.
            for _ in range(DEPTH + 1):
                with contextlib.suppress(SandboxError):
                    acts.PLAIN.do(self.engine, self.folder / "inputs")
                self.engine.background.wait()
        said = acts.PLAIN.do(self.engine, self.folder / "inputs")
        if said != "sound":
            raise checks.Damaged(f"the next cell says {said!r}")

    def _look_after(self, act: acts.Act, at: str) -> None:
        try:
            with checks.no_longer_than(_LONGEST):
                self._compare(act, at)
        except checks.Hangs as error:
            raise checks.Damaged(f"afterwards: {error}") from error
        except (NbcontainerError, OSError) as error:
            raise checks.Damaged(f"afterwards: {type(error).__name__}: {error}") from error

    def _compare(self, act: acts.Act, at: str) -> None:
        """The next cell works, and there is what was there before."""
        self._take_back(act)
        assert self._before is not None
        if REMOVING in at:
            sweep(self.engine)
            in_tmp = checks.state(self.engine).in_tmp  # rubbish until the engine's end, which looks for it
            self._before = replace(self._before, in_tmp=in_tmp)
        checks.settled(self.engine, self._before)
        self.played += 1
        if self.played % 10 == 0 or act.name in _OF_IMAGES:
            checks.verified(self.engine)

    def _kill_at_point(self, one: Round, over: threading.Event) -> None:
        """Waits until somebody waits at a point, and kills whom it is about."""
        while not over.is_set():
            if self.tape.state == WAITING:
                with unnoticed():
                    # Who waits at a point goes on, and has to end by itself where nobody ends it.
                    checks.kill(self._victims(one), self.tape.off)
                return
            time.sleep(0.0005)

    def _kill_sometime(self, one: Round, over: threading.Event) -> None:
        """Kills after as many hundreds of microseconds as the position says, whoever is there then."""
        over.wait(one.position / 10_000)
        with unnoticed():
            found = self._victims(one)
            checks.kill(found)
            self._at = f"sometime, {len(found)} of them"

    def _victims(self, one: Round) -> list[int]:
        """Host pids of those whom a round kills."""
        launchers = [one for one in (self.engine.launcher, self.engine._host_launcher) if one is not None]
        found = [launcher.connection.process.pid for launcher in launchers if launcher.connection.process is not None]
        if one.what == "launcher":
            return found
        known = self.tape.init if one.who != SOMETIME else 0
        # The launcher's lock is another thread's here: nothing is asked of it.
        servers = [launcher.connection.helper.pid for launcher in launchers if launcher.connection.helper is not None]
        inits = [known] if known else [pid for begun in (*found, *servers) for pid in procfs.children(begun)]
        return inits if one.what == "init" else [pid for init in inits for pid in procfs.children(init)]


_OF_IMAGES = ("named", "import", "of-the-host")


def every_round(scene: Scene) -> Iterator[Round]:
    """Every fault that there is one for each point of, in each act."""
    for act in list(scene.acts.values()):
        for role, names in scene.points(act).items():
            whom = VICTIMS if role != NOTEBOOK else ()
            for position, name in enumerate(names):
                codes = () if name.startswith("after ") else CODES
                for what in (*whom, *(errno.errorcode[code] for code in codes)):
                    if (act.name, name, what) != _ENDS_A_TERMINAL:
                        yield Round(act.name, ROLES[role], position, what, scene.pool)


_ENDS_A_TERMINAL = ("terminal", "read", "EIO")
"""That is how the kernel says that the other end is closed, and no fault."""
