"""Uses of the verbs of history, copy-on-write volumes, cached results, jobs and copies; and the verbs left out."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nbcontainer import api
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.jobs.starting import start
from nbcontainer.errors import ChangesRefused
from nbcontainer.images.cow.comparing import STAGING
from nbcontainer.store.cache_entries import Cache
from tests.faults.checks import Damaged
from tests.faults.verbs import table
from tests.faults.verbs.table import Bench, VerbAct
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_KILLED = {
    "use": "sets defaults of a notebook, in its memory",
    "restart": "runs only in the process that has the job",
    "demo": "runs cells and verbs that are killed by themselves",
}
"""Verbs that are not killed, each with the reason."""

_JOB = "job"


def _data(bench: Bench) -> dict[str, str]:
    """Return what is in the directory of the copy-on-write volume: the text of files, and empty for directories."""
    folder = bench.folder / "data"
    return {path.name: "" if path.is_dir() else path.read_text() for path in folder.iterdir()}


_OLD = {"changed": "old\n", "removed": "old\n"}
_NEW = {"changed": "new\n", "added": "new\n"}


def _change_volume(bench: Bench) -> None:
    """Have a container with changes to a directory, which has its first content."""
    folder = bench.folder / "data"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, text in _OLD.items():
        (folder / name).write_text(text)
    bench.drop_container("cow")
    script = "cd /data; echo new > changed; echo new > added; rm removed"
    api.run("busybox", script=script, name="cow", volumes=[f"{folder}:/data:cow"], engine=bench.engine)


def _applied(bench: Bench) -> None:
    """Check that each file is the old or the new one, and that `apply` finishes what a killed one began."""
    # A killed `apply` may leave what it has set aside, which the next use of the container moves back.
    found = {name: text for name, text in _data(bench).items() if not name.startswith(os.fsdecode(STAGING))}
    if odd := [name for name, text in found.items() if text not in (_OLD.get(name), _NEW.get(name))]:
        raise Damaged(f"in the directory: {odd}")
    with contextlib.suppress(ChangesRefused):  # nothing is left to apply
        bench.verb("apply", "cow")
    if _data(bench) != _NEW:
        raise Damaged(f"after `apply`: {_data(bench)}")


def _discarded(bench: Bench) -> None:
    """Check that the directory has its first content, and that `discard` finishes what a killed one began."""
    with contextlib.suppress(ChangesRefused):  # nothing is left to discard
        bench.verb("discard", "cow")
    if _data(bench) != _OLD:
        raise Damaged(f"after `discard`: {_data(bench)}")


def _undone(bench: Bench) -> None:
    bench.layers("moving", 2)
    bench.verb("undo", "moving")


def _forget(bench: Bench) -> None:
    """Remove all results of cached cells."""
    cache = Cache(bench.engine.store.path)
    for key in cache.names():
        cache.remove(key)


def _cached(bench: Bench) -> None:
    """Have one result of a cached cell, and a file with it."""
    _forget(bench)
    api.run("busybox", script="echo cached; echo > /file", name="caching", cache=True, engine=bench.engine)
    bench.verb("cache", "export", "PLACE/results.cache")


def _imported(bench: Bench) -> None:
    _cached(bench)
    bench.drop_container("caching")
    _forget(bench)


def _replays(bench: Bench) -> None:
    """Check that the cell runs, or is replayed, with the same output and the same files."""
    for script, says in (("echo cached; echo > /file", "cached"), ("ls /file", "/file")):
        cached = "cached" in script
        done = api.run("busybox", script=script, name="caching", cache=cached, engine=bench.engine)
        if done.text.strip() != says:
            raise Damaged(f"a cached cell says {done.text!r}")


def _end_caching(bench: Bench) -> None:
    bench.drop_container("caching")
    _forget(bench)
    for name in ("results.cache", "out/results.cache"):
        (bench.folder / name).unlink(missing_ok=True)


def _job(bench: Bench) -> None:
    """Have a job that runs until it is stopped."""
    if _JOB not in bench.engine.live:
        bench.drop_container(_JOB)
        start(bench.engine, Request("busybox", _JOB, script="echo began; exec sleep 100000"))


def _ended_job(bench: Bench) -> None:
    start(bench.engine, Request("busybox", "ended", script="echo > /made")).join()


def _end_job(bench: Bench) -> None:
    if (job := bench.engine.jobs.get(_JOB)) is not None:
        job.stop(0)
        job.join()
    bench.drop_container(_JOB)


def _job_runs(bench: Bench) -> None:
    if _JOB not in bench.engine.live:
        raise Damaged("the job has ended")


def _copied(name: str, size: int) -> Callable[[Bench], object]:
    """Check that a copied file is not there, or is complete; then it is removed."""

    def check(bench: Bench) -> None:
        path = bench.folder / "out" / name
        with contextlib.suppress(FileNotFoundError):
            if (found := path.stat().st_size) != size:
                raise Damaged(f"{name} has {found} bytes")
            path.unlink()

    return check


def later_acts() -> tuple[VerbAct, ...]:
    """Return the uses of each of these verbs."""
    return (
        VerbAct("apply", ("apply", "cow"), _change_volume, _applied, table.gone("cow"), again=False),
        VerbAct("discard", ("discard", "cow"), _change_volume, _discarded, table.gone("cow"), again=False),
        VerbAct("changes", ("changes", "cow", "--text"), _change_volume, undo=table.gone("cow"), again=False),
        VerbAct("redo", ("redo", "moving"), _undone, table.cells("moving", 1, 2), table.gone("moving"), again=False),
        VerbAct(
            "checkout",
            ("checkout", "box@1", "--name", "fork"),
            check=table.cells("fork", 0, 1),
            undo=table.gone("fork"),
            again=False,
        ),
        VerbAct(
            "cp into a container",
            ("cp", "PLACE/tree.tar", "copying:/copied"),
            ready=lambda bench: bench.layers("copying", 1),
            check=table.cells("copying", 1, 2),
            undo=table.gone("copying"),
            again=False,
        ),
        VerbAct("cp", ("cp", "box:/second", "PLACE/out/second"), check=_copied("second", 100_000)),
        VerbAct(
            "debug",
            ("debug", "failing", "cat", "/made"),
            ready=lambda bench: run_script(bench.engine, "echo > /made; false", name="failing"),
            check=table.cells("failing", 1),
            undo=table.gone("failing"),
            again=False,
        ),
        VerbAct(
            "cache export", ("cache", "export", "PLACE/out/results.cache"), _cached, undo=_end_caching, again=False
        ),
        VerbAct("cache import", ("cache", "import", "PLACE/results.cache"), _imported, _replays, _end_caching),
        VerbAct(
            "run --cache",
            ("run", "--cache", "--name", "caching", "busybox", "sh", "-c", "echo cached; echo > /file"),
            check=table.cells("caching", 0, 1),
            undo=_end_caching,
            again=False,
        ),
        VerbAct("exec", ("exec", _JOB, "sh", "-c", "echo > /made; ls /"), _job, _job_runs, _end_job, again=False),
        VerbAct("logs", ("logs", _JOB), _job, _job_runs, _end_job),
        VerbAct("top", ("top", _JOB), _job, _job_runs, _end_job),
        VerbAct("stats", ("stats", "--no-stream", _JOB), _job, _job_runs, _end_job),
        VerbAct("port", ("port", _JOB), _job, _job_runs, _end_job),
        VerbAct("jobs", ("jobs",), _job, _job_runs, _end_job),
        VerbAct("kill", ("kill", _JOB), _job, undo=_end_job, again=False),
        VerbAct("wait", ("wait", "ended"), _ended_job, undo=table.gone("ended"), again=False),
        *(
            VerbAct(words[0], words)
            for words in (
                ("images",),
                ("ps",),
                ("tree",),
                ("layers", "box"),
                ("mounts", "busybox"),
                ("namespaces", "busybox"),
                ("explain", "busybox", "echo", "hello"),
                ("doctor",),
            )
        ),
    )
