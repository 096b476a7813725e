"""One job: a run in a thread of its own, with its log, its end, and ways to end it."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from nbcontainer.containers import lookup
from nbcontainer.containers.jobs.log import Log
from nbcontainer.containers.live import exec_server
from nbcontainer.containers.options import stop_signal
from nbcontainer.errors import ContainerBusy, ContainerError, NbcontainerError
from nbcontainer.linux.signals import TURN
from nbcontainer.oci.health import check_of
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.handle import SIGNALLED
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.supervisor import Supervisor

LOG = "output.log"
"""The name of a named container's log, in its directory in the store."""


class Health(enum.StrEnum):
    """The health of a job, with the names of Docker."""

    NONE = ""
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Job:
    """A run of `container` that continues until it ends or is stopped, or until its notebook ends. Thread-safe.

    `begin` starts it with a function that runs it to its end: it passes its streams through `attach` first.
    """

    def __init__(self, engine: Engine, container: Container, image: Image, request: Request) -> None:
        self.engine = engine
        self.container = container
        self.image = image
        self.request = request
        self.options = request.options
        self.started = time.time()
        self.ended = 0.0
        """When it ended, in seconds since 1970; 0 while it runs."""
        self.outcome: Outcome | None = None
        self.check = check_of(image.config)
        self.health = Health.NONE if self.check is None else Health.STARTING
        """What the health check of its image says."""
        self.error: BaseException | None = None
        self.on_begin: Callable[[Job], None] | None = None
        """Called in the job's thread when its program runs."""
        self.on_end: Callable[[Job], None] | None = None
        """Called in the job's thread when it has ended."""
        self.again: Callable[[], Job] | None = None
        """Starts the same request again, when this job has ended; None if that is not possible."""
        self.asked = False
        """Whether it was asked to end, or killed, from here."""
        self.restarts = False
        """Whether it is about to start again: its container stays, also with `remove`."""
        self._log: Log | None = None
        self._log_path: Path | None = None
        self._changed = threading.Condition()
        self._running: ContainerHandle | None = None
        self._pidfd = -1
        self._began = False
        self._killed: tuple[Reason, float] | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Job '{self.name}': {self.describe()}>"

    @property
    def name(self) -> str:
        """The name of its container. That of an anonymous one is final when the job has begun."""
        return self.container.name

    @property
    def log_path(self) -> Path:
        """The file (host) of its log."""
        assert self._log_path is not None
        return self._log_path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self.ended

    @property
    def has_thread(self) -> bool:
        """Whether the thread in which it runs has been started."""
        return self._thread is not None and self._thread.ident is not None

    @property
    def is_own_thread(self) -> bool:
        """Whether the thread that calls this is the one in which it runs."""
        return self._thread is threading.current_thread()

    @property
    def handle(self) -> ContainerHandle | None:
        """The handle of the container while it runs. The job's thread reads it."""
        return self._running if self.running else None

    @property
    def age(self) -> float:
        """The seconds since its start."""
        return time.time() - self.started

    def describe(self) -> str:
        """Return its state in one short phrase."""
        if self.running:
            return "running"
        if self.outcome is not None:
            return self.outcome.describe()
        return str(self.error).partition(";")[0] if isinstance(self.error, NbcontainerError) else "failed"

    # The start

    def begin(self, perform: Callable[[], Outcome]) -> None:
        """Start it, and return when its program runs, or has ended. Raises what kept it from starting."""
        exec_server.serve(self.engine)
        self.engine.launcher_for(self.options.privileges.userns).start()  # it ends with the thread that starts it
        self._thread = threading.Thread(target=self._run, args=(perform,), name="nbcontainer-job", daemon=True)
        self._thread.start()
        with self._changed:
            while not (self._began or self.ended):
                self._changed.wait(TURN)
        if not self._began and self.error is not None:
            raise self.error

    def attach(self, streams: Streams) -> None:
        """Send a run's output to the log, which begins when the container does, and watch the beginning."""
        streams.stdout = lambda data: self._opened_log().stdout(data)
        streams.stderr = lambda data: self._opened_log().stderr(data)
        streams.on_began, streams.on_wait = self._on_began, self._refuse
        followed = streams.on_follow

        def follow(supervisor: Supervisor) -> None:
            with store_errors("write the log of a job", self.engine.store.path):
                self._opened_log()
            streams.log = str(self.log_path.relative_to(self.engine.store.path))
            self._on_follow(supervisor)
            if followed is not None:
                followed(supervisor)

        streams.on_follow = follow

    def _opened_log(self) -> Log:
        """Return the log: a named container keeps that of its last job, an anonymous one until the notebook ends."""
        if self._log is not None:
            return self._log
        store = self.engine.store
        named = not self.container.anonymous
        path = self.container.path / LOG if named else store.path / "tmp" / store.unique()
        if named:
            path.unlink(missing_ok=True)
        self._log, self._log_path = Log(path, inert=self.options.untrusted), path
        return self._log

    def _refuse(self, _: str) -> None:
        hint = f"stop it first: `%container stop {self.name}`"
        raise ContainerBusy(f"container '{self.name}' is running, here or in another notebook", hint=hint)

    # In its thread

    def _run(self, perform: Callable[[], Outcome]) -> None:
        try:
            self.outcome = perform()
            if not self._began:  # the result was in the cache
                self._opened_log()
                self.engine.jobs[self.name] = self
        except BaseException as error:  # `begin` or `wait` raises it
            self.error = error
        with contextlib.suppress(OSError):
            if self._log is not None:
                self._log.close(self.outcome, "" if self.outcome is not None else self._problem())
        if self.engine.live.get(self.name) is self:  # one that was refused has the name of the job that runs
            del self.engine.live[self.name]
        with self._changed:
            self.ended = time.time()
            if self._pidfd >= 0:
                os.close(self._pidfd)
            self._pidfd = -1
            self._changed.notify_all()
        if self.on_end is not None and self._began:
            with contextlib.suppress(Exception):  # a notebook that has gone shows nothing
                self.on_end(self)

    def _problem(self) -> str:
        return self.error.message if isinstance(self.error, NbcontainerError) else "it ended by an error"

    def _on_follow(self, supervisor: Supervisor) -> None:
        with self._changed:
            self._running = supervisor.running
            if self._pidfd >= 0:  # the first container of this run could not start
                os.close(self._pidfd)
            self._pidfd = os.dup(supervisor.running.pidfd)  # the run closes the other one at its end
            if self._killed is not None:
                supervisor.running.note_end(*self._killed)
                supervisor.running.kill()

    def _on_began(self) -> None:
        self.engine.jobs[self.name] = self.engine.live[self.name] = self
        with self._changed:
            self._began = True
            self._changed.notify_all()
        if self.on_begin is not None:
            self.on_begin(self)

    # The end

    def wake(self) -> None:
        """Do nothing: its cells have processes of their own."""

    def ask(self) -> None:
        """Send it its stop signal."""
        self.asked = True
        self.send(self.options.process.stop_signal or stop_signal(self.image.config))

    def kill(self, reason: Reason = Reason.ENDED_BY_KILL, grace: float = 0.0) -> None:
        """End every process of it at once; if it has not started, when it starts. The outcome has the first reason."""
        self.asked = True
        with self._changed:
            self._killed = self._killed or (reason, grace)
            if self.handle is not None:
                self.handle.note_end(*self._killed)
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Send its program a signal, of those that init forwards; one that has ended is ignored."""
        with self._changed, contextlib.suppress(ProcessLookupError):
            if self._running is not None:
                self._running.touched = SIGNALLED
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)

    def join(self, seconds: float | None = None) -> bool:
        """Wait until it has ended and its layer is saved, `seconds` at most; return whether it has.

        Return at once if its thread has not started: an error or an interrupt came before.
        """
        if not self.has_thread:
            return True
        end = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while not self.ended:
                left = TURN if end is None else min(end - time.monotonic(), TURN)
                if left <= 0:
                    break
                self._changed.wait(left)
            return bool(self.ended)

    def stop(self, grace: float) -> None:
        """Ask it to end, kill what still runs after `grace` seconds, and wait for its end."""
        self.ask()
        if not self.join(grace):
            self.kill(Reason.STOPPED, grace)
            self.join()

    def restart(self, grace: float) -> Job:
        """Stop it, and return the job that runs the same request again in the same container.

        The new job is shown where this one was. Raises `ContainerError` if that is not possible, and
        `ContainerNotFound` if the container was removed.
        """
        if self.again is None:
            hint = "run its cell again"
            raise ContainerError(f"the job '{self.name}' cannot be restarted: it has no name or gets values", hint=hint)
        self.restarts = True
        try:
            self.stop(grace)
        except BaseException:  # an interrupt of the wait: the job continues
            self.restarts = False
            raise
        lookup.get(self.engine, self.name)  # raises if it was removed
        job = self.again()
        job.on_end = self.on_end
        if job.on_end is not None:
            job.on_end(job)
        return job

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait for its end, and return the outcome. Raises `ContainerError` after `timeout` seconds, and its error."""
        if not self.join(timeout):
            hint = "wait longer, or end it with `stop`"
            raise ContainerError(f"container '{self.name}' still runs after {timeout:g} s", hint=hint)
        if self.error is not None:
            raise self.error
        assert self.outcome is not None
        return self.outcome
