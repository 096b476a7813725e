"""The errors for what executors do in place of an answer: they raise, are closed or broken, or hold something else."""

from __future__ import annotations

import concurrent.futures

from nbcontainer.errors import NbcontainerError, WorkerError, WorkerLost

NEW_EXECUTOR = "make a new executor: this one takes no more items"

DASK_LOST = "the client of Dask is closed, or has lost its scheduler"
CONNECT = "connect again by a new Client, and use its executor"

_DOCTOR = "check the workers with `nbcontainer.doctor(executor)`"

_LOST = frozenset({"KilledWorker", "FutureCancelledError", "CommClosedError", "TerminatedWorkerError", "TimeoutError"})
"""Classes of dask.distributed and loky for a worker that died: they are not imported for this."""


def of_future(error: BaseException) -> NbcontainerError:
    """Return the error for what a future raised."""
    if isinstance(error, NbcontainerError):
        return error
    lost = isinstance(error, concurrent.futures.CancelledError | concurrent.futures.BrokenExecutor | ConnectionError)
    if lost or type(error).__name__ in _LOST:
        # A pool of the standard library, or of loky, that has lost a worker stays broken.
        broken = isinstance(error, concurrent.futures.BrokenExecutor)
        hint = NEW_EXECUTOR if broken else "run the item again, or use `retries`"
        problem = f"the worker of this item has ended, or is out of reach ({_described(error)})"
        return WorkerLost(problem, hint=hint)
    return WorkerError(f"a worker cannot run the item: {_described(error)}", hint=_DOCTOR)


def of_submit(error: BaseException) -> NbcontainerError:
    """Return the error for what `submit` of an executor raised: the item was not sent."""
    if isinstance(error, NbcontainerError):
        return error
    if isinstance(error, concurrent.futures.BrokenExecutor):
        return WorkerLost(f"the executor is broken ({_described(error)})", hint=NEW_EXECUTOR)
    if isinstance(error, RuntimeError) and "shutdown" in str(error):
        return WorkerError(f"the executor is closed ({_described(error)})", hint=NEW_EXECUTOR)
    hint = "check that `submit` of the executor works, or make a new one"
    return WorkerError(f"the executor does not take the item: {_described(error)}", hint=hint)


def of_answer(answer: object) -> NbcontainerError:
    """Return the error for what a future held, if that is not the answer of an item that can be read."""
    if isinstance(answer, dict) and answer.keys() & {"result", "error"}:
        return WorkerError("the worker's answer cannot be read: it has another version", hint=_DOCTOR)
    problem = f"the executor's future holds a value of type '{type(answer).__name__}' in place of the item's answer"
    return WorkerError(problem, hint="use an executor whose futures hold what the submitted function returns")


def _described(error: BaseException) -> str:
    detail = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__
