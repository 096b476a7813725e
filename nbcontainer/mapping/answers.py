"""What a worker answers, as plain data, and the results and errors that the notebook makes of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from nbcontainer import errors
from nbcontainer.containers.container import unpickled
from nbcontainer.containers.record import CellRecord, Record
from nbcontainer.errors import NbcontainerError, ValueUnavailable, WorkerError
from nbcontainer.mapping import executor_errors
from nbcontainer.outcome import Outcome
from nbcontainer.runs.public_container import Container
from nbcontainer.runs.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping


def of_error(error: NbcontainerError) -> dict[str, Any]:
    """Return an error as plain data: its class by name, its message, hint and numbers."""
    fields = {name: value for name, value in vars(error).items() if isinstance(value, str | int | bytes)}
    return {"error": {**fields, "kind": type(error).__name__}}


def error_of(values: Mapping[str, Any]) -> NbcontainerError:
    """Return the error that `of_error` described; one of an unknown class is a `WorkerError`."""
    fields = dict(values)
    named = getattr(errors, str(fields.pop("kind")), None)
    kind = named if isinstance(named, type) and issubclass(named, NbcontainerError) else WorkerError
    error = kind.__new__(kind)
    NbcontainerError.__init__(error, str(fields.pop("message")), hint=str(fields.pop("hint")))
    vars(error).update(fields)
    return error


def of_result(result: Result, files: Mapping[str, bytes], value: tuple[str, bytes] | None) -> dict[str, Any]:
    """Return a result as plain data, with its files, and the suffix and the bytes of what a function returned."""
    return {
        "result": {
            "record": result.container.record.to_json(),
            "command": "" if result.container.record.last is None else result.container.record.last.command,
            "outcome": result.outcome.as_dict(),
            "stdout": result.stdout,
            "stderr": result.stderr,
            "files": dict(files),
            "value": None if value is None else list(value),
        }
    }


def result_of(answer: Any, index: int, attempts: int) -> Result | NbcontainerError:
    """Return the result or the error of item `index`. A value is read by its codec, which unpickles nothing."""
    try:
        found = error_of(answer["error"]) if "error" in answer else _result_of(answer["result"], index, attempts)
    except (AttributeError, LookupError, TypeError, ValueError):  # it is from another version, or no answer
        found = executor_errors.of_answer(answer)
    return found if isinstance(found, Result) else with_index(found, index, attempts)


def _result_of(fields: Mapping[str, Any], index: int, attempts: int) -> Result | NbcontainerError:
    try:
        value = None if fields["value"] is None else _read(*fields["value"])
    except ValueUnavailable as error:
        return with_output(error, fields["stdout"], fields["stderr"])
    outcome = Outcome.from_dict(fields["outcome"])
    record = Record(**{**fields["record"], "base": tuple(fields["record"]["base"])})
    cell = CellRecord("", fields["command"], record.created, outcome)
    return Result(
        unpickled(record.after(cell), Container),
        outcome,
        fields["stdout"],
        fields["stderr"],
        returned=value,
        files=fields["files"],
        index=index,
        attempts=attempts,
    )


def with_output(error: ValueUnavailable, stdout: bytes, stderr: bytes) -> ValueUnavailable:
    """Return an error with what its item wrote: the item ran, and only what it left cannot be read."""
    error.stdout, error.stderr = stdout, stderr
    return error


def with_index(error: NbcontainerError, index: int, attempts: int) -> NbcontainerError:
    """Return an error with the position of its item, and the number of times that the item was started."""
    vars(error).update(index=index, attempts=attempts)
    return error


def _read(suffix: str, data: bytes) -> Any:
    """Return the value of a file of `/out`, which a container wrote. Raises `ValueUnavailable`."""
    from nbcontainer.values.received import decoded

    return decoded(io.BytesIO(data), f"value.{suffix}")
