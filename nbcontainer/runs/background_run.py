"""A run of a container that goes its way as a job: its output so far, its result, and its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.jobs.interruption import WaitInterrupted
from nbcontainer.containers.jobs.job import Job
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.containers.jobs.readiness import wait_until_ready, watch_health
from nbcontainer.errors import ContainerError
from nbcontainer.outcome import Reason
from nbcontainer.runs.calls import Call, Data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.readiness import Awaited
    from nbcontainer.outcome import Outcome
    from nbcontainer.runs.calls import Runner
    from nbcontainer.runs.results import Result

STOP_GRACE = 2.0
"""Seconds for it to end by its stop signal, as with `%container stop`."""


class BackgroundRun:
    """One run that has begun. Thread-safe. `job` is the job."""

    def __init__(self, engine: Engine, container: Container, request: Request, data: Data, runner: Runner) -> None:
        """Start the run, and return when its program runs. Raises what its start raises."""
        self._result: Result | None = None
        self.job = Job(engine, container, container.image(), request)
        self.job.on_begin = watch_health
        call = Call(request, data, engine=engine, runner=runner, attach=self.job.attach)

        def perform() -> Outcome:
            self._result = call.result(check=False)
            return self._result.outcome

        with self._ended_by_errors():
            self.job.begin(perform)

    @contextlib.contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        """End the run if the block raises, also if Ctrl-C interrupts it: no caller has the run then."""
        try:
            yield
        except BaseException as error:
            self.job.kill(Reason.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Reason.NOT_READY)
            self.job.join()
            raise

    def wait_until_ready(self, awaited: Awaited) -> None:
        """Wait until it is ready. If not, it has ended when this raises `ContainerError`, or `KeyboardInterrupt`."""
        with self._ended_by_errors():
            try:
                wait_until_ready(self.job, awaited)
            except WaitInterrupted:  # it says that the job continues
                raise KeyboardInterrupt from None
            except ContainerError as error:
                raise ContainerError(error.message, hint="see `logs`") from None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.job.running

    def log(self) -> LogReader:
        """Return a reader of its output, which the caller closes."""
        return LogReader(self.job.log_path)

    def wait(self, timeout: float | None) -> Result:
        """Wait for the end, and return the result. Raises `ContainerError` after `timeout` seconds, and its errors."""
        self.job.wait(timeout)
        assert self._result is not None
        return self._result
