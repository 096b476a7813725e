"""When an item of a map is run again on its worker."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.errors import SetupFailed, StoreError
from nbcontainer.mapping import answers, worker
from nbcontainer.mapping.lifeline import Runs

if TYPE_CHECKING:
    from nbcontainer.mapping.pressure import Place


class _Place:
    """Lets everything start again."""

    def may_start_again(self, _: BaseException) -> bool:
        return True


class _Call:
    """Fails with `error`, after its container has started or before; without an error it returns "ran"."""

    def __init__(self, error: BaseException | None, *, started: bool) -> None:
        self.error = error
        self.started = started

    def result(self, *, check: bool) -> str:
        assert not check
        if self.error is not None:
            raise self.error
        return "ran"


def _run(monkeypatch: pytest.MonkeyPatch, calls: list[_Call]) -> Any:
    task: dict[str, Any] = {"image": {}, "function": None}
    item = worker._Item(task, Runs(), lambda _: None, "")
    monkeypatch.setattr(worker, "_IMAGES", _Images())
    monkeypatch.setattr(item, "_call", lambda *_: calls.pop(0))
    return item._run(cast("Any", None), None, cast("Place", _Place()))


class _Images:
    """Knows each image by one word."""

    def find(self, *_: object) -> str:
        return "image"


def _refused() -> SetupFailed:
    return SetupFailed("cannot clone", step="CloneInit", errno=errno.EAGAIN)


@pytest.mark.parametrize(
    "first",
    [
        _Call(OSError(errno.EMFILE, "Too many open files"), started=False),
        _Call(StoreError("cannot begin a cell"), started=False),
        _Call(_refused(), started=False),
        _Call(_refused(), started=True),
    ],
    ids=["system", "store", "refused", "refused later"],
)
def test_an_item_that_did_not_begin_is_run_again(monkeypatch: pytest.MonkeyPatch, first: _Call) -> None:
    """Whatever says that its container could not start: a step that fails comes before the program."""
    assert _run(monkeypatch, [first, _Call(None, started=False)]) == "ran"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), StoreError("cannot keep it")])
def test_an_item_that_ran_is_not_run_twice(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A disk that is full when its result is kept fails the item: its program may have done something already."""
    calls = [_Call(error, started=True), _Call(None, started=False)]
    with pytest.raises(type(error)):
        _run(monkeypatch, calls)
    assert len(calls) == 1


def test_an_error_without_a_file_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what failed and why, and what to do."""

    def answer(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(worker._Item, "answer", answer)
    error = answers.error_of(worker.perform({}, runs=Runs())["error"])
    assert str(error) == "cannot run an item of a map: Too many open files; raise the limit on open files (ulimit -n)"
