"""`--bg`: a cell that continues as a job while the notebook runs other cells."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from typing import TYPE_CHECKING, Any, cast

from nbcontainer.commands.grammar import Option
from nbcontainer.commands.output import TextSink
from nbcontainer.containers.active import notebook_name
from nbcontainer.errors import UsageError
from nbcontainer.rendering import page
from nbcontainer.rendering.text import visible
from nbcontainer.store.ended_jobs import EndedJobs, note, take

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Words
    from nbcontainer.commands.views.job_views import LogOutput
    from nbcontainer.commands.views.usage_views import LiveTable
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job
    from nbcontainer.progress import Listener
    from nbcontainer.runs.public_container import Container

OPTION = Option(
    ("-d", "--detach", "--bg"),
    "",
    "run as a job: the cell returns when the program runs, `%container logs NAME` shows its output, and "
    "`%container stop NAME` or the end of the notebook ends it",
)

WAIT_FOR = Option(
    ("--wait-for",),
    "PORT|TEXT",
    "with --bg: return when the job listens on this TCP port, or has written this text; `healthy` for the health check "
    "of the image",
)

_REFRESH = 1.0  # seconds between two tables of `stats`

_REFUSED = {
    "out": "the output of a job is in its log: see `%container logs`",
    "err": "the output of a job is in its log: see `%container logs`",
    "get": "a job ends after its cell",
    "show": "a job ends after its cell",
    "live": "a live container runs between cells by itself",
    "explain": "a job starts after its cell is set up",
}
"""The options that a job cannot have, and why."""


class JobLine:
    """The status line of a job: its display in the notebook, which changes when the job ends."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __repr__(self) -> str:
        job, name = self.job, self.job.name
        if job.running:
            return f"job {name}: running; see `%container logs {name}`, end it with `%container stop {name}`"
        return f"job {name}: {visible(job.describe())} after {job.ended - job.started:.3g} s"

    def _repr_html_(self) -> str:
        return page.line(f"<small>{html.escape(repr(self))}</small>")


def start(
    engine: Engine, words: Words, request: Request, streams: Streams, *, shell: Any, progress: Listener | None
) -> Container:
    """Start a cell as a job, show its status line, and return the job's container. Raises this package's errors."""
    from nbcontainer.containers.jobs import starting
    from nbcontainer.runs.public_container import Container

    for name, why in _REFUSED.items():
        if words.has(name):
            raise UsageError(f"--{name} cannot be used with --bg: {why}", hint=f"remove --{name} or --bg")
    awaited = words.one(WAIT_FOR.name) if words.has(WAIT_FOR.name) else None
    idle = words.has("interactive")
    job = starting.start(engine, request, streams, progress=progress, idle_input=idle, wait_for=awaited, kind=Container)
    _show(job, shell)
    return cast("Container", job.container)


def keep_ends(engine: Engine, shell: Any) -> None:
    """At the end of a kernel, note the jobs that end with it: no cell can show them, and the next notebook does."""
    if not hasattr(shell, "kernel"):
        return
    report = engine.report_ended

    def note_too(jobs: list[str]) -> None:
        report(jobs)
        with contextlib.suppress(OSError):  # a full disk: the line is lost, and the end is in order
            note(engine.store, [EndedJobs(notebook_name(), tuple(jobs))])

    engine.report_ended = note_too


def ends_before(engine: Engine, shell: Any) -> list[str]:
    """Return the lines about jobs that ended with the kernels of this notebook before; each is returned once."""
    if not hasattr(shell, "kernel"):
        return []
    with contextlib.suppress(OSError):
        return [*map(str, take(engine.store, notebook_name()))]
    return []


def _show(job: Job, shell: Any) -> None:
    """Show the status line: in a notebook one display, which is updated at the end; elsewhere a line."""
    if not hasattr(shell, "kernel"):
        print(JobLine(job))
        return
    from IPython.display import display

    handle: Any = display(JobLine(job), display_id=True)  # type: ignore[no-untyped-call]

    def update(job: Job) -> None:
        handle.update(JobLine(job))

    job.on_end = update
    if not job.running:
        update(job)


def show_output(output: LogOutput) -> None:
    """Show the output of a job as it comes, until the job ends or the cell is interrupted: the job continues."""
    sinks = [TextSink(stream) for stream in (sys.stdout, sys.stderr)]
    gate = output.gate()
    out, err = map(gate.through, sinks)
    try:
        output.write(out, err, terminal=True)
    finally:
        gate.finish(sinks[0])
        for sink in sinks:
            sink.finish()


def show_live(view: LiveTable) -> None:
    """Show a table in one display, which changes each second, until no row is left or the cell is interrupted."""
    from IPython.display import display

    table = view.table
    handle: Any = display(table, display_id=True)  # type: ignore[no-untyped-call]
    while len(table):
        time.sleep(_REFRESH)
        table = view.again()
        handle.update(table)
