"""When the iterator of a map reads inputs, and when it yields answers: no container runs here."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbcontainer.errors import WorkerError
from nbcontainer.mapping import answers, submitting
from nbcontainer.mapping.mapped import Mapped
from nbcontainer.mapping.progress_report import Report
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.runs.results import Result
from tests.running import DEADLINE
from tests.unit.test_public import container

ENDED_WELL = Outcome(Reason.EXITED, 0, wall_time=0.25)


class Echo:
    """A submitter whose items end at once, or when the test ends them, with their input as output."""

    lifeline = lost = waits_for = ""
    window = 4

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: queue.SimpleQueue[tuple[Any, str]] = queue.SimpleQueue()
        self.ended = threading.Event()

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    def submit(self, task: Any, _: object) -> Any:
        future: Any = concurrent.futures.Future()
        self.waiting.put((future, task["input"]))
        if self.at_once:
            self.end_one()
        return future

    def end_one(self) -> None:
        future, text = self.waiting.get(timeout=DEADLINE)
        future.set_result(answers.of_result(Result(container(), ENDED_WELL, text.encode(), b""), {}, None))

    def starts(self, _: int) -> int:
        return 1

    def close(self, _: object) -> None:
        self.ended.set()


def mapped(inputs: Any, submitter: Any = None, *, ordered: bool = True) -> Mapped:
    """A map over inputs, each of which is its own answer."""

    def task(index: int, value: Any) -> dict[str, Any]:
        return {"index": index, "input": value}

    sender = submitter or Echo()
    report = Report("map", None, None)
    return Mapped(inputs, task, sender, blob=lambda _: b"", retries=0, ordered=ordered, report=report)


def readers() -> list[threading.Thread]:
    """The threads that read inputs."""
    return [thread for thread in threading.enumerate() if thread.name == "nbcontainer-inputs"]


@pytest.fixture(autouse=True)
def _readers_end() -> Iterator[None]:
    """The threads of one test are gone before the next one looks for them."""
    yield
    for thread in readers():
        thread.join(DEADLINE)


@pytest.mark.parametrize("ordered", [True, False])
def test_no_answer_waits_for_the_next_input(ordered: bool) -> None:
    """While a generator waits for its next input, the answers to the earlier ones are yielded."""
    received = threading.Event()

    def inputs() -> Iterator[str]:
        yield "first"
        assert received.wait(DEADLINE)
        yield "second"

    results = mapped(inputs(), ordered=ordered)
    assert next(results).text == "first"
    received.set()
    assert [one.text for one in results] == ["second"]


def test_inputs_may_depend_on_answers() -> None:
    """Inputs may come from a queue that gets the next one after the last answer."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    waiting.put("a")
    texts = []
    for answer in mapped(iter(waiting.get, None)):
        texts.append(answer.text)
        waiting.put(answer.text + "a" if len(texts) < 5 else None)
    assert texts == ["a" * count for count in range(1, 6)]


class Failing(Sequence[str]):
    """Two inputs in memory, and an error in place of a third."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        if index == 2:
            raise ValueError("mine")
        return "ab"[index]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["memory", "generator"])
def test_an_error_of_the_inputs_comes_after_the_answers_before_it(kind: str, ordered: bool) -> None:
    """As with the builtin `map`: what was read has its answer, even if `map()` itself met the error."""
    submitter = Echo(at_once=False)
    results = mapped(
        Failing() if kind == "memory" else (Failing()[index] for index in range(3)), submitter, ordered=ordered
    )
    for text in "ab":
        submitter.end_one()
        assert next(results).text == text
    with pytest.raises(ValueError, match="mine"):
        next(results)
    assert submitter.closed
    assert list(results) == []


def test_inputs_that_cannot_be_iterated_are_refused() -> None:
    """`map()` raises, and releases what its submitter has."""
    submitter = Echo()
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        mapped(5, submitter)
    assert submitter.closed


class Counted(Sequence[str]):
    """Inputs in memory, and how many of them were read."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.read = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if index >= self.length:
            raise IndexError
        self.read = index + 1
        return str(index)


def test_inputs_in_memory_are_read_in_the_callers_thread() -> None:
    """`map()` sends as many as there is room for; then one is read for each answer that is due."""
    inputs = Counted(100)
    results = mapped(inputs)
    assert not readers()
    assert inputs.read == Echo.window
    for count in range(1, 10):
        next(results)
        assert inputs.read == Echo.window + count
    assert [one.text for one in results] == [str(index) for index in range(9, 100)]


def test_a_generator_is_read_a_few_inputs_ahead() -> None:
    """Its thread waits while as many items are on their way as there is room for, and ends with the map."""
    read: list[int] = []
    enough = threading.Event()

    def inputs() -> Iterator[str]:
        for number in itertools.count():
            read.append(number)
            if number == Echo.window - 1:
                enough.set()
            yield str(number)

    submitter = Echo(at_once=False)
    results = mapped(inputs(), submitter)
    assert enough.wait(DEADLINE)
    submitter.end_one()
    assert next(results).text == "0"
    (thread,) = readers()
    results.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert len(read) <= Echo.window + 1


def test_a_lost_map_ends_its_thread() -> None:
    """The thread does not hold the iterator: its loss ends both, and the generator."""
    ended = threading.Event()

    def inputs() -> Iterator[str]:
        try:
            for number in itertools.count():
                yield str(number)
        finally:
            ended.set()

    submitter = Echo(at_once=False)
    results = mapped(inputs(), submitter)
    del results
    gc.collect()
    assert submitter.ended.wait(DEADLINE)
    assert ended.wait(DEADLINE)


class Slow(Echo):
    """A submitter that cannot be closed before the test lets it."""

    def __init__(self) -> None:
        super().__init__(at_once=False)
        self.may_close = threading.Event()

    def close(self, futures: object) -> None:
        assert self.may_close.wait(DEADLINE)
        super().close(futures)


def test_the_loss_of_a_map_waits_for_nothing() -> None:
    """Any thread may collect it, one of its own workers too, which `close` would wait for."""
    submitter = Slow()
    results: Any = mapped(["a"], submitter)
    results.cycle = results
    del results
    gc.collect()
    assert not submitter.closed
    submitter.may_close.set()
    assert submitter.ended.wait(DEADLINE)


@pytest.mark.parametrize("inputs", [{"a": "x"}.values(), {"x": 1}.keys(), np.array(["x"]), pd.Series(["x"]), {"x"}])
def test_collections_are_in_memory(inputs: Any) -> None:
    """The values of a mapping, an array and a series need no thread."""
    results = mapped(inputs)
    assert not readers()
    assert [one.text for one in results] == ["x"]


class Refusing(Echo):
    """An executor that is closed after some items."""

    def __init__(self, accepted: int) -> None:
        super().__init__()
        self.accepted = accepted

    def submit(self, task: Any, blobs: object) -> Any:
        if task["index"] >= self.accepted:
            raise RuntimeError("closed")
        return super().submit(task, blobs)


def test_what_no_executor_took_was_not_started() -> None:
    """`attempts` is 0 then."""
    found = list(mapped(["a", "b"], Refusing(1)))
    assert [(type(one), vars(one)["attempts"]) for one in found] == [(Result, 1), (WorkerError, 0)]


def test_a_start_that_is_refused_is_not_counted() -> None:
    """A pool that is shut down has started nothing."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    sender = submitting.submitter(pool, None)
    with pytest.raises(RuntimeError):
        sender.submit({"index": 0}, None)
    assert sender.starts(0) == 0


def test_reading_an_error_again_does_not_lengthen_its_traceback() -> None:
    """Its `value` raises it each time as if it was the first one."""
    error = WorkerError("lost")
    lengths = set()
    for _ in range(3):
        with pytest.raises(WorkerError) as raised:
            _ = error.value
        lengths.add(len(raised.traceback))
    assert len(lengths) == 1


def test_a_generator_has_the_context_of_its_caller() -> None:
    """Context variables, such as numpy's errstate, are those of the thread that called `map`."""
    setting: contextvars.ContextVar[str] = contextvars.ContextVar("setting", default="none")
    setting.set("mine")
    assert [one.text for one in mapped(setting.get() for _ in range(2))] == ["mine", "mine"]


class Breaking(Echo):
    """Ends its earlier items from another thread, for which `submit` waits: as a pool of processes that breaks."""

    def submit(self, task: Any, blobs: object) -> Any:
        def end_all() -> None:
            while not self.waiting.empty():
                self.end_one()

        thread = threading.Thread(target=end_all)
        thread.start()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        return super().submit(task, blobs)


def test_no_lock_is_held_while_an_item_is_sent() -> None:
    """An executor may end other items before it takes one."""
    submitter = Breaking(at_once=False)
    results = mapped(["a", "b", "c"], submitter)
    submitter.end_one()
    assert [one.text for one in results] == ["a", "b", "c"]
