"""What workers answer, as plain data, and what the notebook makes of it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from nbcontainer import errors
from nbcontainer.errors import CellFailed, NbcontainerError, SetupFailed, ValueUnavailable, WorkerError, WorkerLost
from nbcontainer.mapping import answers
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.runs.results import Result
from tests.unit.test_public import OUTCOME, RECORD, container

ENDED_WELL = Outcome(Reason.EXITED, 0, wall_time=0.25)


def test_an_error_travels_as_plain_data() -> None:
    """An error keeps its class, text and numbers; an unknown class becomes a `WorkerError`."""
    found = answers.result_of(answers.of_error(SetupFailed("it failed", step="Run", errno=2, hint="do that")), 4, 2)
    assert isinstance(found, SetupFailed)
    assert (str(found), found.step, found.errno) == ("it failed; do that", "Run", 2)
    assert (vars(found)["index"], vars(found)["attempts"]) == (4, 2)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)
    strange = answers.error_of({"kind": "os.system", "message": "x", "hint": ""})
    assert type(strange) is WorkerError
    assert type(answers.error_of({"kind": "OSError", "message": "x", "hint": ""})) is WorkerError
    assert issubclass(errors.WorkerLost, NbcontainerError)


def test_a_result_travels_as_plain_data() -> None:
    """A result keeps its facts; its container can be looked at."""
    result = Result(container(), ENDED_WELL, b"out", b"err")
    found = answers.result_of(answers.of_result(result, {"/f": b"x"}, ("json", b"[1]")), 7, 3)
    assert isinstance(found, Result)
    assert (found.stdout, found.stderr, found.outcome, found.files) == (b"out", b"err", ENDED_WELL, {"/f": b"x"})
    assert (found.value, found.index, found.attempts) == ([1], 7, 3)
    assert (found.container.name, found.container.record.image_digest) == (RECORD.name, RECORD.image_digest)
    assert found.container.record.last is not None
    assert found.container.record.last.outcome == ENDED_WELL
    assert pickle.loads(pickle.dumps(found)).value == [1]


def test_the_value_of_a_failed_item_raises_its_failure() -> None:
    """The `value` of a failed item raises the failure with the last line of the traceback, which `repr` shows too."""
    stderr = b"Traceback (most recent call last):\n  ...\nZeroDivisionError: division by \x1b zero\n"
    failed = Result(container(), OUTCOME, b"printed", stderr)
    for one in (failed, pickle.loads(pickle.dumps(failed)), copy.copy(failed)):
        with pytest.raises(CellFailed) as raised:
            one.value  # noqa: B018
        assert str(raised.value) == "exit code 3: ZeroDivisionError: division by \\x1b zero"
        assert (raised.value.outcome, raised.value.stdout, raised.value.stderr) == (OUTCOME, b"printed", stderr)
        assert repr(one).startswith("<Result: exit code 3: ZeroDivisionError: division by \\x1b zero, 7 + ")
    assert failed == dataclasses.replace(failed)
    assert failed != dataclasses.replace(failed, stdout=b"")
    assert len(repr(dataclasses.replace(failed, stderr=b"x" * 10_000))) < 300


def test_an_error_is_read_like_a_result() -> None:
    """An error in place of a result is not ok, and raises itself where a result has its value or its text."""
    error = answers.with_index(WorkerLost("it has ended", hint="run it again"), 3, 1)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert not one.ok
        for name in ("value", "text"):
            with pytest.raises(WorkerLost, match="it has ended; run it again") as raised:
                getattr(one, name)
            assert raised.value is one


@pytest.mark.parametrize(("suffix", "data"), [("json", b"{"), ("npy", b"\x93NUMPY"), ("txt", b"\xff")])
def test_a_value_that_cannot_be_read_is_an_error(suffix: str, data: bytes) -> None:
    """A file that its codec refuses is an error in the item's place, with the item's output."""
    answer = answers.of_result(Result(container(), ENDED_WELL, b"out", b"err"), {}, (suffix, data))
    found = answers.result_of(answer, 0, 1)
    assert isinstance(found, ValueUnavailable)
    assert (found.stdout, found.stderr) == (b"out", b"err")


def test_a_pickle_is_bytes() -> None:
    """No suffix makes the notebook unpickle a value."""
    data = pickle.dumps(CellFailed("x", outcome=OUTCOME))
    for suffix in ("pkl", "pickle", "joblib", "", "bin"):
        answer = answers.of_result(Result(container(), ENDED_WELL, b"", b""), {}, (suffix, data))
        found = answers.result_of(answer, 0, 1)
        assert isinstance(found, Result)
        assert found.value == data


@pytest.mark.parametrize(
    "answer", [None, 5, "error", [], {}, {"result": {}}, {"error": {}}, {"result": {"value": None}}]
)
def test_what_is_not_an_answer_is_an_error(answer: Any) -> None:
    """An executor may return anything, and a worker of another version other fields: no item breaks the map."""
    found = answers.result_of(answer, 3, 1)
    assert type(found) is WorkerError
    assert vars(found)["index"] == 3
    version = isinstance(answer, dict) and answer
    assert ("another version" in str(found)) == bool(version)
    assert ("in place of the item's answer" in str(found)) != bool(version)
