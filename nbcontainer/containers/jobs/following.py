"""The jobs of a store: those of this notebook and of others, their logs, and their ends."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nbcontainer.containers import lookup as containers
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.jobs.interruption import waiting
from nbcontainer.containers.jobs.job import LOG, Job
from nbcontainer.containers.jobs.log_reader import JobEnd, LogReader
from nbcontainer.containers.record import check_name
from nbcontainer.errors import ContainerError
from nbcontainer.oci import timestamps
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

_LAST_WORDS = 5.0
"""Seconds after the end of a container in which its notebook writes the end of the log."""


@dataclass(frozen=True)
class JobFacts:
    """A job as `jobs` lists it. `started` is in RFC 3339; `seconds` is how long it has run; `end` is None if it runs.

    `notebook` is the file name of the notebook that it belongs to, if that is known.
    """

    name: str
    image: str
    command: str
    started: str
    seconds: float
    end: JobEnd | None
    notebook: str = ""
    health: str = ""


def own_job(engine: Engine, name: str) -> Job | None:
    """Return this process's job in a container, None if it has none."""
    job = engine.jobs.get(name)
    return job if isinstance(job, Job) else None


def _job_to_follow(engine: Engine, name: str) -> Job | None:
    """Return this process's job in a container; None if the log has the end, which may be a later one's, elsewhere."""
    job = own_job(engine, name)
    if job is None or job.running or job.container.anonymous or not job.log_path.exists():
        return job
    return None


def check_has_job(engine: Engine, name: str) -> None:
    """Raise `ContainerError` or `ContainerNotFound` if no job has run in a container, as far as is known."""
    if own_job(engine, name) is None:  # one of this process is known after its container was removed, too
        open_log(engine, name).close()


def list_jobs(engine: Engine) -> list[JobFacts]:
    """Return the jobs of this process, the ended ones too, and those that run in other processes, by their starts."""
    own = [_facts(job) for job in engine.jobs.values() if isinstance(job, Job)]
    others = [
        JobFacts(name, cell.image, cell.command, cell.started, _age(cell.started), None, cell.notebook)
        for name, cell in running_containers(engine.store).items()
        if cell.log and name not in engine.active
    ]
    return sorted([*own, *others], key=lambda facts: facts.started)


def _facts(job: Job) -> JobFacts:
    end = None if job.running else JobEnd(job.outcome, "" if job.outcome is not None else job.describe())
    seconds = (job.ended or time.time()) - job.started
    command, started = job.request.as_text, timestamps.timestamp(job.started)
    health = str(job.health) if job.running else ""
    return JobFacts(job.name, job.container.record.image, command, started, seconds, end, health=health)


def _age(started: str) -> float:
    with contextlib.suppress(ValueError):
        return (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    return 0.0


def open_log(engine: Engine, name: str) -> LogReader:
    """Return a reader of the log of a container's last job, which the caller closes. Raises `ContainerError`."""
    path = _log_path(engine, name)
    try:
        return LogReader(path)
    except FileNotFoundError:
        containers.get(engine, name)  # raises if the container does not exist
        hint = f"see `%container history {name}` for its cells; `--bg` starts a job"
        raise ContainerError(f"container '{name}' has no log: no job has run in it", hint=hint) from None
    except OSError as error:
        raise store_error("read the log of a job", path, error) from error


def _log_path(engine: Engine, name: str) -> Path:
    job = own_job(engine, name)
    if job is not None:
        return job.log_path
    running = running_containers(engine.store).get(name)
    if running is not None and running.log:
        return engine.store.path / running.log
    return engine.store.path / "containers" / check_name(name) / LOG


def runs(engine: Engine, name: str) -> Callable[[], bool]:
    """Return a function that returns whether the job of that name runs, or its notebook still writes the log's end."""
    job = _job_to_follow(engine, name)
    if job is not None:
        return lambda: job.running
    # Another notebook that is alive may be about to write the end of a job that does not run any more.
    others = engine.store.sessions.alive() - {engine.store.session}
    last = time.monotonic() if others else -_LAST_WORDS

    def alive() -> bool:
        nonlocal last
        if name in running_containers(engine.store):
            last = time.monotonic()
        return time.monotonic() - last < _LAST_WORDS

    return alive


def wait(engine: Engine, name: str, timeout: float | None = None, began: float | None = None) -> JobEnd:
    """Wait until the job in a container has ended, in any process, and return how; at once if it has ended.

    Raises `ContainerError` after `timeout` seconds, or if no job has run in the container, and `WaitInterrupted`. The
    seconds count from `began` on (time.monotonic), if the wait is one of several.
    """
    with waiting("the end", name):
        return _wait(engine, name, timeout, time.monotonic() if began is None else began)


def _wait(engine: Engine, name: str, timeout: float | None, began: float) -> JobEnd:
    deadline = None if timeout is None else began + timeout
    job = _job_to_follow(engine, name)
    if job is not None:
        if not job.join(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise _still_runs(name, timeout)
        return JobEnd(job.outcome, "" if job.outcome is not None else job.describe())
    return _wait_elsewhere(engine, name, timeout, deadline)


def _wait_elsewhere(engine: Engine, name: str, timeout: float | None, deadline: float | None) -> JobEnd:
    alive = runs(engine, name)

    def in_time() -> bool:
        if deadline is not None and time.monotonic() >= deadline:
            raise _still_runs(name, timeout)
        return alive()

    with open_log(engine, name) as log:
        for _ in log.follow(in_time):
            pass
        return log.end or JobEnd(None, "ended with its notebook")


def _still_runs(name: str, timeout: float | None) -> ContainerError:
    hint = f"wait longer, or end it with `%container stop {name}`"
    return ContainerError(f"container '{name}' still runs after {timeout:g} s", hint=hint)
