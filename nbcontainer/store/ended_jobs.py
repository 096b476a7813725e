"""The jobs that ended with notebooks whose users have not seen that yet: a file of the store, a JSON object a line.

A kernel that restarts has no cell any more that could show which jobs it ended, and a killed one shows nothing. The
next notebook with the same file name takes the lines, and shows them once.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.rendering.text import visible
from nbcontainer.store.atomic_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nbcontainer.store.layout import Store

FILE = "ended-jobs"
"""The name of the file, in the store."""

_KEPT = 100  # lines; the oldest ones are dropped


@dataclass(frozen=True)
class EndedJobs:
    """Jobs that ended with one notebook. `notebook` is its file name, empty if that is not known.

    `killed` is whether the notebook could save nothing of what they wrote.
    """

    notebook: str
    jobs: tuple[str, ...]
    killed: bool = False

    def __str__(self) -> str:
        names = visible(", ".join(self.jobs))
        if self.killed:
            return f"killed with the notebook before this one, and what they wrote is not saved: {names}"
        return f"ended with the notebook before this one: {names}"


def note(store: Store, ended: Iterable[EndedJobs]) -> None:
    """Add lines to the file. Raises `OSError`."""
    with store.lock():
        _write(store, [*_read(store.path / FILE), *ended])


def take(store: Store, notebook: str) -> list[EndedJobs]:
    """Return the jobs that ended with the notebooks of this file name, and remove them from the file.

    Sessions that have just died are looked at first. Raises `OSError`.
    """
    note_dead(store)
    if not (store.path / FILE).exists():
        return []
    with store.lock():
        found = _read(store.path / FILE)
        own = [one for one in found if one.notebook == notebook]
        if own:
            _write(store, [one for one in found if one.notebook != notebook])
    return own


def note_dead(store: Store) -> None:
    """Remove the files of dead sessions, and note the jobs that they ran. Raises `OSError`."""
    found: list[EndedJobs] = []
    store.sessions.dead(lambda state: found.extend(_jobs_of(state)))
    if found:
        note(store, found)


def _jobs_of(state: Any) -> list[EndedJobs]:
    """Return the jobs that ran in a session when it wrote its state (`ActiveCell.to_json`); its process is dead."""
    running = state.get("running") if isinstance(state, dict) else None
    cells = running.items() if isinstance(running, dict) else ()
    jobs = {name: str(cell.get("notebook", "")) for name, cell in cells if isinstance(cell, dict) and cell.get("log")}
    return [
        EndedJobs(notebook, tuple(name for name in jobs if jobs[name] == notebook), killed=True)
        for notebook in dict.fromkeys(jobs.values())
    ]


def _read(path: Path) -> list[EndedJobs]:
    """Return the lines of the file. What this version does not understand is left out."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                values = json.loads(line)
                jobs = tuple(map(str, values["jobs"]))
                found.append(EndedJobs(str(values["notebook"]), jobs, killed=bool(values["killed"])))
    return found


def _write(store: Store, ended: list[EndedJobs]) -> None:
    """Replace the file; remove it if nothing is left. A crash of the host may lose it: it is not synced."""
    if not ended:
        (store.path / FILE).unlink(missing_ok=True)
        return
    lines = "".join(f"{json.dumps(asdict(one))}\n" for one in ended[-_KEPT:])
    replace_file(store.path / FILE, store.path / "tmp" / store.unique(), lines.encode(), sync=False)
