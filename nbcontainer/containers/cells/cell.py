"""The life of a cell: from its request to its outcome, and to what is kept of it."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING

from nbcontainer.containers.active import ActiveCell, notebook_name, was_signalled, with_noted_end
from nbcontainer.containers.cells.cell_files import CellFiles
from nbcontainer.containers.cells.leftovers import Leftovers
from nbcontainer.containers.cells.streams import GLANCE
from nbcontainer.containers.cells.streams_observer import StreamsObserver
from nbcontainer.containers.cells.template import make_template
from nbcontainer.containers.history.cell_options import options_of
from nbcontainer.containers.history.isolation import describe_confinement
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.mounts import is_as_checked
from nbcontainer.containers.options import stop_signal
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteLayer
from nbcontainer.containers.writes.reused_layers import leaves_root
from nbcontainer.errors import ContainerLost, SandboxError, SetupFailed
from nbcontainer.linux.files import keeps_attributes
from nbcontainer.linux.procfs import birth
from nbcontainer.oci import timestamps
from nbcontainer.sandbox.cgroups.group import Group
from nbcontainer.sandbox.handle import SIGNALLED
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.steps.overlay import FEW_CHANGES, upper_refused
from nbcontainer.sandbox.steps.proc import LIMITS
from nbcontainer.sandbox.supervisor import Supervisor
from nbcontainer.sandbox.userns.idmapped_mounts import STALE
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.cells.template import Attached
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.cow.attaching import CowVolumes
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.warm.warm_pool import WarmContainer
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.explanation import ExplainedRun
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.plan import PlanTemplate
    from nbcontainer.sandbox.steps.base import Plan, Step

_VALUES = ("in", "out")
"""The mount points of a cell's values, in the root."""


class Cell:
    """One run of one cell, from the request to the outcome.

    `plan` is its plan, and `template` the same but for the root, once the cell has been sent. `cow` are its
    copy-on-write volumes, None if it has none.
    """

    def __init__(
        self,
        engine: Engine,
        container: Container,
        image: Image,
        request: Request,
        streams: Streams,
        cow: CowVolumes | None = None,
    ) -> None:
        self.cow = cow
        self.engine = engine
        self.container = container
        self.image = image
        self.request = request
        self.options = request.options
        self.streams = streams
        self.launcher = engine.launcher_for(self.options.privileges.userns)
        self.upper: WriteLayer | None = None
        self.running: ContainerHandle | None = None
        self.group: Group | None = None
        self.template: PlanTemplate | None = None
        self.plan: Plan | None = None
        self._explained: ExplainedRun | None = None
        self._unexplained = False
        self._taken = b""
        self._shares = False  # whether it counts in the store's `sharing`
        self._done: tuple[Step, ...] = ()
        self.has_output = False
        self.result = ""
        """The id that the result of this cell gets if it ends well; empty for a cell that is not cached."""
        self.touched = ""
        """What acted on it from outside while it ran; empty if nothing did."""
        self.asked = request.options
        """The options as the user gave them: volumes of the store have their names."""

    @property
    def text(self) -> str:
        """What has run, as text for `history`."""
        lasting = self.streams.lasting
        return lasting.text() if lasting is not None else self.request.as_text

    def run(self) -> Outcome:
        """Return the outcome of the cell; run it a second time if the first failure showed how to avoid it.

        After its first output, such an error is one of a callback, which may run cells itself: nothing runs twice.
        """
        afresh = False
        try:
            return self._run_once()
        except SetupFailed as error:
            if self.has_output:
                raise
            # What failed when the container was prewarmed need not fail now: make a new one.
            attaching = error.step == AttachRoot.__name__
            if attaching:
                self.engine.refuse_mounted_roots()
            afresh = attaching or error.step in {type(step).__name__ for step in self._done}
            if not (self._cured(error) or afresh):
                raise
            self.release()
        except ContainerLost:  # the pool drops dead containers; nothing runs twice, since the cell had not begun
            if self.has_output:
                raise
            self.release()
            with contextlib.suppress(ContainerLost):
                self.launcher.collect()
        return self._run_once(afresh=afresh)

    def _cured(self, error: SetupFailed) -> bool:
        """Remove the cause of a failure, if there is a way; return whether there was.

        A launcher that does not see a volume as the notebook does is started anew. A write layer that its file system
        does not support moves to memory.
        A volume that is not there for the notebook either, as it was, has changed: no launcher, with all its
        containers, ends for that.
        """
        if error.step == "BindVolume" and error.errno == STALE:
            if not all(map(is_as_checked, self.options.mounts.volumes)):
                return False
            self.launcher.close()
        elif not upper_refused(error):
            return False
        elif self.upper is not None and self.upper.used:
            pass  # the container that waited on it was killed with its launcher: the next one has another layer
        elif not self._use_memory(error.hint):
            return False
        return True

    def release(self) -> None:
        """Release what the cell used: its write layer, its init and its group are removed in the background."""
        if self.upper is not None or self.group is not None:
            cow = None if self.cow is None else self.cow.separated()  # the cell may run again, with other layers
            self.engine.release(self.upper, self.running, self.group, cow, shares=self._shares)
        self.upper = self.running = self.group = None
        self._shares = False

    def _use_memory(self, advice: str) -> bool:
        """Keep write layers in memory from now on, and say so on stderr; False if they are, or cannot be, already."""
        store = self.engine.store
        if store.in_memory or self.options.host_userns:
            return False
        try:
            store.use_memory()
            limit = "" if keeps_attributes(str(store.memory)) else f"{FEW_CHANGES}; "
        except OSError:
            return False
        self.streams.notify(f"what cells write is kept in memory, until the host restarts; {limit}{advice}")
        return True

    def keep(self, outcome: Outcome | None) -> None:
        """Keep what the cell wrote as a layer. A cell that wrote nothing, or did not start, leaves nothing."""
        options, cell = self.options, None
        if outcome is not None:
            result, failed = (self.result, ()) if outcome.ok else ("", options_of(self.asked))
            cell = CellRecord("", self.text, "", outcome, result=result, options=failed)
            if self.upper is not None and self.template is not None:
                self.upper.reusable = leaves_root(self.template)
                self.upper.shared = self._shares
        Leftovers(
            self.engine,
            self.container,
            self.upper,
            self.cow,
            self.running,
            mounts_values=self.streams.values is not None,
            holds_host=bool(options.mounts.volumes or options.networking.ports),
        ).keep(cell)

    def _run_once(self, *, afresh: bool = False) -> Outcome:
        files = CellFiles(self.engine, self.launcher, self.request, self.streams, self.cow, self._taken)
        try:
            try:  # free of calls for a cell that begins
                running = self._send(files, afresh=afresh)
            except OSError as error:
                raise store_error("begin a cell", error.filename or self.engine.store.path, error) from error
            # The clock starts when the plan is sent: the start of a cold launcher does not count.
            return self._follow(running, files, time.monotonic())
        finally:
            files.close()
            self._taken = files.taken

    def _send(self, files: CellFiles, *, afresh: bool) -> ContainerHandle:
        """Send the plan to a container, to a new one if `afresh`."""
        try:
            files.open_streams()
            self.template = self.make_template(files.attach())
            resources = self.options.resources
            warm = self.engine.allocate(
                self.launcher,
                self.container.lowers,
                self.template,
                resources.cgroup_limits,
                resources.storage,
                afresh=afresh,
            )
            running = self._submit(warm, files.travelling)
            running.joined_network = files.take_network()
            return running
        finally:
            files.close_sent()

    def make_template(self, attached: Attached) -> PlanTemplate:
        """Return the plan of this cell but for its root, with what it has of the host, as that travels."""
        name = "" if self.container.unused else self.container.name
        return make_template(self.engine, self.request, self.image, self.streams, attached, name)

    def _submit(self, warm: WarmContainer, files: list[int]) -> ContainerHandle:
        self.upper, self.group, self._done = warm.upper, warm.group, warm.steps
        if self.streams.values is not None:
            self.upper.mount_points = _VALUES
        assert self.template is not None
        joinable = self.streams.on_began is not None
        try:
            before = self._before()
            if joinable or self.template.shares:
                self.engine.store.sharing.begin()
                self._shares = True
        except BaseException:
            self.launcher.dismiss(warm.steps)
            raise
        container = self.container
        if container.unused:
            container.record = container.record.but(name=self.upper.name)
        container.confinement = functools.partial(describe_confinement, warm.plan, self.options, self.launcher.idmap)
        self.plan = warm.plan
        self.running = self.launcher.submit(
            warm.plan,
            files,
            before=before,
            explain=self.options.explain,
            joinable=joinable,
            limit=self.options.timeout,
        )
        if self.launcher.proc is not ProcLevel.OWN:
            self.engine.note_once(
                f"/proc: {self.launcher.proc}: {LIMITS[self.launcher.proc]}; see docs/places.md", self.streams.notify
            )
        self.upper.begin()
        container.upper = self.upper
        return self.running

    def _before(self) -> Callable[[ContainerHandle], None] | None:
        """Return what is done to init before the cell starts, None for nothing. Raises `SandboxError`."""
        limits = self.options.resources.cgroup_limits
        if limits.controllers:
            self.group = self.group or Group(limits)
        elif self.options.networking.network != Network.PRIVATE:
            return None
        return self._confine

    def _confine(self, running: ContainerHandle) -> None:
        """Put init into a group with the cell's limits, and connect it to its network. Raises `SandboxError`."""
        if self.group is not None:
            self.group.enter(running.pid)
        if self.options.networking.network == Network.PRIVATE:
            from nbcontainer.sandbox.network import private

            store, ports = self.engine.store, self.options.networking.ports
            private.connect(self.launcher, running, ports, scratch=f"tmp/{store.unique()}")

    def _follow(self, running: ContainerHandle, files: CellFiles, started: float) -> Outcome:
        streams, observer = self.streams, _Observer(self, files.outputs)
        try:
            supervisor = Supervisor(
                running,
                observer,
                files.outputs,
                timeout=self.options.timeout,
                keyboard=streams.keyboard if files.keyboard is None else files.keyboard,
                feed=files.feed,
                alarm=None if self.group is None else self.group.alarm,
                started=started,
                glance=None if streams.on_glance is None else GLANCE,
            )
            outcome = supervisor.to_end()
            if self.upper is not None:
                outcome = with_noted_end(self.engine.store, self.upper.id, outcome)
                if self.result and was_signalled(self.engine.store, self.upper.id):
                    running.touched = SIGNALLED
            self.touched = running.touched
            if self.group is not None:
                outcome = self.group.explain(outcome)
            if isinstance(self.upper, LimitedWriteLayer):
                running.wait()
                outcome = self.upper.explain(outcome)
            return outcome
        finally:
            self.has_output = observer.has_output
            observer.close()
            self.container.upper = None
            self.engine.note_active(self.container.name, None)

    def explain(self, notes: str) -> None:
        """Hand on what was done for the cell, or why that is not known: the cell continues."""
        if self.running is None or self.plan is None or self.streams.on_explained is None or self._unexplained:
            return
        from nbcontainer.sandbox.explanation import ExplainedRun

        if self._explained is None:
            self._explained = ExplainedRun(self.plan, self.running.sent)
        try:
            self.streams.on_explained(self._explained.add(notes))
        except SandboxError as error:
            self._unexplained = True
            self.streams.notify(str(error))

    def end_at_limit(self) -> None:
        """End all of a cell that reached its memory limit, where the kernel ends one process at a time."""
        if self.group is not None and self.running is not None and self.group.is_out_of_memory():
            self.running.kill()

    def note_active(self) -> None:
        """Write down that the cell runs, for `ps`, `stop` and `commit` of every process."""
        assert self.running is not None
        assert self.upper is not None
        networking, lasting = self.options.networking, self.streams.lasting
        joinable = lasting is not None or self.streams.on_began is not None
        active = ActiveCell(
            pid=self.running.pid,
            birth=birth(self.running.pid),
            image=self.image.name,
            image_digest=self.image.digest,
            started=timestamps.timestamp(time.time()),
            command=f"live {lasting.name}" if lasting is not None else self.request.as_text[:200],
            upper=self.upper.id,
            lowers=self.upper.lowers,
            kernel=self.request.kernel,
            network=networking.network,
            ports=tuple(str(port) for port in networking.ports),
            stop_signal=self.options.process.stop_signal or stop_signal(self.image.config),
            parts=self.upper.parts,
            storage=self.options.resources.storage,
            confinement=self.container.confinement and self.container.confinement(),
            labels=self.container.record.labels,
            mount_points=self.upper.mount_points,
            notebook=self.request.notebook or notebook_name(),
            live=lasting is not None,
            untrusted=self.options.untrusted,
            cached=bool(self.result),
            log=self.streams.log,
            door=self.engine.exec_server.path if joinable and self.engine.exec_server is not None else "",
        )
        self.engine.note_active(self.container.name, active)


class _Observer(StreamsObserver):
    """Passes what happens in a cell to its streams, and notes that it runs."""

    def __init__(self, cell: Cell, outputs: list[int]) -> None:
        super().__init__(cell.streams, outputs)
        self._cell = cell

    def on_lasting(self) -> None:
        self._cell.note_active()

    def on_explained(self, notes: str) -> None:
        self._cell.explain(notes)

    def on_alarm(self) -> None:
        self._cell.end_at_limit()
