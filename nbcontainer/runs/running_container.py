"""What runs in a container of the Python API: runs, jobs, further commands, their output and their ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, Unpack, cast, overload

from nbcontainer.commands.options.table import ContainerKeywords
from nbcontainer.containers import container as base
from nbcontainer.containers import run as running
from nbcontainer.containers.active import running_containers, stop_running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs import following
from nbcontainer.containers.jobs.job import Job
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.containers.jobs.readiness import check_awaited
from nbcontainer.containers.live import joining
from nbcontainer.containers.record import Record
from nbcontainer.containers.workspace import Workspace
from nbcontainer.errors import ContainerBusy, ContainerError, NbcontainerError, UsageError
from nbcontainer.outcome import Outcome
from nbcontainer.progress import State
from nbcontainer.runs import arguments
from nbcontainer.runs.background_run import STOP_GRACE, BackgroundRun
from nbcontainer.runs.calls import Call, Data, request_in
from nbcontainer.runs.job_output import Moment, events, selection
from nbcontainer.runs.output_events import OutputEvent
from nbcontainer.runs.results import Result
from nbcontainer.runs.signatures import check_options, takes_options

_TURN = 0.005
"""Seconds between two looks at a run of another thread that has begun, and that can be stopped in a moment."""

_SETTLING = 5.0
"""Seconds in which the thread of a run that was stopped keeps what it left."""


class RunningContainer(base.Container):
    """A container with what can run in it. `Container` adds its files."""

    def __init__(self, workspace: Workspace, record: Record, *, saved: bool = True) -> None:
        super().__init__(workspace, record, saved=saved)
        self._free = threading.Lock()
        self._owner = 0
        self._runs = False
        self._background: BackgroundRun | None = None

    def __repr__(self) -> str:
        text = super().__repr__()
        return f"{text[:-1]}, running>" if self._is_known_to_run() else text

    def _is_known_to_run(self) -> bool:
        """Whether something of this process runs in it. It reads no files, as `running` may: each `repr` calls it."""
        with contextlib.suppress(NbcontainerError):  # it is of another process
            return self._runs or self._running() is not None or self.name in self.workspace.active
        return False

    def _facts_of_now(self) -> tuple[tuple[str, str], ...]:
        now = ", ".join(filter(None, ("running", self.health))) if self._is_known_to_run() else ""
        return (("now", now),) if now else ()

    @property
    def _engine(self) -> Engine:
        return cast("Engine", self.workspace)

    @takes_options(ContainerKeywords)
    def run(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        inputs: Mapping[str, Any] | None = None,
        get: Sequence[str] | Mapping[str, str] = (),
        check: bool = True,
        stdout: Callable[[bytes], None] | None = None,
        stderr: Callable[[bytes], None] | None = None,
        **options: Unpack[ContainerKeywords],
    ) -> Result:
        """Run a command or a script in this container, with the files that its last run left.

        Arguments and errors are those of `nbcontainer.run`, without those that choose the image and the container, or
        make it. Raises `ContainerBusy` if it runs already.

        >>> with create("busybox") as box:
        ...     result = box.run(["sh", "-c", "echo one > /file"])
        ...     box.run(script="cat /file; echo two").text
        'one\\ntwo\\n'
        """
        check_options(RunningContainer.run, options)
        data = Data(input, {} if inputs is None else inputs, get)
        request = request_in(self.record.image, command, script, data, options)
        call = Call(
            request,
            data,
            engine=self._engine,
            stdout=stdout,
            stderr=stderr,
            runner=self._run,
        )
        return call.result(check=check)

    @takes_options(ContainerKeywords)
    def start(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        inputs: Mapping[str, Any] | None = None,
        wait_for: int | str | None = None,
        **options: Unpack[ContainerKeywords],
    ) -> Self:
        """Start a command or a script in this container, and return the container while it runs.

        It ends by itself, by `stop`, at the end of the `with` block, or with this process. With `wait_for` it returns
        when a process of it listens on that TCP port, when it has written that text, or for "healthy" when the health
        check of its image has passed. Raises what `run` raises at its beginning, and `ContainerError` if it ends before
        that, or is unhealthy; then nothing runs, and `logs` has what it wrote. Nothing runs after Ctrl-C, either.

        >>> with create("busybox").start(script="echo up; sleep 1000", wait_for="up") as box:
        ...     print(box.logs(), box.stop())
        b'up\\n' True
        >>> with create("busybox").start(["httpd", "-f", "-p", "8000"], wait_for=8000) as box:
        ...     box.running
        True
        """
        check_options(RunningContainer.start, options)
        data = Data(input, {} if inputs is None else inputs)
        request = request_in(self.record.image, command, script, data, options)
        awaited = None if wait_for is None else arguments.awaited(wait_for)
        if awaited is not None:
            check_awaited(awaited, self.image())
        self._background = BackgroundRun(self._engine, self, request, data, self._run)
        if awaited is not None:
            self._background.wait_until_ready(awaited)
        return self

    @property
    def running(self) -> bool:
        """Whether something runs in it, in any process: a run, a job, a live container or a kernel.

        >>> with create("busybox") as box:
        ...     box.running, box.start(["sleep", "1000"]).running
        (False, True)
        """
        return self._runs or self._running() is not None or self._is_noted_to_run()

    def _is_noted_to_run(self) -> bool:
        """Whether a cell runs in it that has lasted, in any process. Raises `StoreError`."""
        if self.record.session == self.workspace.store.session:  # no other process uses it
            return self.name in self.workspace.active
        return self.name in running_containers(self.workspace.store)

    @property
    def health(self) -> str:
        """What the health check of its image says: "starting", "healthy" or "unhealthy".

        It is empty without a health check, and if no job of this process runs in it.

        >>> create("busybox").health
        ''
        """
        found = self._running()
        return str(found.health) if isinstance(found, Job) else ""

    def exec(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        env: Iterable[str] | Mapping[str, str | None] = (),
        user: str = "",
        workdir: str = "",
        timeout: float | str | None = None,
        check: bool = True,
        stdout: Callable[[bytes], None] | None = None,
        stderr: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run a command or a script by a new process in this container while it runs, as `docker exec` does.

        It has the namespaces and the limits of what runs there, its environment with `env` added, and its user and its
        working directory unless `user` and `workdir` name others. Arguments, result and errors are those of `run`;
        values in `/in` and `/out` are not available. Raises `ContainerError` if nothing runs in the container in this
        process.

        >>> with create("busybox").start(["sleep", "1000"]) as box:
        ...     box.exec(["cat", "/proc/1/comm"]).text
        'nbcontainer-ini\\n'
        """
        if not command and script is None:
            raise UsageError("exec: missing command", hint='write it as in exec(["ls", "/"])')
        found = self._joinable()
        given: dict[str, Any] = {"env": env}
        for name, value in (("user", user), ("workdir", workdir)):
            if value != "":
                given[name] = value
        if timeout is not None:
            given["timeout"] = timeout
        data = Data(input)
        request = request_in("", command, script, data, given)

        def run_there(_: Engine, request: Request, streams: Streams, __: object) -> tuple[base.Container, Outcome]:
            return self, joining.run_inside(found, request, streams, streams.on_follow)

        call = Call(request, data, engine=self._engine, stdout=stdout, stderr=stderr, runner=run_there)
        return call.result(check=check)

    def _joinable(self) -> joining.Joinable:
        """Return what runs in it and can be joined. Raises `ContainerError` if nothing does."""
        if (found := self._running()) is not None:
            return found
        hint = "start something in it with `start`, or use `run`"
        raise ContainerError(f"nothing runs in container '{self.name}' in this process", hint=hint)

    @property
    def _last_started(self) -> BackgroundRun | None:
        """What `start` of this object began last; None if the last job is another one, which began later."""
        job = self._engine.jobs.get(self.name)
        if self._background is not None and job is not None and job is not self._background.job:
            return None
        return self._background

    def _running(self) -> joining.Joinable | None:
        """Return the run that `start` began, or a job or a live container of this process; None without one."""
        live = self._engine.live.get(self.name)
        if (started := self._last_started) is not None and started.running:
            return started.job
        return cast("joining.Joinable", live) if live is not None and live.handle is not None else None

    @overload
    def logs(
        self, *, follow: Literal[False] = False, tail: int | None = None, since: Moment = None, until: Moment = None
    ) -> bytes: ...

    @overload
    def logs(
        self, *, follow: Literal[True], tail: int | None = None, since: Moment = None, until: Moment = None
    ) -> Generator[OutputEvent]: ...

    def logs(
        self, *, follow: bool = False, tail: int | None = None, since: Moment = None, until: Moment = None
    ) -> bytes | Generator[OutputEvent]:
        """Return what the last job has written so far, to both streams; the newest 16 MiB.

        That is the run that `start` began, or a job of any process in this container. With `follow`, return an iterator
        of `OutputEvent` instead, which waits for more until the job ends. `tail` is a number of lines: the last ones of
        what is there. `since` and `until` are a datetime (local time if it has no zone), seconds since 1970, or text as
        for `%container logs`. Raises `ContainerError` if there was no job, `UsageError`.

        >>> with create("busybox").start(["printf", "one\\ntwo\\n"]) as box:
        ...     print([event.text for event in box.logs(follow=True)])
        ...     box.logs(tail=1)
        ['one\\ntwo\\n']
        b'two\\n'
        """
        chosen = selection(tail, since, until)
        with self._log() as log:
            if not follow:
                return b"".join(record.data for record in chosen.records(log))
        started = self._last_started
        runs = following.runs(self._engine, self.name) if started is None else lambda: started.running
        return events(self._log, chosen, runs)

    def _log(self) -> LogReader:
        """Return a reader of the log of the last job, which the caller closes. Raises `ContainerError`."""
        if (started := self._last_started) is not None:
            return started.log()
        self._check_has_job()
        return following.open_log(self._engine, self.name)

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end of the last job, and return its result, whose output is in `logs`.

        That is the run that `start` began, or a job of any process in this container. Raises `ContainerError` if it
        still runs after `timeout` seconds, or if there was none, and `UsageError` for another `timeout`.

        >>> with create("busybox").start(script="exit 3") as box:
        ...     box.wait(timeout=60).exit_code
        3
        """
        timeout = None if timeout is None else arguments.seconds(timeout)
        if (started := self._last_started) is not None:
            return started.wait(timeout)
        self._check_has_job()
        end = following.wait(self._engine, self.name, timeout)
        if end.outcome is None:
            raise ContainerError(f"the job in container '{self.name}' {end.describe()}", hint="see `logs`")
        return Result(self, end.outcome, b"", b"")

    def _check_has_job(self) -> None:
        """Raise `ContainerError` for an anonymous container in which nothing was started: it is in no store."""
        if self.anonymous and following.own_job(self._engine, self.name) is None:
            hint = "start a job with `start`"
            raise ContainerError(f"nothing was started in container '{self.name}'", hint=hint)

    def stop(self, timeout: float = STOP_GRACE) -> bool:
        """End the processes in this container, of any notebook; return whether there were any.

        Raises `StoreError`, `UsageError`.

        What `start` began, or a job of this process, gets its stop signal, and is killed after `timeout` seconds.

        >>> with create("busybox") as box:
        ...     box.stop()
        False
        """
        timeout = arguments.seconds(timeout)
        started = self._last_started
        job = self._engine.jobs.get(self.name) if started is None else started.job
        if job is not None and job.join(0) is False:
            job.stop(timeout)
            return True
        if self._owner == threading.get_ident():  # a callback of the run, which continues when this returns
            return stop_running(self.workspace.store, self.name, settled=False)
        while not super().stop():
            if self._free.acquire(timeout=_TURN):
                self._free.release()
                return False
        if self._free.acquire(timeout=_SETTLING):
            self._free.release()
        return True

    def remove(self) -> None:
        """Remove the container, and the layers that nothing else uses. Volumes stay.

        Raises `ContainerBusy` if something runs in it.

        >>> box = create("busybox").start(["sleep", "1000"])
        >>> try:
        ...     box.remove()
        ... except ContainerBusy as error:
        ...     print(error.hint)
        wait for it, or stop it
        >>> box.stop()
        True
        >>> box.remove()
        """
        with self._alone():
            if self.anonymous and self._is_noted_to_run():
                raise ContainerBusy(f"container '{self.name}' is running", hint="stop it first")
            self._engine.retain(self)
            super().remove()

    def _run(
        self, engine: Engine, request: Request, streams: Streams, _: Callable[[State], None]
    ) -> tuple[base.Container, Outcome]:
        with self._alone():
            running.check(engine, request.options)
            engine.retain(self)
            self._runs = True
            try:
                here = replace(request, image="", name=self.name)
                outcome = running.run_in(engine, self, self.image(), here, streams)
            finally:
                self._runs = False
            if not self.anonymous:
                engine.replace_last(self)
            return self, outcome

    @contextlib.contextmanager
    def _alone(self) -> Any:
        """Hold the container in this process: the lock of an anonymous container is in memory."""
        job = following.own_job(self._engine, self.name)
        hint = "wait for it, or stop it"
        if job is not None and job.running and not job.is_own_thread:  # a job with `--rm` removes its container itself
            raise ContainerBusy(f"a job is running in container '{self.name}'", hint=hint)
        if not self._free.acquire(blocking=False):
            raise ContainerBusy(f"container '{self.name}' is running in another thread", hint=hint)
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._owner = 0
            self._free.release()
