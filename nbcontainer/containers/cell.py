"""One cell: what was asked for, its streams, and its run from there to the outcome."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nbcontainer.containers.active import ActiveCell
from nbcontainer.containers.mounts import idmapped, is_as_checked, writable_directories
from nbcontainer.containers.options import PRIVATE, RunOptions, command_line, environment, stop_signal
from nbcontainer.containers.record import CellRecord, describe_confinement
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteLayer
from nbcontainer.errors import ContainerLost, SetupFailed, UsageError
from nbcontainer.linux.files import keeps_attributes
from nbcontainer.linux.procfs import birth
from nbcontainer.oci import timestamps
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.cgroups.group import Group
from nbcontainer.sandbox.spec import SHM_SIZE, Program, Spec
from nbcontainer.sandbox.steps.overlay import FEW_CHANGES, upper_refused
from nbcontainer.sandbox.supervisor import SilentObserver, Supervisor
from nbcontainer.sandbox.userns import idmap
from nbcontainer.sandbox.userns.idmapped_mounts import STALE
from nbcontainer.store import writable
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.spec import ControlDirectory, Volume
    from nbcontainer.sandbox.steps.base import Plan, Step

    Sink = Callable[[bytes], None]

_SCRIPT = 3
"""The number of the travelling descriptor that holds a cell's body: it comes after the streams."""

_COMMAND_KEPT = 4000  # characters of a cell in the record, as history shows them


@dataclass(frozen=True)
class Request:
    """One run. `script` is a cell's body, `command` the words after the image; with both, the body is its input.

    `kernel` are the words of the run in the kernelspec that it is of, empty for a cell.
    """

    image: str = ""
    name: str = ""
    command: tuple[str, ...] = ()
    script: str | None = None
    remove: bool = False
    options: RunOptions = field(default_factory=RunOptions)
    kernel: str = ""

    @property
    def as_text(self) -> str:
        """The run in words, for `history` and `ps`."""
        text = " ".join(self.command) if self.command else (self.script or "")
        return text[:_COMMAND_KEPT]


@dataclass
class Streams:
    """Where a cell's output goes, and what it reads.

    `stdin` is a host descriptor, -1 for nothing. With a terminal, its output goes to `stdout`, what is read from
    `keyboard` is typed into it, and `on_terminal` gets its descriptor. With a `control_directory`,
    `on_control_directory` gets the descriptors of its directory and its terminal, and returns sinks for more
    descriptors.
    """

    stdout: Sink
    stderr: Sink
    stdin: int = -1
    keyboard: int = -1
    on_terminal: Callable[[int], None] | None = None
    control_directory: ControlDirectory | None = None
    on_control_directory: Callable[[int, int], Mapping[int, Sink]] | None = None
    on_follow: Callable[[Supervisor], None] | None = None


@contextlib.contextmanager
def store_errors(engine: Engine, do: str) -> Iterator[None]:
    """What the kernel refuses this process (descriptors, space, memory) becomes the store's error: one line."""
    try:
        yield
    except OSError as error:
        raise store_error(do, error.filename or engine.store.path, error) from error


class Cell:
    """One run of one cell, from the request to the outcome."""

    def __init__(
        self,
        engine: Engine,
        container: Container,
        image: Image,
        request: Request,
        streams: Streams,
    ) -> None:
        self.engine = engine
        self.container = container
        self.image = image
        self.request = request
        self.options = request.options
        self.streams = streams
        self.launcher = engine.launcher_for(self.options.userns)
        self.upper: WriteLayer | None = None
        self.running: ContainerHandle | None = None
        self.group: Group | None = None
        self._ahead: tuple[Step, ...] = ()

    def run(self) -> Outcome:
        """Runs it; once more where the first try showed what to do about its failure."""
        afresh = False
        try:
            return self._run_once()
        except SetupFailed as error:
            # What was refused when the container was made ahead need not be refused now: not to one made now.
            afresh = error.step in {type(step).__name__ for step in self._ahead}
            if not (self._cured(error) or afresh):
                raise
            self.clear_away()
        except ContainerLost:  # who waits is known again, and who is dead; nothing goes on where another began
            self.clear_away()
            with contextlib.suppress(ContainerLost):
                self.launcher.collect()
        return self._run_once(afresh=afresh)

    def _cured(self, error: SetupFailed) -> bool:
        """A launcher that does not see a volume as the notebook does is started anew; an upper may go to memory.

        One that was used before is not what its file system refuses. What is not there for the notebook either, as it
        was, has been changed, and no launcher with all its containers ends for that.
        """
        if error.step == "BindVolume" and error.errno == STALE:
            if not all(map(is_as_checked, self.options.volumes)):
                return False
            self.launcher.close()
        elif not upper_refused(error):
            return False
        elif self.upper is not None and self.upper.used:
            pass  # the container that had it waiting was killed, with its launcher: the next has another
        elif not self._use_memory(error.hint):
            return False
        return True

    def clear_away(self) -> None:
        """Has what nobody wants of it removed."""
        if self.upper is not None or self.group is not None:
            self.engine.clear_away(self.upper, self.running, self.group)
        self.upper = self.running = self.group = None

    def _use_memory(self, advice: str) -> bool:
        """Has uppers made in memory from now on, and tells it, once; False where they are, or cannot be, already."""
        store = self.engine.store
        if store.in_memory or self.options.userns == idmap.HOST:
            return False
        try:
            store.use_memory()
            limit = "" if keeps_attributes(str(store.memory)) else f"{FEW_CHANGES}; "
        except OSError:
            return False
        store_errors = (
            f"nbcontainer: what cells write is kept in memory, until this machine restarts; {limit}{advice}\n"
        )
        self.streams.stderr(store_errors.encode())
        return True

    def settle(self, outcome: Outcome | None) -> None:
        """Keeps what the cell wrote as a layer; a cell that wrote nothing, or never was one, leaves nothing."""
        changed = outcome is not None and self.upper is not None and self.upper.changed()
        if self.running is not None:
            if outcome is None:
                self.running.kill()
            if changed or self.options.volumes or self.options.ports:
                # What is mounted must not become a layer, nor be in the way of who unmounts a volume's disk, nor may a
                # port that is published be in the next one's.
                self.running.wait()
        if outcome is not None:
            written = changed or not self.container.anonymous
            with self.engine.store.lock(shared=True) if written else contextlib.nullcontext():
                layer = self.upper.keep(self.engine) if changed and self.upper is not None else ""
                now = timestamps.timestamp(time.time())
                cell = CellRecord(layer, self.request.as_text, now, outcome)
                try:
                    self.container.add_cell(cell)
                except BaseException:
                    self.engine.drop_layer(layer)
                    raise

    def _run_once(self, *, afresh: bool = False) -> Outcome:
        kept: list[int] = []
        try:
            with store_errors(self.engine, "begin a cell"):
                running = self._begin(kept, afresh=afresh)
            # Its time begins when it is sent off: what a cold launcher takes is not the cell's.
            return self._follow(running, kept, time.monotonic())
        finally:
            protocol.close(kept)

    def _begin(self, kept: list[int], *, afresh: bool) -> ContainerHandle:
        """Sends it off, `afresh` to no container that waits.

        The notebook's ends of its output and its errors go to `kept`, for the caller to close.
        """
        sent: list[int] = []
        try:
            for _ in ("output", "errors"):
                reader, writer = self.engine.output_pipe()
                kept.append(reader)
                sent.append(writer)
            files = [self._input(sent), *sent[:2]]
            volumes = self._add_files(files, sent)
            plan_for = functools.partial(self.plan_for, volumes=volumes)
            lowers, limits, storage = self.container.lowers, self.options.cgroup_limits, self.options.storage
            ready, todo = self.engine.begin(self.launcher, lowers, plan_for, limits, storage, afresh=afresh)
            self.upper, self.group, self._ahead = ready.upper, ready.group, ready.steps
            try:
                before = self._before()
            except BaseException:
                self.launcher.dismiss(ready.steps)
                raise
            if self.container.anonymous:
                self.container.record = replace(self.container.record, name=self.upper.name)
            idmap_ = self.launcher.idmap
            self.container.confinement = functools.partial(describe_confinement, todo, self.options, idmap_)
            self.running = self.launcher.submit(todo, files, before=before)
            self.container.upper = self.upper
            return self.running
        finally:
            protocol.close(sent)

    def _before(self) -> Callable[[ContainerHandle], None] | None:
        """What is done to init before there is a cell, where there is something to do. Raises `SandboxError`."""
        if self.options.cgroup_limits.controllers:
            self.group = self.group or Group(self.options.cgroup_limits)
        elif self.options.network != PRIVATE:
            return None
        return self._ready

    def _ready(self, running: ContainerHandle) -> None:
        """Puts init into a group with the cell's limits, and connects it to its network. Raises `SandboxError`."""
        if self.group is not None:
            self.group.enter(running.pid)
        if self.options.network == PRIVATE:
            from nbcontainer.sandbox.network import private

            store = self.engine.store
            private.connect(self.launcher, running, self.options.ports, scratch=f"tmp/{store.unique()}")

    def _follow(self, running: ContainerHandle, outputs: list[int], started: float) -> Outcome:
        try:
            supervisor = Supervisor(
                running,
                _Observer(self, outputs),
                outputs,
                timeout=self.options.timeout,
                keyboard=self.streams.keyboard if self.streams.keyboard >= 0 else None,
                alarm=None if self.group is None else self.group.alarm,
                started=started,
            )
            outcome = supervisor.to_end()
            if self.group is not None:
                outcome = self.group.explain(outcome)
            if isinstance(self.upper, LimitedWriteLayer):
                running.wait()
                outcome = self.upper.explain(outcome)
            return outcome
        finally:
            self.container.upper = None
            self.engine.note_active(self.container.name, None)

    def end_at_limit(self) -> None:
        """Ends all of a cell that came to its memory limit, where the kernel ends one process at a time."""
        if self.group is not None and self.running is not None and self.group.is_out_of_memory():
            self.running.kill()

    def note_running(self) -> None:
        """Says that the cell runs, for `ps`, `stop` and `commit` in whichever process."""
        assert self.running is not None
        assert self.upper is not None
        active = ActiveCell(
            pid=self.running.pid,
            birth=birth(self.running.pid),
            image=self.image.name,
            image_digest=self.image.digest,
            started=timestamps.timestamp(time.time()),
            command=self.request.as_text[:200],
            upper=self.upper.id,
            lowers=self.upper.lowers,
            kernel=self.request.kernel,
            network=self.options.network,
            ports=tuple(str(port) for port in self.options.ports),
            stop_signal=stop_signal(self.image.config),
            parts=self.upper.parts,
            storage=self.options.storage,
            confinement=self.container.confinement and self.container.confinement(),
        )
        self.engine.note_active(self.container.name, active)

    def _input(self, sent: list[int]) -> int:
        """The descriptor of the cell's standard input; one that is opened for it goes to `sent`, to be closed."""
        if self.request.command and self.request.script is not None:
            sent.append(protocol.memory_file("stdin", encode(self.request.script)))
        elif self.streams.stdin >= 0:
            return self.streams.stdin
        else:
            sent.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return sent[-1]

    @property
    def _script(self) -> str | None:
        return None if self.request.command else self.request.script

    def _add_files(self, files: list[int], sent: list[int]) -> tuple[Volume, ...]:
        """Adds the descriptors that travel with the plan to `files`, and to `sent`, to be closed here; the volumes."""
        if self._script is not None:
            files.append(protocol.memory_file("cell", encode(self._script)))
            sent.append(files[_SCRIPT])
        volumes = self.options.volumes
        # With this capability a cell makes its volumes writable that are not (SECURITY.md, "--cap-add").
        mounts = "SYS_ADMIN" in self.options.capabilities
        for directory in writable_directories(volumes, all_of_them=mounts):
            writable.remember(self.engine.store, directory)
        if volumes and self.launcher.idmap.root_uid != os.geteuid():
            volumes, trees = idmapped(volumes, self.launcher, len(files))
            files += trees
            sent += trees
        return volumes

    def plan_for(self, upper: WriteLayer, volumes: tuple[Volume, ...] | None = None) -> Plan:
        """The plan of this cell, or of one more like it, on an upper. `volumes` are the cell's as they travel."""
        options, config = self.options, self.image.config
        script = self._script
        hostname = options.hostname or (upper.name if self.container.anonymous else self.container.name)
        program = Program(
            command_line(config, self.request.command, script=script),
            environment(config, options, hostname),
            options.workdir or config.working_dir or "/",
            options.user or config.user,
            options.terminal,
        )
        spec = Spec(
            root=upper.root,
            process=program,
            hostname=hostname,
            volumes=options.volumes if volumes is None else volumes,
            tmpfs=options.tmpfs,
            network=options.network,
            resolver=_resolver(options),
            read_only=options.read_only,
            limits=options.limits,
            capabilities=options.capabilities,
            shm_size=options.shm_size or SHM_SIZE,
            script=-1 if script is None else _SCRIPT,
            control_directory=self.streams.control_directory,
        )
        return plan.build(spec, self.launcher.idmap)


class _Observer(SilentObserver):
    """Passes what happens in a cell to its streams, and notes that it runs."""

    def __init__(self, cell: Cell, outputs: list[int]) -> None:
        self._cell = cell
        self._streams = cell.streams
        self._sinks = dict(zip(outputs, (cell.streams.stdout, cell.streams.stderr), strict=True))

    def on_start(self, supervisor: Supervisor) -> None:
        if self._streams.on_follow is not None:
            self._streams.on_follow(supervisor)

    def on_output(self, descriptor: int, data: bytes) -> None:
        self._sinks[descriptor](data)

    def on_terminal(self, terminal: int) -> None:
        self._sinks[terminal] = self._streams.stdout
        if self._streams.on_terminal is not None:
            self._streams.on_terminal(terminal)

    def on_control_directory(self, directory: int, terminal: int) -> Iterable[int]:
        if self._streams.on_control_directory is None:
            return ()
        sinks = self._streams.on_control_directory(directory, terminal)
        self._sinks.update(sinks)
        return tuple(sinks)

    def on_lasting(self) -> None:
        self._cell.note_running()

    def on_alarm(self) -> None:
        self._cell.end_at_limit()


def _resolver(options: RunOptions) -> str:
    """The text of the resolv.conf of a private network."""
    if options.network != PRIVATE:
        return ""
    from nbcontainer.sandbox.network import private

    return private.resolver_text()


def encode(text: str) -> bytes:
    """A cell's body as it is written to its file. Raises `UsageError` for what is no text."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the cell has a character that is no Unicode text, at position {error.start}", hint="remove it"
        ) from None
