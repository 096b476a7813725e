"""`map` on threads and processes: one answer for each item, whatever happens to it, and nothing left at the end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import itertools
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import nbcontainer
from nbcontainer import NbcontainerError, Result, SetupFailed, UsageError, ValueUnavailable, WorkerError, WorkerLost
from nbcontainer.mapping import pressure
from nbcontainer.outcome import Reason
from tests.running import DEADLINE, all_dead, appear, descendants, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine

MANY = int(os.environ.get("NBCONTAINER_MAP_ITEMS", "100"))
"""Items of the long test; 10000 by hand."""


@contextlib.contextmanager
def executors(kind: str) -> Iterator[concurrent.futures.Executor | None]:
    """None for the threads of `map`, or an executor of the standard library."""
    if kind == "own threads":
        yield None
    elif kind == "threads":
        pool = concurrent.futures.ThreadPoolExecutor(4)
        yield pool  # after a failed test, items may sleep for years: it is not waited for
        pool.shutdown()
    else:
        method = "spawn" if kind == "processes" else kind
        processes = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method))
        try:
            yield processes
        except BaseException:
            # Python waits at its end for items, which may sleep for years.
            for process in vars(processes)["_processes"].values():
                process.kill()
            raise
        processes.shutdown()


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("kind", ["own threads", "threads", "processes"])
def test_each_item_has_one_result(kind: str) -> None:
    """Each input gives one result in its place, failed ones too; `ordered=False` gives the same in another order."""
    inputs = [f"{number % 3} {number}" for number in range(MANY)]
    script = ["sh", "-c", 'read code text; echo "$text"; exit $code']
    with executors(kind) as executor:
        found = list(nbcontainer.map("busybox", script, (f"{text}\n" for text in inputs), executor=executor))
        mixed = list(nbcontainer.map("busybox", script, inputs[:20], executor=executor, ordered=False))
    results = [one for one in found if isinstance(one, Result)]
    assert [(one.index, one.text, one.exit_code, one.attempts) for one in results] == [
        (number, f"{number}\n", number % 3, 1) for number in range(MANY)
    ]
    assert sorted(one.index for one in mixed if isinstance(one, Result)) == list(range(20))


@pytest.mark.usefixtures("default")
def test_nothing_is_left_of_a_map(default: Engine) -> None:
    """After a map, the store has no container, layer, write layer or running cell more than before."""
    default.background.hold()
    default.background.release()
    before = sorted(path.name for path in (default.store.path / "layers").iterdir())
    locks = set((default.store.path / "containers").glob("*/lock"))
    list(nbcontainer.map("busybox", ["sh", "-c", "cat > /written"], ["x"] * 8, files=["/written"]))
    deadline = time.monotonic() + DEADLINE
    while sorted(path.name for path in (default.store.path / "layers").iterdir()) != before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert set((default.store.path / "containers").glob("*/lock")) <= locks
    assert not default.active


@pytest.mark.usefixtures("default")
def test_files_come_back() -> None:
    """`files` are the contents of files, directories and links in the container; of a failed item, what is there."""
    script = (
        "read code; mkdir -p /work/sub; echo a > /work/a; echo b > /work/sub/b; ln -s /work/a /link;"
        " ln -s / /work/loop; mkfifo /work/fifo; echo 1 > /out/n.json; exit $code"
    )
    wanted = ["/work", "/link", "/out/n.json", "/etc/passwd"]
    good, bad = nbcontainer.map("busybox", ["sh", "-c", script], ["0\n", "1\n"], files=wanted)
    assert isinstance(good, Result)
    assert isinstance(bad, Result)
    assert good.files.keys() == {"/work/a", "/work/sub/b", "/link", "/out/n.json", "/etc/passwd"}
    assert (good.files["/link"], good.files["/work/sub/b"], good.files["/out/n.json"]) == (b"a\n", b"b\n", b"1\n")
    assert b"root" in good.files["/etc/passwd"]
    assert bad.exit_code == 1
    assert bad.files["/work/a"] == b"a\n"


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("/nowhere/file", "the item left no file /nowhere/file; "),
        ("/pipe", "cannot read /pipe: it is not a regular file; "),
        ("/out/pipe", "cannot read /out/pipe: it is not a regular file; "),
    ],
)
def test_a_file_that_cannot_be_read_loses_no_output(wanted: str, problem: str) -> None:
    """The item ran: the error in its place has what it wrote. Of an item that failed, the outcome says more."""
    script = "read code; mkfifo /pipe; [ ! -e /out ] || mkfifo /out/pipe; echo done; echo note >&2; exit $code"
    found, failed = nbcontainer.map("busybox", ["sh", "-c", script], ["0\n", "2\n"], files=[wanted])
    assert isinstance(found, ValueUnavailable)
    assert str(found).startswith(problem)
    assert (found.stdout, found.stderr) == (b"done\n", b"note\n")
    assert isinstance(failed, Result)
    assert failed.text == "done\n"


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("wanted", ["/out", "/out/", "/out/d", "/out/d/"])
def test_directories_of_the_output_come_back(wanted: str) -> None:
    """A directory in /out, or all of it, gives the regular files below it; links and pipes there are left out."""
    script = "mkdir -p /out/d/e; echo 1 >/out/d/a; echo 2 >/out/d/e/b; ln -s /etc/passwd /out/d/l; mkfifo /out/d/f"
    (found,) = nbcontainer.map("busybox", ["sh", "-c", f"{script}; echo done"], [""], files=[wanted])
    assert isinstance(found, Result)
    assert found.text == "done\n"
    assert found.files == {"/out/d/a": b"1\n", "/out/d/e/b": b"2\n"}


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("wanted", ["/out/none", "/out/pipe", "/out/link"])
def test_what_is_not_in_the_output_is_an_error(wanted: str) -> None:
    """A missing file, a pipe and a link are named; so is a file that is too large."""
    script = "mkfifo /out/pipe; ln -s /etc/passwd /out/link"
    (found,) = nbcontainer.map("busybox", ["sh", "-c", script], [""], files=[wanted])
    assert isinstance(found, ValueUnavailable)
    assert wanted in str(found)


@pytest.mark.usefixtures("default")
def test_a_function_runs_in_an_image_with_an_entrypoint(default: Engine) -> None:
    """The entrypoint is for the image's own program."""
    made = nbcontainer.create("host", engine=default)
    with made:
        made.run(["true"])
        made.commit("with-entrypoint", changes=['ENTRYPOINT ["/bin/false"]'])
    (found,) = nbcontainer.map("with-entrypoint", lambda value: value + 1, [1])
    assert isinstance(found, Result), found
    assert found.value == 2
    nbcontainer.remove_image("with-entrypoint", engine=default)


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("executor", ["threads", concurrent.futures.ThreadPoolExecutor, 4])
def test_what_is_not_an_executor_is_refused(executor: Any) -> None:
    """By `map` and by `doctor`, before anything is sent."""
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor, not "):
        nbcontainer.map("busybox", ["true"], [""], executor=executor)
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor, not "):
        nbcontainer.doctor(executor)


@pytest.mark.usefixtures("default")
def test_the_end_of_a_map_does_not_wait_for_other_work_of_its_executor() -> None:
    """Items that a busy pool has not begun are dropped."""
    busy = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(busy.wait)
        results = nbcontainer.map("busybox", ["true"], ["", ""], executor=pool)
        assert repr(results) == "<Mapped: map busybox  0 of 2, 2 on their way>"
        results.close()
        assert repr(results) == "<Mapped: closed>"
        busy.set()


@pytest.mark.usefixtures("default")
def test_processes_start_no_more_than_the_machine_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the machine is short of something, the items of a pool of processes run one after the other, and say so."""
    list(nbcontainer.map("busybox", ["true"], [""]))  # the image is there
    monkeypatch.setattr(pressure.Machine, "room", lambda _: pressure.Room(0, "memory (1 MB available)"))
    script = "cut -d' ' -f1 /proc/uptime; sleep 0.3; cut -d' ' -f1 /proc/uptime"
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        results = nbcontainer.map("busybox", ["sh", "-c", script], [""] * 4, executor=pool)
        assert results._submitter.waits_for == "memory (1 MB available)"
        found = list(results)
    assert all(isinstance(one, Result) and one.ok for one in found)
    spans = sorted(tuple(map(float, one.text.split())) for one in found if isinstance(one, Result))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), spans


@pytest.mark.usefixtures("default")
def test_a_function_runs_inside() -> None:
    """A closure gets its input inside the container, and its value comes back with its type."""
    factor = 3

    def inside(value: Any) -> Any:
        print("printed", value)
        return {"name": Path("/etc/hostname").read_text().strip(), "value": value * factor, "pid": os.getpid()}

    found = list(nbcontainer.map("host", inside, [2, "ab"]))
    for one, value in zip(found, (6, "ababab"), strict=True):
        assert isinstance(one, Result)
        assert one.ok, one.stderr
        assert one.value["value"] == value
        assert one.value["pid"] < 10
        assert one.text.startswith("printed ")


@pytest.mark.usefixtures("default")
def test_values_come_back_by_codecs() -> None:
    """Text, bytes, JSON, arrays and tables return as themselves."""
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    array, frame = np.arange(6).reshape(2, 3), pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    values: list[Any] = ["tëxt", b"\0\xff", None, [1, {"a": 1.5}], array, frame]
    found = list(nbcontainer.map("host", lambda value: value, values))
    results = [one.value for one in found if isinstance(one, Result)]
    assert results[:4] == values[:4]
    assert (results[4] == array).all()
    assert list(results[5]["b"]) == ["x", "y"]


@pytest.mark.usefixtures("default")
def test_a_function_that_fails_has_its_outcome() -> None:
    """An exception, a signal, an exit and a value that cannot return are results with the reason in stderr."""

    def explode(_: Any) -> None:
        raise ValueError("no good")

    functions = {
        "ValueError: no good": explode,
        "cannot return a value of type 'set'": lambda _: {1},
        "leaving": lambda _: sys.exit("leaving"),
    }
    for text, function in functions.items():
        (one,) = nbcontainer.map("host", function, [0])
        assert isinstance(one, Result)
        assert one.exit_code == 1
        assert text in one.stderr.decode()
    (one,) = nbcontainer.map("host", lambda _: os.kill(os.getpid(), 9), [0])
    assert isinstance(one, Result)
    assert one.outcome.signal == signal.SIGKILL
    (error,) = nbcontainer.map("busybox", lambda value: value, [0])
    assert isinstance(error, SetupFailed)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (
        error.hint == f"a function needs an image with Python {version}: use python:{version}-slim, say, or a command"
    )


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("way", ["sys.exit()", "sys.exit(0)", "os._exit(0)"])
def test_a_function_that_ends_python_has_its_output(way: str) -> None:
    """It returned nothing: the error says so, with what was written."""

    def leave(_: Any) -> None:
        print("printed", flush=True)
        print("noted", file=sys.stderr, flush=True)
        eval(way, {"os": os, "sys": sys})

    (found,) = nbcontainer.map("host", leave, [0])
    assert isinstance(found, ValueUnavailable)
    assert str(found) == "the function ended Python (sys.exit) before it returned a value; return instead"
    assert (found.stdout, found.stderr) == (b"printed\n", b"noted\n")
    assert pickle.loads(pickle.dumps(found)).stdout == b"printed\n"


@pytest.mark.usefixtures("default")
def test_a_file_beside_the_value_of_a_function_is_an_error() -> None:
    """A function that writes /out/value.* itself has two values."""

    def write(_: Any) -> int:
        Path("/out/value.txt").write_text("mine")
        return 1

    (found,) = nbcontainer.map("host", write, [0])
    assert str(found) == "the function wrote a file /out/value.* beside the one of its value; let it write another name"


BAD: list[tuple[list[Any], dict[str, Any], str]] = [
    ([["true"], ["x"]], {"workers": 0}, "invalid number of workers: 0"),
    ([["true"], ["x"]], {"workers": "many"}, "invalid number of workers: 'many'"),
    ([["true"], ["x"]], {"workers": True}, "invalid number of workers: True"),
    ([["true"], ["x"]], {"retries": True}, "invalid number of retries: True"),
    ([["true"], ["x"]], {"timeout": True}, "invalid timeout: True"),
    (
        [["true"], ["x"]],
        {"timeout": 1.5e9},
        "invalid timeout: more than 1000000000 seconds; write less, or leave it out",
    ),
    ([["true"], ["x"]], {"timeout": 10**400}, "invalid timeout: more than 1000000000 seconds"),
    ([["true"], ["x"]], {"retries": -1}, "invalid number of retries: -1"),
    ([["true"], ["x"]], {"timeout": 0}, "invalid timeout: 0"),
    ([["true"], ["x"]], {"timeout": float("nan")}, "invalid timeout: nan"),
    ([["true"], ["x"]], {"files": ["relative"]}, "the path 'relative' in files is not absolute"),
    ([["true"], ["x"]], {"files": ["/out/a/../b"]}, "files: '/out/a/../b' is not a file in /out"),
    ([[], ["x"]], {}, "the command is empty"),
    ([["a\0b"], ["x"]], {}, "an argument contains a NUL character"),
    ([["\ud800"], ["x"]], {}, "contains a character that is not Unicode text"),
    ([["true"], ["x"]], {"files": ["/a\ud800"]}, "invalid path in the container"),
]


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize(("arguments", "options", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_refused_at_once(arguments: list[Any], options: dict[str, Any], message: str) -> None:
    """A wrong argument raises before anything runs."""
    with pytest.raises(UsageError, match=message):
        nbcontainer.map("busybox", *arguments, **options)


async def coroutine(value: object) -> object:
    """An async function."""
    return value


@pytest.mark.usefixtures("default")
def test_arguments_are_checked_before_an_image_is_pulled() -> None:
    """A wrong argument is the error, and not a registry that cannot be reached."""
    absent = "localhost:1/absent"
    wrong: list[tuple[list[Any], dict[str, Any], str]] = [
        ([["cat"], None], {}, "not iterable"),
        ([["cat"], ["x"]], {"files": [5]}, "files must be"),
        ([coroutine, ["x"]], {}, "the function must not be async"),
    ]
    for arguments, options, message in wrong:
        with pytest.raises(TypeError, match=message):
            nbcontainer.map(absent, *arguments, **options)


@pytest.mark.usefixtures("default")
def test_a_function_that_returns_a_coroutine_is_one_line() -> None:
    """Nothing awaited it, and what Python says of that is not the error."""

    async def inside(value: int) -> int:  # of no module: it is pickled by value
        return value

    (found,) = nbcontainer.map("host", lambda value: inside(value), [1])
    assert isinstance(found, Result)
    assert b"cannot return a value of type 'coroutine': it was not awaited" in found.stderr


@pytest.mark.usefixtures("default")
def test_numbers_of_numpy_are_numbers() -> None:
    """A number of workers may come from a calculation."""
    options: dict[str, Any] = {"workers": np.int64(2), "retries": np.int8(1), "timeout": np.float32(60)}
    (found,) = nbcontainer.map("busybox", ["cat"], np.array(["text"]), **options)
    assert found.text == "text"


@pytest.mark.usefixtures("default")
def test_a_wrong_argument_leaves_no_submitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are looked at before there is anything to release."""
    made: list[object] = []
    monkeypatch.setattr("nbcontainer.mapping.calling.submitter", lambda *arguments: made.append(arguments))
    for files in (["relative"], 5):
        with pytest.raises((UsageError, TypeError)):
            nbcontainer.map("busybox", ["cat"], ["x"], files=files)  # type: ignore[arg-type]
    assert made == []


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("inputs", ["abc", b"abc", bytearray(b"abc"), memoryview(b"abc"), "a" * 1000])
def test_one_string_is_refused_as_inputs(inputs: Any) -> None:
    """Its letters are hardly what was meant."""
    kind = type(inputs).__name__
    with pytest.raises(TypeError, match=rf"inputs must be an iterable, not one {kind}: write inputs=\[.{{1,40}}\]$"):
        nbcontainer.map("busybox", ["cat"], inputs)


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("option", ["env", "volumes", "network", "memory"])
def test_an_option_of_run_is_refused_with_what_to_do(option: str) -> None:
    """`map` has few options of `run`; others are unknown to both."""
    call: Any = nbcontainer.map
    with pytest.raises(TypeError, match=rf"map\(\) has no option '{option}', which run\(\) has: commit an image with"):
        call("busybox", ["true"], [""], **{option: "x"})
    with pytest.raises(TypeError, match=r"map\(\) got an unexpected keyword argument 'strange'"):
        call("busybox", ["true"], [""], strange=1)


@pytest.mark.usefixtures("default")
def test_a_bad_input_is_an_error_in_its_place() -> None:
    """An input that a command cannot read, or that cannot be pickled, loses no other item."""
    found = list(nbcontainer.map("busybox", ["cat"], ["a", 5, "\ud800", b"b"]))
    assert [one.text if isinstance(one, Result) else type(one) for one in found] == ["a", UsageError, UsageError, "b"]
    assert [vars(one)["index"] for one in found if isinstance(one, NbcontainerError)] == [1, 2]
    found = list(nbcontainer.map("host", lambda value: str(value), [1, threading.Lock()]))
    assert isinstance(found[0], Result)
    assert "cannot send input 1" in str(found[1])


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("kind", ["own threads", "threads", "processes"])
def test_an_error_of_the_inputs_is_raised_after_the_answers_before_it(kind: str) -> None:
    """If the caller's own iterator fails, nothing is lost that it gave before."""

    def inputs() -> Iterator[str]:
        yield "a"
        yield "b"
        raise LookupError("mine")

    with executors(kind) as executor:
        results = nbcontainer.map("busybox", ["cat"], inputs(), executor=executor)
        assert [next(results).text, next(results).text] == ["a", "b"]
        with pytest.raises(LookupError, match="mine"):
            next(results)
        assert list(results) == []


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("kind", ["own threads", "threads", "processes"])
def test_an_input_may_be_the_answer_to_an_earlier_one(kind: str) -> None:
    """No answer waits until the next input is there."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    waiting.put("a")
    texts = []
    with executors(kind) as executor:
        for answer in nbcontainer.map("busybox", ["sed", "s/$/a/"], iter(waiting.get, None), executor=executor):
            texts.append(answer.text)
            waiting.put(answer.text if len(texts) < 3 else None)
    assert texts == ["aa", "aaa", "aaaa"]


@pytest.mark.usefixtures("default")
def test_a_time_limit_is_for_each_item() -> None:
    """An item that takes too long has a result that says so; the others have theirs."""
    found = list(nbcontainer.map("busybox", ["sh", "-c", "read s; sleep $s"], ["0\n", "1000\n"], timeout=5))
    assert [one.outcome.reason for one in found if isinstance(one, Result)] == [Reason.EXITED, Reason.TIMEOUT]


@pytest.mark.usefixtures("default")
def test_a_failed_item_is_run_again() -> None:
    """With `retries`, an item that fails is run that many times more; its result says how often."""
    found = list(nbcontainer.map("busybox", ["sh", "-c", "read c; exit $c"], ["0\n", "1\n"], retries=2))
    assert [(one.exit_code, one.attempts) for one in found if isinstance(one, Result)] == [(0, 1), (1, 3)]


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("kind", ["own threads", "threads", "processes"])
@pytest.mark.parametrize("way", ["close", "lost"])
def test_the_end_of_the_iterator_ends_its_items(kind: str, way: str) -> None:
    """`close`, and the loss of the last reference, end the containers of all items, wherever they run."""
    mark = marker()
    with executors(kind) as executor:
        found = nbcontainer.map("busybox", ["sleep", mark], ["x"] * 6, executor=executor, workers=2)
        fds = pidfds(appear(mark, 2))
        if way == "close":
            found.close()
            assert list(found) == []
        else:
            del found
            gc.collect()
        assert all_dead(fds)
        assert appear(mark, 0) == []


@pytest.mark.usefixtures("default")
def test_an_interrupt_ends_the_items() -> None:
    """Ctrl-C while a result is awaited ends all containers, and is raised."""
    mark = marker()

    def interrupt() -> None:
        appear(mark, 2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(nbcontainer.map("busybox", ["sleep", mark], ["x"] * 4, workers=2))
    thread.join()
    assert all_dead(pidfds(appear(mark, 0)))


@pytest.mark.usefixtures("default")
def test_a_worker_that_is_killed_loses_only_its_items() -> None:
    """If a process of a pool is killed, each item has a result or a `WorkerLost`; no call hangs."""
    mark = marker()
    with executors("processes") as pool:
        found = nbcontainer.map("busybox", ["sh", "-c", "read s; sleep $s"], [f"{mark}\n"] + ["0\n"] * 7, executor=pool)
        appear(mark, 1)
        victims = list(vars(pool)["_processes"])
        fds = pidfds(descendants(victims[0]) | descendants(victims[1]))
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        answers = list(found)
    assert len(answers) == 8
    assert all(isinstance(one, WorkerLost) or (isinstance(one, Result) and one.ok) for one in answers)
    assert isinstance(answers[0], WorkerLost)
    assert "ended, or is out of reach (BrokenProcessPool" in str(answers[0])
    assert str(answers[0]).endswith("; make a new executor: this one takes no more items")
    assert all_dead(fds)


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_closed_executor_answers_for_each_item(kind: str) -> None:
    """An executor that takes no more tasks gives a `WorkerError` for each item; `doctor` reports the same."""
    with executors(kind) as pool:
        assert pool is not None
        pool.shutdown()
        answers = list(nbcontainer.map("busybox", ["true"], ["x"] * 3, executor=pool, retries=2))
        table = nbcontainer.doctor(pool)
    assert [type(one) for one in answers] == [WorkerError] * 3
    assert str(answers[0]).startswith("the executor is closed (RuntimeError: ")
    assert str(answers[0]).endswith("; make a new executor: this one takes no more items")
    assert not table.ok
    assert table.items[0].advice == "make a new executor: this one takes no more items"


class Strange(concurrent.futures.Executor):
    """Its futures hold something, and its `submit` returns something, that is not what was asked for."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def submit(self, *_: Any, **__: Any) -> Any:
        return self.returned


@pytest.mark.usefixtures("default")
def test_an_executor_that_returns_other_things_answers_for_each_item() -> None:
    """A value that is not an answer, and one that is not a future, are an error of each item."""
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.set_result(5)
    for returned, text in ((future, "a value of type 'int' in place of"), (None, "'NoneType', and not a future")):
        found = list(nbcontainer.map("busybox", ["true"], ["x"] * 2, executor=Strange(returned)))
        assert [type(one) for one in found] == [WorkerError] * 2
        assert text in str(found[0])


NOTEBOOK = """
import concurrent.futures, multiprocessing, nbcontainer, sys
if __name__ == "__main__":
    executor = None
    if sys.argv[2] != "threads":
        executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[2]))
    list(nbcontainer.map("busybox", ["sleep", sys.argv[1]], ["x"] * 4, executor=executor, workers=2))
"""


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "threads"])
def test_nothing_outlives_a_killed_notebook(tmp_path: Path, method: str) -> None:
    """SIGKILL of the notebook ends the containers of all items, and the processes of its pool."""
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    mark = marker()
    notebook = subprocess.Popen([sys.executable, str(tmp_path / "notebook.py"), mark, method])
    try:
        appear(mark, 5 if method == "fork" else 3)  # the command lines of the notebook and its forks have it, too
        fds = pidfds(descendants(notebook.pid))
    finally:
        notebook.kill()
        notebook.wait()
    assert all_dead(fds)


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("kind", ["processes", "fork", "forkserver"])
def test_a_pool_of_processes_outlives_its_maps(kind: str) -> None:
    """The end of a map ends its items alone: the pool's other work goes on, and the next map has the same pool."""
    with executors(kind) as executor:
        assert executor is not None
        own = executor.submit(time.sleep, 0.5)
        for _ in range(2):
            assert [one.ok for one in nbcontainer.map("busybox", ["cat"], ["x"] * 3, executor=executor)] == [True] * 3
        assert own.result() is None


@pytest.mark.usefixtures("default")
def test_a_map_shows_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress goes to the listener of the notebook or the terminal, with a last state; `progress=False` shows none."""
    from nbcontainer.mapping import progress_report

    states: list[Any] = []
    monkeypatch.setattr(progress_report, "listener", lambda: states.append)
    list(nbcontainer.map("busybox", ["sleep", "0.6"], ["x"] * 2, workers=2))
    assert states[-1].finished
    assert "2 of 2" in states[-1].what
    states.clear()
    list(nbcontainer.map("busybox", ["true"], ["x"], progress=False))
    assert states == []


@pytest.mark.usefixtures("default")
def test_answers_pickle() -> None:
    """Results and errors of a map can be pickled, with their position."""
    found = list(nbcontainer.map("busybox", ["cat"], ["a", 5]))
    again = pickle.loads(pickle.dumps(found))
    assert again[0].text == "a"
    assert (again[1].index, str(again[1])) == (1, str(found[1]))


@pytest.mark.usefixtures("default")
def test_items_wait_for_descriptors() -> None:
    """With few file descriptors left, items wait for each other instead of failing."""
    script = (
        "import nbcontainer, resource, os\n"
        "nbcontainer.run('busybox', ['true'])\n"
        "used = len(os.listdir('/proc/self/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, used + 60))\n"
        "found = list(nbcontainer.map('busybox', ['sleep', '0.1'], [''] * 24, workers=12))\n"
        "assert all(isinstance(one, nbcontainer.Result) and one.ok for one in found), found\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
