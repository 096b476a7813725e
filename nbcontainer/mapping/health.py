"""`doctor`: checks this machine, or every worker of an executor, by trying each part of a container's plan there."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from typing import Any

from nbcontainer.commands.doctor.examination import examine
from nbcontainer.commands.doctor.report import LIMITED, MISSING, OK
from nbcontainer.containers.engine import default_engine
from nbcontainer.errors import NbcontainerError, StoreError, WorkerLost
from nbcontainer.mapping import executor_errors
from nbcontainer.mapping.executor_errors import CONNECT, DASK_LOST
from nbcontainer.mapping.submitting import check_executor, is_closed, is_dask
from nbcontainer.mapping.worker import describe
from nbcontainer.rendering.fields import Sign, State
from nbcontainer.rendering.table import Table

_PATIENCE = 60.0
"""Seconds for the answers of all workers."""

_SIGNS = {OK: Sign.GOOD, LIMITED: Sign.WARN, MISSING: Sign.BAD}


@dataclass(frozen=True)
class WorkerCheck:
    """One thing that was checked on one worker: its state (ok, limited or missing), what was found, what to do."""

    worker: str
    name: str
    state: str
    found: str
    advice: str = ""


def examine_worker() -> dict[str, Any]:
    """Return what a worker is and what it supports, as plain data. Workers import this function."""
    try:
        report = examine(default_engine()).as_dict()
    except StoreError as error:
        problem = {"name": "store", "state": MISSING, "found": error.message, "advice": error.hint}
        report = {"ok": False, "checks": [problem]}
    return {**describe(), **report}


def doctor(executor: concurrent.futures.Executor | None = None) -> Table:
    """Return a table of checks: of this machine, or of every worker of an executor that `map` may use.

    It has a row for each check that is not ok, and for each worker where all are. Its items are `WorkerCheck`s, and its
    `ok` is true if containers run on all workers.

    Each worker tries each part of a container's plan in its own store, and reports its versions of Python and of this
    package. Dask has a list of its workers; of other executors, the workers that answer are reported.

    >>> doctor(ProcessPoolExecutor(1)).ok
    True
    """
    check_executor(executor)
    found = {"this machine": examine_worker()} if executor is None else _of_workers(executor)
    ours = describe()
    checks = [check for worker, facts in found.items() for check in _checks(worker, facts, ours)]
    return _report(checks, found)


def _of_workers(executor: Any) -> dict[str, Any]:
    if is_dask(executor):
        return _of_dask(executor._client)
    count = getattr(executor, "_max_workers", None) or 1
    try:
        futures = [executor.submit(examine_worker) for _ in range(2 * count)]
    except Exception as error:  # what an executor raises that is closed or broken
        return {"executor": _problem(executor_errors.of_submit(error))}
    found: dict[str, Any] = {}
    for future in futures:
        facts = _facts(future)
        found[f"{facts.get('host', '?')}:{facts.get('pid', '?')}"] = facts
    return found


def _facts(future: Any) -> dict[str, Any]:
    """Return what a worker reported, or what is wrong with it."""
    try:
        facts = future.result(_PATIENCE)
    except concurrent.futures.BrokenExecutor as error:
        return _problem(executor_errors.of_submit(error))
    except Exception as error:  # whatever an executor raises for a worker that died, or lacks this package
        return _unusable(error)
    return facts if isinstance(facts, dict) and "checks" in facts else _problem(executor_errors.of_answer(facts))


def _of_dask(client: Any) -> dict[str, Any]:
    try:
        answers = client.run(examine_worker, on_error="return")
    except Exception as error:  # those of Tornado and of sockets, or any other one if the client is closed
        detail = DASK_LOST if is_closed(client) else f"{type(error).__name__}: {error}".partition("\n")[0]
        return {"client": _problem(WorkerLost(detail, hint=CONNECT))}
    return {
        worker: _unusable(answer) if isinstance(answer, BaseException) else answer for worker, answer in answers.items()
    }


def _problem(error: NbcontainerError) -> dict[str, Any]:
    return {"ok": False, "checks": [_missing(error.message, error.hint)]}


def _unusable(error: BaseException) -> dict[str, Any]:
    if isinstance(error, TimeoutError):
        return {"ok": False, "checks": [_missing(f"no answer in {_PATIENCE:.0f} s", "try again when it is not busy")]}
    found = f"{type(error).__name__}: {error}".partition("\n")[0]
    return {"ok": False, "checks": [_missing(found, "install nbcontainer on the worker, in the same version")]}


def _missing(found: str, advice: str) -> dict[str, str]:
    return {"name": "worker", "state": MISSING, "found": found, "advice": advice}


def _checks(worker: str, facts: dict[str, Any], ours: dict[str, Any]) -> list[WorkerCheck]:
    found = [WorkerCheck(worker, **check) for check in facts["checks"]]
    if "version" not in facts:
        return found
    versions = f"nbcontainer {facts['version']}, Python {facts['python']}"
    same = _minor(facts["python"]) == _minor(ours["python"]) and facts["version"] == ours["version"]
    advice = "" if same else f"use nbcontainer {ours['version']} and Python {_minor(ours['python'])}, as here"
    return [WorkerCheck(worker, "versions", OK if same else LIMITED, versions, advice), *found]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _report(checks: list[WorkerCheck], found: dict[str, Any]) -> Table:
    bad = [check for check in checks if check.state != OK]
    fine = [
        WorkerCheck(worker, "all", OK, f"{len(facts['checks'])} checks")
        for worker, facts in found.items()
        if not any(check.worker == worker for check in bad)
    ]
    shown = [*fine, *bad]
    rows = tuple((one.worker, one.name, State(one.state, _SIGNS[one.state]), one.found, one.advice) for one in shown)
    ok = all(check.state != MISSING for check in checks) and bool(found)
    headings = ("worker", "check", "state", "found", "advice")
    return Table(headings, rows, "no workers answered", ok, tuple(shown))
