"""Starting a job: choosing its container, and running it there."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers import lookup
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.container import Container
from nbcontainer.containers.jobs.interruption import WaitInterrupted
from nbcontainer.containers.jobs.job import Job
from nbcontainer.containers.jobs.readiness import Awaited, check_awaited, wait_until_ready, watch_health
from nbcontainer.containers.run import check, check_removable, choose_container, run_in
from nbcontainer.errors import ContainerBusy, ContainerError, UsageError
from nbcontainer.outcome import Reason
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener


def start(
    engine: Engine,
    request: Request,
    streams: Streams | None = None,
    *,
    progress: Listener | None = None,
    idle_input: bool = False,
    wait_for: str | None = None,
    kind: type[Container] = Container,
) -> Job:
    """Start a request as a job, and return the job when its program runs. `streams` has what it reads and its notices.

    With `idle_input`, its standard input stays open and brings nothing, as with `docker run -di`. With `wait_for`, it
    returns when the job is ready (`readiness.Awaited`); if the job ends before, that is an error. With `remove`, its
    container is removed when it has ended. The container is an object of the class `kind`. Raises this package's
    errors, and then nothing runs; and `WaitInterrupted` for an interrupt of the wait: the job continues.
    """
    streams = streams or Streams(_nowhere, _nowhere)
    awaited = None if wait_for is None else Awaited.of(wait_for)
    check_free(engine, request.name)
    check(engine, request.options)
    found = bool(request.name) and lookup.has(engine, request.name)
    container, image = choose_container(engine, request, progress, kind, streams.notify)
    check_removable(container, request, found=found)
    try:
        check_awaited(awaited, image)
    except UsageError:
        if not found:
            container.remove()
        raise
    job = Job(engine, container, image, request)
    job.on_begin = watch_health
    if request.name and streams.values is None:
        again = replace(request, options=replace(request.options, labels=()))  # the container has them
        job.again = functools.partial(
            start, engine, again, progress=progress, idle_input=idle_input, wait_for=wait_for, kind=kind
        )

    with _ended_by_errors(job, keep=found):
        job.begin(lambda: _perform(job, streams, idle_input=idle_input, found=found))
        if not (container.anonymous or request.remove):
            engine.replace_last(container)
        if awaited is not None:
            wait_until_ready(job, awaited)
    return job


def _perform(job: Job, streams: Streams, *, idle_input: bool, found: bool) -> Outcome:
    """Run a job to its end, in the thread that is its own. A container that was found stays if it cannot start."""
    keep = found
    try:
        with _idle_pipe() if idle_input else contextlib.nullcontext(streams.stdin) as stdin:
            streams.stdin = stdin
            job.attach(streams)
            outcome = run_in(job.engine, job.container, job.image, job.request, streams)
        keep = job.restarts
        return outcome
    finally:
        if job.request.remove and not keep:
            job.container.remove()


@contextlib.contextmanager
def _ended_by_errors(job: Job, *, keep: bool) -> Iterator[None]:
    """End a job if the block raises. Its container is removed unless `keep`, or it began and its log says why it ended.

    With `remove`, the thread of the job has removed it. An interrupted wait ends no job.
    """
    try:
        yield
    except WaitInterrupted:
        raise
    except BaseException as error:
        job.kill(Reason.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Reason.NOT_READY)
        job.join()
        removed = job.request.remove and job.has_thread
        logged = isinstance(error, ContainerError) and job.engine.jobs.get(job.name) is job
        if not (keep or removed or logged or isinstance(error, ContainerBusy)):
            _forget(job)
        raise


def _forget(job: Job) -> None:
    """Remove the container of a job that did not start, and what the engine has of both."""
    engine = job.engine
    if engine.jobs.get(job.name) is job:
        del engine.jobs[job.name]
    if engine.last is job.container:
        engine.last = None
    job.container.remove()


@contextlib.contextmanager
def _idle_pipe() -> Iterator[int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        yield reader
    finally:
        protocol.close((reader, writer))


def check_free(engine: Engine, name: str) -> None:
    """Raise `ContainerBusy` if a container of that name runs, in any process."""
    if name and (name in engine.live or name in running_containers(engine.store)):
        hint = f"stop it first: `%container stop {name}`"
        raise ContainerBusy(f"container '{name}' is running, here or in another notebook", hint=hint)


def _nowhere(_: bytes) -> None:
    pass
