"""Notebooks that are killed: processes of their own, with launchers and cells, on a store that others go on with."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from typing import TYPE_CHECKING

from nbcontainer.containers import startup
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
from nbcontainer.linux.process import prctl
from tests.faults import acts, checks
from tests.faults.notebook import points_everywhere
from tests.faults.scene import SOMETIME, OneByOne, Round, chosen_init
from tests.faults.tape import ROLES, WAIT, WAITING, Tape
from tests.running import DEADLINE, mounts_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

THE_NOTEBOOK = "notebook"
"""The victim of these rounds."""


def live(folder: Path, *, pool: bool, compiled: bool, channel: Connection) -> None:
    """A notebook's life: it does the acts that it is told, until it is killed."""
    with points_everywhere(Tape(folder / "tape")), chosen_init(compiled=compiled):
        engine = (Engine if pool else OneByOne)(folder / "store")
        startup.start(engine)
        known = acts.acts(engine)
        acts.PLAIN.do(engine, folder / "inputs")
        engine.background.wait()
        channel.send("ready")
        while (name := channel.recv()) != "end":
            try:
                said = known[name].do(engine, folder / "inputs")
                engine.background.wait()
            except NbcontainerError as error:
                said = str(error)
            channel.send(said)
        engine.close()


class Notebooks:
    """Starts notebooks on one store in `folder`, kills each in a round, and looks at what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        acts.make_inputs(folder / "inputs")
        self.tape = Tape(folder / "tape")
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.faults.notebooks", "nbcontainer.images.archives.loading"])
        self.fired = 0
        self.ends: dict[str, int] = {}
        self.others: set[int] = set()
        self._layers = 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[Notebooks]:
        """What is orphaned by a kill becomes this process's, so that it is known whether it goes."""
        prctl(checks.PR_SET_CHILD_SUBREAPER, 1)
        try:
            first = self.context.Process(target=os.getpid)  # starts the server, which stays
            first.start()
            first.join()
            self.others = checks.below()
            self._do_everything()
            self._layers = self._next_start("plain")
            yield self
        finally:
            prctl(checks.PR_SET_CHILD_SUBREAPER, 0)

    def _do_everything(self) -> None:
        """Does each act once: what it brings into the store for good is there from then on."""
        engine = Engine(self.folder / "store")
        try:
            for act in acts.acts(engine).values():
                act.do(engine, self.folder / "inputs")
                act.undo(engine)
        finally:
            engine.close()

    def play(self, one: Round) -> str:
        """Plays a round: whether it was killed before it ended. Raises `Damaged`."""
        ours, theirs = self.context.Pipe()
        arguments = {"pool": one.pool, "compiled": one.who == SOMETIME, "channel": theirs}
        notebook = self.context.Process(target=live, args=(self.folder,), kwargs=arguments)
        notebook.start()
        theirs.close()
        try:
            end = self._kill(one, notebook.pid or 0, ours)
            at = self.tape.at
            notebook.join(DEADLINE)
            checks.wait_for_the_dead(self.others)
            self._look_after(one, notebook.pid or 0)
        except checks.Damaged as error:
            raise checks.Damaged(f"{one} (at {self.tape.at}): {error}") from error
        finally:
            self.tape.off()
            notebook.kill()
            notebook.join()
            ours.close()
        self.fired += at != "" or one.who == SOMETIME
        self.ends[end] = self.ends.get(end, 0) + 1
        return end

    def _kill(self, one: Round, pid: int, channel: Connection) -> str:
        if not channel.poll(DEADLINE) or channel.recv() != "ready":
            raise checks.Damaged("the notebook does not start")
        if one.who != SOMETIME:
            self.tape.arm(ROLES.index(one.who), one.position, WAIT)
        channel.send(one.act)
        deadline = time.monotonic() + (one.position / 10_000 if one.who == SOMETIME else DEADLINE)
        while time.monotonic() < deadline and self.tape.state != WAITING and not channel.poll():
            time.sleep(0.0005)
        end = "killed after it" if channel.poll() else "killed in it"
        checks.kill([pid], self.tape.off)
        return end

    def _look_after(self, one: Round, pid: int) -> None:
        if left := mounts_of(self.folder / "store"):
            raise checks.Damaged(f"mounts: {left}")
        if (layers := self._next_start(one.act)) != self._layers:
            raise checks.Damaged(f"layers: {self._layers} became {layers}")
        if left := list(checks.groups({pid, os.getpid()})):
            raise checks.Damaged(f"groups: {left}")

    def _next_start(self, name: str) -> int:
        """The next start sweeps, and the next cell works: how many layers there are when all is taken back."""
        engine = Engine(self.folder / "store")
        try:
            with checks.no_longer_than(2 * DEADLINE):
                self._go_on(engine, name)
        except (NbcontainerError, OSError) as error:
            raise checks.Damaged(f"the next notebook: {type(error).__name__}: {error}") from error
        except checks.Hangs as error:
            raise checks.Damaged(f"the next notebook: {error}") from error
        finally:
            engine.close()
        store = self.folder / "store"
        if left := [str(path) for part in ("tmp", "containers", "sessions") for path in (store / part).iterdir()]:
            raise checks.Damaged(f"after the next start: {left}")
        return len(list((store / "layers").iterdir()))

    def _go_on(self, engine: Engine, name: str) -> None:
        startup.start(engine)
        engine.background.wait()
        if acts.PLAIN.do(engine, self.folder / "inputs") != "sound":
            raise checks.Damaged("the next cell does not work")
        checks.verified(engine)
        acts.acts(engine)[name].undo(engine)
        engine.background.wait()
        prune(engine)
