"""One cell: its request, its streams, and its run from there to the outcome."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.containers.active import ActiveCell, notebook_name
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.mounts import idmapped, is_as_checked, writable_directories
from nbcontainer.containers.options import RunOptions, StandardInput, command_line, environment, stop_signal
from nbcontainer.containers.record import describe_confinement
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteLayer
from nbcontainer.errors import ContainerLost, SetupFailed, UsageError
from nbcontainer.images.builtin.host_variables import host_variables
from nbcontainer.linux.files import keeps_attributes
from nbcontainer.linux.procfs import birth
from nbcontainer.oci import timestamps
from nbcontainer.oci.reference import HOST
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.cgroups.group import Group
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.spec import SHM_SIZE, Network, ProcLevel, Program, Spec
from nbcontainer.sandbox.steps.display import PROGRAMS
from nbcontainer.sandbox.steps.overlay import FEW_CHANGES, upper_refused
from nbcontainer.sandbox.steps.proc import LIMITS
from nbcontainer.sandbox.supervisor import SilentObserver, Supervisor
from nbcontainer.sandbox.userns.idmapped_mounts import STALE
from nbcontainer.store import writable
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.cow.attaching import CowVolumes
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.options import ProcessOptions
    from nbcontainer.containers.warm_pool import WarmContainer
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.oci.documents import Image, ImageConfig
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.display_channel import DisplayChannel, DisplayListener
    from nbcontainer.sandbox.explanation import Explanation
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.spec import ControlDirectory, Mounts, Networking, Values
    from nbcontainer.sandbox.steps.base import Plan, Step

    Sink = Callable[[bytes], None]

_SCRIPT = 3
"""The number of the travelling descriptor that holds a cell's body: it comes after the streams."""

GLANCE = 0.05
"""Seconds between two calls of `Streams.on_glance`."""

_VALUES = ("in", "out")
"""The mount points of a cell's values, in the root."""

_COMMAND_KEPT = 4000  # characters of a cell in the record, as history shows them


@dataclass(frozen=True)
class Request:
    """One run. `script` is a cell's body, `command` the arguments after the image; with both, the body is its input.

    `kernel` is the run in the kernelspec that it belongs to, as text, empty for a cell. `arguments` are those of a
    script that is a file: `$1` and so on. `notebook` is the file name of the notebook, empty for that of this process.
    `interpreter` is the program that runs the script, with its first arguments; empty for the script's own, or the
    image's shell. `driver` is the text of the program that runs a Python cell. `stdin` is the input; None for what
    `Streams` has.

    Raises `UsageError` if two of them are the input.
    """

    image: str = ""
    name: str = ""
    command: tuple[str, ...] = ()
    script: str | None = None
    remove: bool = False
    options: RunOptions = RunOptions()
    kernel: str = ""
    arguments: tuple[str, ...] = ()
    notebook: str = ""
    interpreter: tuple[str, ...] = ()
    driver: str = ""
    stdin: StandardInput | None = None

    def __post_init__(self) -> None:
        if self.command and self.script is not None and self.stdin is not None:
            hint = "remove one of them"
            raise UsageError("--stdin and the body of the cell are both the input of the command", hint=hint)

    @property
    def as_text(self) -> str:
        """The run as text, for `history` and `ps`."""
        text = " ".join(self.command) if self.command else (self.script or "")
        return text[:_COMMAND_KEPT]


@dataclass(frozen=True)
class Lasting:
    """A program that runs one cell after another in its container: its name, and what returns the text of its cells."""

    name: str
    text: Callable[[], str]


@dataclass
class Streams:
    """Where a cell's output goes, and what it reads.

    `stdin` is a host descriptor, None for no input. With a terminal, what is read from the host descriptor `keyboard`
    is typed into it, and `on_terminal` gets its descriptor and returns the sink for its output, None for `stdout`. With
    a `control_directory`, `on_control_directory` gets the descriptors of its directory and its terminal, and returns
    sinks for more descriptors. With `values`, `on_values` gets descriptors of the files of `/in` and of `/out`, and
    closes them; the cell starts when it returns. If the run is explained, `on_explained` gets how. `on_notice` gets
    lines about the run that the container did not write, and `on_wait` the line that says why it has to wait.
    `on_cached` gets the line that says that the output is a kept one. `values_digest` returns a digest of the files of
    `/in`. `lasting` is given for a program that runs more than the request's own text. `on_glance` is called every
    GLANCE seconds while the cell runs. With `on_began`, other processes can join the container, and it is called when
    the program runs. `log` is that of a job, relative to the store.
    """

    stdout: Sink
    stderr: Sink
    stdin: int | None = None
    keyboard: int | None = None
    on_terminal: Callable[[int], Sink | None] | None = None
    control_directory: ControlDirectory | None = None
    on_control_directory: Callable[[int, int], Mapping[int, Sink]] | None = None
    on_follow: Callable[[Supervisor], None] | None = None
    values: Values | None = None
    on_values: Callable[[Sequence[int]], None] = protocol.close
    on_explained: Callable[[Explanation], None] | None = None
    on_notice: Callable[[str], None] | None = None
    lasting: Lasting | None = None
    on_wait: Callable[[str], None] | None = None
    display: DisplayListener | None = None
    on_glance: Callable[[], None] | None = None
    on_began: Callable[[], None] | None = None
    log: str = ""
    on_cached: Callable[[str], None] | None = None
    values_digest: Callable[[], str] | None = None

    def notify(self, text: str) -> None:
        """Show one line about the run that the container did not write: to `on_notice`, or else to `stderr`."""
        if self.on_notice is not None:
            self.on_notice(text)
        else:
            self.stderr(f"nbcontainer: {text}\n".encode())


@contextlib.contextmanager
def store_errors(engine: Engine, do: str) -> Iterator[None]:
    """Turn what the kernel refuses this process (descriptors, space, memory) into the store's error: one line."""
    try:
        yield
    except OSError as error:
        raise store_error(do, error.filename or engine.store.path, error) from error


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
        self._keyboard: int | None = None
        self._script = None if request.command else request.script
        self._done: tuple[Step, ...] = ()
        self._network = ""
        self._namespace: int | None = None
        self._changes = False
        self.result = ""
        """The id that the result of this cell gets if it ends well; empty for a cell that is not cached."""

    @property
    def text(self) -> str:
        """What has run, as text for `history`."""
        lasting = self.streams.lasting
        return lasting.text() if lasting is not None else self.request.as_text

    def run(self) -> Outcome:
        """Return the outcome of the cell; run it a second time if the first failure showed how to avoid it."""
        afresh = False
        try:
            return self._run_once()
        except SetupFailed as error:
            # What failed when the container was prewarmed need not fail now: make a new one.
            afresh = error.step in {type(step).__name__ for step in self._done}
            if not (self._cured(error) or afresh):
                raise
            self.release()
        except ContainerLost:  # the pool drops dead containers; nothing runs twice, since the cell had not begun
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
            self.engine.release(self.upper, self.running, self.group, self.cow)
        self.upper = self.running = self.group = None

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
        self.streams.notify(f"what cells write is kept in memory, until this machine restarts; {limit}{advice}")
        return True

    def keep(self, outcome: Outcome | None) -> None:
        """Keep what the cell wrote as a layer. A cell that wrote nothing, or did not start, leaves nothing."""
        if self.streams.values is not None and self.running is not None and self.upper is not None:
            self._remove_mount_points(self.running, self.upper, killed=outcome is None)
        cell = None
        if outcome is not None:
            cell = CellRecord("", self.text, "", outcome, result=self.result if outcome.ok else "")
        with self._noting_loss(cell):
            self._keep(outcome, cell)

    @contextlib.contextmanager
    def _noting_loss(self, cell: CellRecord | None) -> Iterator[None]:
        """If what the cell changed cannot be kept, note in the container that it is lost."""
        try:
            yield
        except BaseException:
            if cell is not None and self._changes:
                now = timestamps.timestamp(time.time())
                self.container.lose_cell(replace(cell, created=now))
            raise

    def _keep(self, outcome: Outcome | None, cell: CellRecord | None) -> None:
        self._changes = outcome is not None and self.upper is not None  # unless it is known that there are none
        changed = self._changes and self.upper is not None and self.upper.changed()
        moved = self._changes and self.cow is not None and self.cow.changed()
        self._changes = changed or moved
        if self.running is not None:
            if outcome is None:
                self.running.kill()
            if changed or self.options.mounts.volumes or self.options.networking.ports:
                # A mount must not become part of the layer, nor keep a volume's disk busy, nor may a published port
                # stay in use.
                self.running.wait()
        if cell is not None:
            written = changed or moved or not self.container.anonymous
            with self.engine.store.lock(shared=True) if written else contextlib.nullcontext():
                layer = self.upper.keep(self.engine) if changed and self.upper is not None else ""
                now = timestamps.timestamp(time.time())
                try:
                    if self.cow is None:
                        self.container.add_cell(replace(cell, layer=layer, created=now))
                    else:
                        self.cow.add_cell(replace(cell, layer=layer, created=now))
                except BaseException:
                    self.engine.drop_layer(layer)
                    raise

    def _remove_mount_points(self, running: ContainerHandle, upper: WriteLayer, *, killed: bool) -> None:
        """Remove the directories that `/in` and `/out` were mounted on: the cell did not make them."""
        if killed:
            running.kill()
        running.wait()
        upper.remove_mount_points(self.engine)

    def _run_once(self, *, afresh: bool = False) -> Outcome:
        kept: list[int] = []
        try:
            with store_errors(self.engine, "begin a cell"):
                running = self._send(kept, afresh=afresh)
            # The clock starts when the plan is sent: the start of a cold launcher does not count.
            return self._follow(running, kept[:2], time.monotonic())
        finally:
            protocol.close(kept)

    def _send(self, kept: list[int], *, afresh: bool) -> ContainerHandle:
        """Send the plan to a container, to a new one if `afresh`.

        The notebook's ends of the cell's output and errors go to `kept`, then the cell's ends of these, and the input
        that is typed into a terminal. The caller closes them when the cell has ended: the one that closes an end last
        waits for a process that has locked the pipe.
        """
        sent: list[int] = []
        try:
            for number in range(2):
                reader, writer = self.engine.output_pipe()
                kept.insert(number, reader)
                kept.append(writer)
            files = [self._input(kept, sent), *kept[2:4]]
            self.template = self.make_template(self.add_files(files, sent))
            resources = self.options.resources
            warm = self.engine.allocate(
                self.launcher,
                self.container.lowers,
                self.template,
                resources.cgroup_limits,
                resources.storage,
                afresh=afresh,
            )
            return self._submit(warm, files)
        finally:
            protocol.close(sent)

    def _submit(self, warm: WarmContainer, files: list[int]) -> ContainerHandle:
        self.upper, self.group, self._done = warm.upper, warm.group, warm.steps
        if self.streams.values is not None:
            self.upper.mount_points = _VALUES
        try:
            before = self._before()
        except BaseException:
            self.launcher.dismiss(warm.steps)
            raise
        container = self.container
        if container.unused:
            container.record = replace(container.record, name=self.upper.name)
        container.confinement = functools.partial(describe_confinement, warm.plan, self.options, self.launcher.idmap)
        self.plan, joinable = warm.plan, self.streams.on_began is not None
        self.running = self.launcher.submit(
            warm.plan,
            files,
            before=before,
            explain=self.options.explain,
            joinable=joinable,
            limit=self.options.timeout,
        )
        if self.launcher.proc is not ProcLevel.OWN:
            self._note_once(f"/proc: {self.launcher.proc}: {LIMITS[self.launcher.proc]}; see docs/places.md")
        container.upper = self.upper
        return self.running

    def _note_once(self, text: str) -> None:
        """Show a line about this place, if no cell of this notebook has shown it."""
        if text not in self.engine.noted:
            self.engine.noted.add(text)
            self.streams.notify(text)

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

    def _follow(self, running: ContainerHandle, outputs: list[int], started: float) -> Outcome:
        streams, observer = self.streams, _Observer(self, outputs)
        try:
            supervisor = Supervisor(
                running,
                observer,
                outputs,
                timeout=self.options.timeout,
                keyboard=streams.keyboard if self._keyboard is None else self._keyboard,
                alarm=None if self.group is None else self.group.alarm,
                started=started,
                glance=None if streams.on_glance is None else GLANCE,
            )
            outcome = supervisor.to_end()
            self._explain(running)
            if self.group is not None:
                outcome = self.group.explain(outcome)
            if isinstance(self.upper, LimitedWriteLayer):
                running.wait()
                outcome = self.upper.explain(outcome)
            return outcome
        finally:
            if observer.channel is not None:
                observer.channel.close()
            self.container.upper = None
            self.engine.note_active(self.container.name, None)

    def _explain(self, running: ContainerHandle) -> None:
        """Hand on what was done for the cell, if that was asked for."""
        if running.explained is not None and self.plan is not None and self.streams.on_explained is not None:
            from nbcontainer.sandbox.explanation import explain_run

            self.streams.on_explained(explain_run(self.plan, running.explained, running.sent))

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
            log=self.streams.log,
            door=self.engine.exec_server.path if joinable and self.engine.exec_server is not None else "",
        )
        self.engine.note_active(self.container.name, active)

    def _input(self, kept: list[int], sent: list[int]) -> int:
        """Return the descriptor of the cell's standard input. One that is opened for it goes to `sent` too.

        Input for a terminal goes to `kept`: it is typed.
        """
        request, terminal = self.request, self.options.process.terminal
        if request.command and request.script is not None:
            given = protocol.memory_file("stdin", encode(request.script))
        elif request.stdin is not None:
            given = request.stdin.open(self.engine.store)
        elif self.streams.stdin is not None:
            return self.streams.stdin
        else:
            sent.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            return sent[-1]
        if terminal:
            kept.append(given)
            self._keyboard = given
            sent.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        else:
            sent.append(given)
        return sent[-1]

    def add_files(self, files: list[int], sent: list[int]) -> Mounts:
        """Add the descriptors that travel with the plan to `files`, and to `sent`; return the mounts as they travel."""
        if self._script is not None:
            files.append(protocol.memory_file("cell", encode(self._script)))
            sent.append(files[_SCRIPT])
        if joined := self.options.networking.joined:
            self._join(joined, files, sent)
        mounts = self.options.mounts if self.cow is None else self.cow.begin(self.options.mounts)
        if not mounts.volumes:
            return mounts
        # With this capability a cell makes its read-only volumes writable (SECURITY.md, "--cap-add").
        remounts = "SYS_ADMIN" in self.options.privileges.capabilities
        for directory in writable_directories(mounts.volumes, all_of_them=remounts):
            writable.remember(self.engine.store, directory)
        host_ids = all(volume.stored for volume in mounts.volumes) or self.launcher.idmap.root_uid == os.geteuid()
        if not host_ids:
            mapped = idmapped(mounts.volumes, self.launcher, len(files))
            files += mapped.trees
            sent += mapped.trees
            for note in mapped.notes:
                self._note_once(note)
            return replace(mounts, volumes=tuple(mapped.volumes))
        return mounts

    def _join(self, name: str, files: list[int], sent: list[int]) -> None:
        """Add the network namespace of another container. A job in the host's network has no other one."""
        self._network, namespace = self.engine.network_of(name)
        sent.append(namespace)
        if self._network != Network.HOST:
            self._namespace = len(files)
            files.append(namespace)

    def _environment(self, config: ImageConfig, process: ProcessOptions) -> tuple[str, ...]:
        """Return the environment: if the notebook shows data, `display` is found, before an image's program."""
        env = environment(config, process)
        if self.streams.display is None and self.streams.control_directory is None:
            return env
        return tuple(f"PATH={PROGRAMS}:{item[5:]}" if item.startswith("PATH=") else item for item in env)

    def make_template(self, mounts: Mounts) -> PlanTemplate:
        """Return the plan of this cell but for its root. `mounts` are those of the options, as they travel."""
        options, config, script = self.options, self.image.config, self._script
        networking = options.networking
        if self._network == Network.HOST:
            networking = replace(networking, network=Network.HOST)
        process, resources = options.process, options.resources
        if self.image.name == HOST:
            process = replace(process, unset_env=(*process.unset_env, *host_variables(process.user)))
        program = Program(
            command_line(
                config,
                self.request.command,
                script=script,
                arguments=self.request.arguments,
                entrypoint=process.entrypoint,
                interpreter=self.request.interpreter,
            ),
            self._environment(config, process),
            process.workdir or config.working_dir or "/",
            process.user or config.user,
            process.terminal,
            process.groups,
            process.terminal_input,
        )
        spec = Spec(
            program,
            hostname=options.hostname or ("" if self.container.unused else self.container.name),
            mounts=mounts,
            networking=networking,
            privileges=options.privileges,
            limits=resources.process_limits,
            shm_size=resources.shm_size or SHM_SIZE,
            resolver=_resolver(replace(networking, network=self._network) if self._network else networking),
            namespace=self._namespace,
            script=None if script is None else _SCRIPT,
            control_directory=self.streams.control_directory,
            git_config=process.git_config,
            driver=self.request.driver,
            groups=hierarchy.PREFIX if resources.cgroup_limits.controllers else "",
            values=self.streams.values and replace(self.streams.values, size=resources.storage),
        )
        return PlanTemplate(spec, self.launcher.idmap, self.launcher.proc)


class _Observer(SilentObserver):
    """Passes what happens in a cell to its streams, and notes that it runs."""

    def __init__(self, cell: Cell, outputs: list[int]) -> None:
        self._cell = cell
        self._streams = cell.streams
        self.channel: DisplayChannel | None = None
        self._outputs = outputs
        self._sinks = dict(zip(outputs, (cell.streams.stdout, cell.streams.stderr), strict=True))

    def on_start(self, supervisor: Supervisor) -> None:
        if self._streams.on_follow is not None:
            self._streams.on_follow(supervisor)

    def on_output(self, descriptor: int, data: bytes) -> None:
        self._sinks[descriptor](data)

    def on_terminal(self, terminal: int) -> None:
        sink = self._streams.on_terminal(terminal) if self._streams.on_terminal is not None else None
        self._sinks[terminal] = sink or self._streams.stdout

    def on_control_directory(self, directory: int, terminal: int) -> Iterable[int]:
        if self._streams.on_control_directory is None:
            return ()
        sinks = self._streams.on_control_directory(directory, terminal)
        self._sinks.update(sinks)
        return tuple(sinks)

    def on_display(self, directory: int, supervisor: Supervisor) -> Iterable[int]:
        from nbcontainer.sandbox.display_channel import DisplayChannel

        self.channel = channel = DisplayChannel(directory)

        def serve(data: bytes) -> None:
            for fields in channel.lines(data):
                supervisor.take_waiting(self._outputs)
                channel.serve(fields, self._streams.display)

        self._sinks[channel.replies] = serve
        return (channel.replies,)

    def on_values(self, values: Sequence[int]) -> None:
        self._streams.on_values(values)

    def on_lasting(self) -> None:
        self._cell.note_active()

    def on_began(self) -> None:
        if self._streams.on_began is not None:
            self._streams.on_began()

    def on_alarm(self) -> None:
        self._cell.end_at_limit()

    def on_glance(self) -> None:
        if self._streams.on_glance is not None:
            self._streams.on_glance()


def _resolver(networking: Networking) -> str:
    """Return the text of the container's own /etc/resolv.conf, empty if it has none."""
    if networking.network != Network.PRIVATE and not networking.dns:
        return ""
    from nbcontainer.sandbox.network import private

    text = private.resolver_text()
    if not networking.dns:
        return text
    # The host's search domains and options stay, as with Docker.
    kept = [line for line in text.splitlines() if not line.startswith("nameserver ")]
    return "\n".join((*(f"nameserver {address}" for address in networking.dns), *kept, ""))


def encode(text: str) -> bytes:
    """Return a cell's body as it is written to its file. Raises `UsageError` if it is not Unicode text."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        message = f"the cell contains a character that is not Unicode text, at position {error.start}"
        raise UsageError(message, hint="remove it") from None
