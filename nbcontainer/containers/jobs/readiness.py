"""When a job is ready: a port on which it listens, a text in its log, or its image's health check."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.jobs.interruption import waiting
from nbcontainer.containers.jobs.job import Health
from nbcontainer.containers.jobs.log import LogStream
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.containers.live.joining import run_inside
from nbcontainer.containers.options import RunOptions
from nbcontainer.errors import ContainerError, NbcontainerError, UsageError
from nbcontainer.linux.procfs import descendants, listening_sockets, sockets_of
from nbcontainer.oci.health import check_of
from nbcontainer.sandbox.networking import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.jobs.job import Job
    from nbcontainer.oci.documents import Image
    from nbcontainer.oci.health import HealthCheck

_TURN = 0.02  # seconds between two looks


@dataclass(frozen=True)
class Awaited:
    """What `--wait-for` names: a TCP port, or a text in the output, or with neither the health check."""

    port: int = 0
    text: bytes = b""

    @classmethod
    def of(cls, word: str) -> Awaited:
        """Return what a word means: a number is a port, `healthy` is the health check. Raises `UsageError`."""
        if not word:
            raise UsageError("missing value for --wait-for", hint="write a port, or a text of the output")
        if word == Health.HEALTHY:
            return cls()
        if not (word.isascii() and word.isdecimal()):
            return cls(text=word.encode("utf-8", "replace"))
        if not 0 < int(word[:6]) < 1 << 16:
            raise UsageError(f"invalid port {word} for --wait-for", hint="write a number from 1 to 65535")
        return cls(port=int(word[:6]))

    @property
    def noun(self) -> str:
        """What is awaited, as a noun."""
        if self.port:
            return f"port {self.port}"
        return repr(self.text.decode("utf-8", "replace")) if self.text else "the health check"

    def describe(self) -> str:
        """Return what is awaited, as a phrase."""
        if self.port:
            return f"listened on port {self.port}"
        return f"wrote {self.text.decode('utf-8', 'replace')!r}" if self.text else "was healthy"


def check_awaited(awaited: Awaited | None, image: Image) -> None:
    """Raise `UsageError` if the health check of an image without one is to be awaited."""
    if awaited is not None and not awaited.port and not awaited.text and check_of(image.config) is None:
        hint = "write a port, or a text of the output"
        raise UsageError(f"cannot wait for 'healthy': image '{image.name}' has no HEALTHCHECK", hint=hint)


def wait_until_ready(job: Job, awaited: Awaited) -> None:
    """Wait until a job is ready.

    Raises `ContainerError` if it ends before, or if `healthy` is awaited and it is unhealthy, and `WaitInterrupted`.
    """
    hint = "start it without --rm to see its log" if job.request.remove else f"see `%container logs {job.name}`"
    with waiting(awaited.noun, job.name):
        ready = _ready(job, awaited)()
    if not ready:
        raise ContainerError(f"job '{job.name}' ended before it {awaited.describe()}: {job.describe()}", hint=hint)


def _ready(job: Job, awaited: Awaited) -> Callable[[], bool]:
    """Return a function that waits until the job is ready, and returns False if it ended before."""
    if awaited.text:
        return lambda: _has_written(job, awaited.text)
    if awaited.port:
        return lambda: _await(job, lambda: _listens(job, awaited.port))
    return lambda: _await(job, lambda: _is_healthy(job))


def _await(job: Job, ready: Callable[[], bool]) -> bool:
    while not ready():
        if job.join(_TURN):
            return False
    return True


def _is_healthy(job: Job) -> bool:
    """Return whether the health check passed. Raises `ContainerError` if it has failed too often."""
    if job.health is Health.UNHEALTHY:
        hint = f"see `%container logs {job.name}`, and the HEALTHCHECK of its image"
        raise ContainerError(f"job '{job.name}' is unhealthy, and was ended", hint=hint)
    return job.health is Health.HEALTHY


def _listens(job: Job, port: int) -> bool:
    """Return whether a process of the job listens. In a network that it shares, others may listen on the same port."""
    handle = job.handle
    if handle is None:
        return False
    sockets = listening_sockets(handle.pid).get(port, {})
    networking = job.options.networking
    if not sockets or (networking.network != Network.HOST and not networking.joined):
        return bool(sockets)
    return any(_has_one_of(sockets, pid) for pid in descendants(handle.pid))


def _has_one_of(sockets: dict[int, int], pid: int) -> bool:
    """Return whether a process has one of these sockets open: user ids by inode.

    A plain user may not look at a process of another id of its range. That id is then enough: no program of the host
    has it.
    """
    try:
        return not sockets.keys().isdisjoint(sockets_of(pid))
    except PermissionError:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}").stat().st_uid in sockets.values()
    except OSError:  # it has just ended
        pass
    return False


def _has_written(job: Job, text: bytes) -> bool:
    """Follow the log until one of the streams has a text, which may come in pieces."""
    seen = dict.fromkeys(LogStream, b"")
    with LogReader(job.log_path) as log:
        for record in log.follow(lambda: job.running):
            seen[record.stream] = seen[record.stream][-len(text) :] + record.data
            if text in seen[record.stream]:
                return True
    return False


def watch_health(job: Job) -> None:
    """Run the health check of a job's image in a thread, if it has one."""
    if job.check is not None:
        work = threading.Thread(target=_watch, args=(job, job.check), name="nbcontainer-health", daemon=True)
        work.start()


def _watch(job: Job, check: HealthCheck) -> None:
    """Run a job's health check until the job ends, and keep the result in `job.health`."""
    failures = 0
    while not job.join(_pause(job, check)):
        healthy = _passes(job, check)
        failures = 0 if healthy else failures + 1
        if healthy:
            job.health = Health.HEALTHY
        elif job.health is Health.STARTING and job.age < check.start_period:
            failures = 0
        elif failures >= check.retries:
            job.health = Health.UNHEALTHY


def _pause(job: Job, check: HealthCheck) -> float:
    starting = job.health is Health.STARTING and job.age < check.start_period
    return min(check.start_interval, check.interval) if starting else check.interval


def _passes(job: Job, check: HealthCheck) -> bool:
    options = RunOptions(timeout=check.timeout)
    try:
        return run_inside(job, Request(command=check.command, options=options), Streams(_nowhere, _nowhere)).ok
    except (NbcontainerError, OSError):
        return False


def _nowhere(_: bytes) -> None:
    pass
