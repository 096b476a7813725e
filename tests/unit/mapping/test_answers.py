"""What workers answer, as plain data, and what the notebook makes of it."""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool

import pytest

from nbcontainer import errors
from nbcontainer.errors import CellFailed, NbcontainerError, SetupFailed, ValueUnavailable, WorkerError, WorkerLost
from nbcontainer.mapping import answers
from nbcontainer.runs.results import Result
from tests.unit.test_public import OUTCOME, RECORD, container


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
    result = Result(container(), OUTCOME, b"out", b"err")
    found = answers.result_of(answers.of_result(result, {"/f": b"x"}, ("json", b"[1]")), 7, 3)
    assert isinstance(found, Result)
    assert (found.stdout, found.stderr, found.outcome, found.files) == (b"out", b"err", OUTCOME, {"/f": b"x"})
    assert (found.value, found.index, found.attempts) == ([1], 7, 3)
    assert (found.container.name, found.container.record.image_digest) == (RECORD.name, RECORD.image_digest)
    assert found.container.record.last is not None
    assert found.container.record.last.outcome == OUTCOME


@pytest.mark.parametrize(("suffix", "data"), [("json", b"{"), ("npy", b"\x93NUMPY"), ("txt", b"\xff")])
def test_a_value_that_cannot_be_read_is_an_error(suffix: str, data: bytes) -> None:
    """A file that its codec refuses is an error in the item's place."""
    answer = answers.of_result(Result(container(), OUTCOME, b"", b""), {}, (suffix, data))
    assert isinstance(answers.result_of(answer, 0, 1), ValueUnavailable)


def test_a_pickle_is_bytes() -> None:
    """No suffix makes the notebook unpickle a value."""
    data = pickle.dumps(CellFailed("x", outcome=OUTCOME))
    for suffix in ("pkl", "pickle", "joblib", "", "bin"):
        answer = answers.of_result(Result(container(), OUTCOME, b"", b""), {}, (suffix, data))
        found = answers.result_of(answer, 0, 1)
        assert isinstance(found, Result)
        assert found.value == data


def test_what_an_executor_raises_is_one_line() -> None:
    """A broken executor is a lost worker; anything else names its class, in one line."""
    lost = answers.unexpected(BrokenProcessPool("a\nb"))
    assert type(lost) is WorkerLost
    assert "\n" not in str(lost)
    other = answers.unexpected(ModuleNotFoundError("No module named 'nbcontainer'\nmore"))
    assert type(other) is WorkerError
    assert str(other).startswith("a worker cannot run the item: ModuleNotFoundError: No module named 'nbcontainer'; ")
