"""`run`, `run_async` and `stream`: values, input, cancellation, and what is left of a run that was ended."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import CellFailed, ContainerError, ImageError, NbcontainerError, UsageError, ValueUnavailable
from nbcontainer.outcome import Reason
from nbcontainer.runs import output_stream
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"inputs": {"not a name": 1}}, UsageError, r"invalid name 'not a name' in inputs"),
    ({"inputs": {"value": object()}}, UsageError, r"no codec for a value of type 'object'"),
    ({"get": {"x": "../secret"}}, UsageError, r"'\.\./secret' is not a file in /out"),
    ({"get": {"x": "/etc/passwd"}}, UsageError, r"'/etc/passwd' is not a file in /out"),
    ({"get": "name"}, TypeError, r"get must be a list of strings, not one string"),
    ({"get": {"name": 3}}, TypeError, r"get must be a list of strings, and contains 3"),
    ({"get": {"name": "\ud800"}}, UsageError, r"a path of get contains a character that is not Unicode text"),
    ({"input": "a\ud800"}, UsageError, r"input contains a character that is not Unicode text, at position 1"),
    ({"inputs": []}, TypeError, r"inputs must be a mapping, not list: write inputs="),
    ({"input": 3}, TypeError, r"input must be bytes or a string, not int"),
    ({"inputs": ["name"]}, TypeError, r"inputs must be a mapping, not list: write inputs="),
    ({"input": "x", "script": "y"}, UsageError, r"both `script` and `input`"),
    ({"timeout": "soon"}, UsageError, r"soon"),
    ({"nothing": 1}, TypeError, r"unexpected keyword argument 'nothing'"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_one_line(engine: Engine, options: dict[str, Any], kind: Any, message: str) -> None:
    """A wrong argument of each of the three functions raises an error that names it; nothing runs."""
    with pytest.raises(kind, match=message):
        nbcontainer.run("busybox", ["true"], engine=engine, **options)
    with pytest.raises(kind, match=message):
        asyncio.run(nbcontainer.run_async("busybox", ["true"], engine=engine, **options))
    with pytest.raises(kind, match=message):
        list(nbcontainer.stream("busybox", ["true"], engine=engine, **options))


@pytest.mark.parametrize(
    "data", [b"\0\xff", "text", bytearray(b"array"), memoryview(b"view")], ids=lambda data: type(data).__name__
)
def test_input_is_standard_input(engine: Engine, data: Any) -> None:
    """`input` is the standard input of a command and of a script, byte for byte, and then its end."""
    expected = data.encode() if isinstance(data, str) else bytes(data)
    for options in ({"command": ["cat"]}, {"script": "cat"}):
        assert nbcontainer.run("busybox", input=data, engine=engine, **options).stdout == expected


def test_values_travel_as_in_cells(engine: Engine) -> None:
    """Inputs are files in `/in` and variables, and `get` reads `/out`; nothing of both is in the diff."""
    script = 'echo "$word $(cat /in/rows.json)"; mkdir /out/d; printf 7 > /out/n.json; printf x > /out/d/y.txt'
    inputs = {"word": "it's", "rows": [1, {"a": None}]}
    result = nbcontainer.run("busybox", script=script, inputs=inputs, get={"y": "/out/d/y.txt"}, engine=engine)
    assert (result.text, result.values) == ('it\'s [1, {"a": null}]\n', {"y": "x"})
    assert isinstance(result.container, nbcontainer.Container)
    assert result.container.diff() == []
    with pytest.raises(ValueUnavailable, match="left no file /out/missing"):
        nbcontainer.run("busybox", ["true"], get=["missing"], engine=engine)


def test_a_failed_run_has_its_output(engine: Engine) -> None:
    """`CellFailed` holds what the run wrote, and pickles with it; `check_returncode` raises the same."""
    script = "echo out; echo problem >&2; exit 3"
    with pytest.raises(CellFailed, match="exit code 3: problem") as raised:
        nbcontainer.run("busybox", script=script, engine=engine)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (again.stdout, again.stderr, again.outcome) == (b"out\n", b"problem\n", raised.value.outcome)
    result = nbcontainer.run("busybox", script=script, engine=engine, check=False)
    assert (result.ok, result.exit_code, result.returncode) == (False, 3, 3)
    with pytest.raises(CellFailed, match="exit code 3: problem"):
        result.check_returncode()


def test_a_result_pickles_with_all_it_has(engine: Engine) -> None:
    """A result keeps its output, values and outcome when it is pickled; its container can be looked at."""
    result = nbcontainer.run("busybox", script="echo x; echo 1 > /out/a.json", get=["a"], engine=engine)
    found = pickle.loads(pickle.dumps(result))
    assert (found.text, found.values, found.outcome) == (result.text, {"a": 1}, result.outcome)
    assert found.container.name == result.container.name
    with pytest.raises(ContainerError, match="was copied from another process"):
        found.container.run(["true"])


POOL = """
import concurrent.futures, multiprocessing, nbcontainer, sys

def work(number):
    return nbcontainer.run("busybox", script=f"echo {number}; exit {number}")

if __name__ == "__main__":
    nbcontainer.run("busybox", ["true"])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        futures = [pool.submit(work, number) for number in range(2)]
        print(futures[0].result().text, end="")
        try:
            futures[1].result()
        except nbcontainer.CellFailed as error:
            print(error.outcome.exit_code)
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_results_and_errors_leave_a_process_pool(engine: Engine, tmp_path: Path, method: str) -> None:
    """A process pool returns the results of runs, and raises the errors of those that fail; it does not hang."""
    (tmp_path / "pool.py").write_text(POOL)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", tmp_path / "pool.py", method],
        env=os.environ | {"NBCONTAINER_HOME": str(engine.store.path)},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("0\n1\n", "", 0)


def test_a_cancellation_ends_the_container(engine: Engine) -> None:
    """A task that is cancelled is over when its container has ended; a program that ignores signals is killed."""
    mark = marker()

    async def cancelled() -> list[int]:
        script = f"trap '' INT TERM; sleep {mark} & wait; sleep {mark}"
        task = asyncio.create_task(nbcontainer.run_async("busybox", script=script, engine=engine))
        found = await asyncio.to_thread(appear, mark, 1)
        fds = pidfds(found)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return fds

    assert all_dead(asyncio.run(cancelled()), 0.5)


def test_a_cancellation_ends_the_wait_for_a_container(engine: Engine, name: str) -> None:
    """A run that waits for another cell in its container is over at once: its own has not started."""
    mark = marker()

    async def cancelled(first: Any) -> None:
        task = asyncio.create_task(
            nbcontainer.run_async(name=name, command=["true"], engine=engine, stderr=said.append)
        )
        while not said:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert first.is_alive()

    said: list[bytes] = []
    with nbcontainer.create("busybox", name, engine=engine) as box:
        first = threading.Thread(target=lambda: box.run(["sleep", mark], check=False))
        first.start()
        appear(mark, 1)
        asyncio.run(cancelled(first))
        assert b"waiting for the cell that runs in container" in b"".join(said)
        with nbcontainer.stream(name=name, command=["true"], engine=engine) as events:
            assert repr(events) == f"<OutputStream of a run in {name}: running>"
        assert list(events) == []
        assert repr(events) == f"<OutputStream of a run in {name}: closed>"
        assert first.is_alive()
        box.stop()
        first.join()


def test_a_timeout_of_the_loop_ends_the_container(engine: Engine) -> None:
    """`asyncio.timeout` ends the run that is in it."""
    mark = marker()

    async def limited() -> None:
        async with asyncio.timeout(0.3):
            await nbcontainer.run_async("busybox", ["sleep", mark], engine=engine)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert all_dead(pidfds(appear(mark, 0)), 0.5)


def test_many_runs_are_awaited_at_once(engine: Engine) -> None:
    """The event loop stays free while runs are awaited, and each awaits its own result."""

    async def both() -> list[str]:
        runs = (nbcontainer.run_async("busybox", ["echo", str(number)], engine=engine) for number in range(12))
        return [result.text for result in await asyncio.gather(*runs)]

    assert asyncio.run(both()) == [f"{number}\n" for number in range(12)]


def test_output_comes_while_the_run_lasts(engine: Engine) -> None:
    """An event is there before the run has ended; `close` ends the run."""
    mark = marker()
    with nbcontainer.stream("busybox", script=f"echo first; echo more >&2; sleep {mark}", engine=engine) as events:
        seen = {next(events), next(events)}
        assert {(event.stream, event.data) for event in seen} == {("stdout", b"first\n"), ("stderr", b"more\n")}
        with pytest.raises(ContainerError, match="no result yet"):
            _ = events.result
        fds = pidfds(appear(mark, 1))
    assert all_dead(fds, 0.5)
    assert list(events) == []


def test_a_lost_stream_ends_its_run(engine: Engine) -> None:
    """When the last reference to a stream is gone, its container is killed."""
    mark = marker()
    events = nbcontainer.stream("busybox", script=f"echo up; sleep {mark}", engine=engine)
    next(events)
    fds = pidfds(appear(mark, 1))
    del events
    gc.collect()
    assert all_dead(fds)


def test_a_stream_raises_after_its_last_event(engine: Engine) -> None:
    """A run that fails raises after its output, once; with `check=False` it has its outcome in the result."""
    events = nbcontainer.stream("busybox", script="echo out; exit 3", engine=engine)
    assert next(events).text == "out\n"
    with pytest.raises(CellFailed, match="exit code 3"):
        next(events)
    assert next(events, None) is None
    events = nbcontainer.stream("busybox", script="exit 3", engine=engine, check=False)
    assert list(events) == []
    assert events.result.exit_code == 3


def test_a_stream_that_is_not_read_holds_its_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is not read fills a bounded part of memory; a time limit is applied all the same."""
    monkeypatch.setattr(output_stream, "LIMIT", 1 << 20)
    events = nbcontainer.stream("busybox", ["yes"], engine=engine, timeout=1, check=False)
    events._thread.join(DEADLINE)
    assert not events._thread.is_alive()
    assert sum(len(event.data) for event in events) < 8 << 20
    assert events.result.outcome.reason is Reason.TIMEOUT


def test_a_stream_can_be_stopped_before_it_starts(engine: Engine) -> None:
    """`close` at once leaves nothing running, however far the run has come."""
    before = threading.active_count()
    for _ in range(5):
        mark = marker()
        nbcontainer.stream("busybox", ["sleep", mark], engine=engine).close()
        assert appear(mark, 0) == []
    deadline = time.monotonic() + DEADLINE
    while threading.active_count() > before + 1:  # the background queue may have begun
        assert time.monotonic() < deadline


API: Any = nbcontainer
"""The package, for calls that a type checker would refuse."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda box: API.create("busybox", 3), "name must be a string, not int"),
        (lambda box: API.get(None), "name must be a string, not NoneType"),
        (lambda box: API.find_image(b"busybox"), "name must be a string or an Image, not bytes"),
        (lambda box: API.pull(["busybox"]), "name must be a string, not list"),
        (lambda box: API.remove_image(3), "name must be a string or an Image, not int"),
        (lambda box: API.save(None, "x.tar"), "image must be a string or an Image, not NoneType"),
        (lambda box: API.save("busybox", 3), "path must be a path, not int"),
        (lambda box: API.load(3), "path must be a path, not int"),
        (lambda box: API.load("x.tar", name=3), "name must be a string, not int"),
        (lambda box: API.load("x.tar", platform=3), "platform must be a string, not int"),
        (lambda box: API.find_image("busybox", platform=3), "platform must be a string, not int"),
        (lambda box: box.put(None, "/x"), "source must be bytes or a path, not NoneType"),
        (lambda box: box.get("/etc/passwd", 3), "target must be a path, not int"),
        (lambda box: box.get("/etc/passwd", b"x"), "target must be a path, not bytes"),
        (lambda box: box.commit("image", output=3), "output must be a path, not int"),
        (lambda box: box.commit("image", message=3), "message must be a string, not int"),
        (lambda box: API.commit("dev", "image"), "container must be a Container, not str: nbcontainer.get"),
        (lambda box: box.commit(3), "image must be a string, not int"),
        (lambda box: box.put(b"", 3), "path must be a string, not int"),
        (lambda box: box.get(b"/etc"), "path must be a string, not bytes"),
        (lambda box: box.run(script=b"ls"), "script must be a string, not bytes"),
        (lambda box: API.run("busybox", script=["ls"]), "script must be a string, not list"),
    ],
)
def test_another_type_is_a_type_error(engine: Engine, call: Callable[[Any], object], message: str) -> None:
    """What must be text is checked where it is given, and the error names the argument."""
    with nbcontainer.create("busybox", engine=engine) as box, pytest.raises(TypeError, match=message):
        call(box)


@pytest.mark.parametrize("keyword", ["stdout", "stderr"])
def test_a_sink_is_checked_before_the_run(engine: Engine, keyword: str, tmp_path: Path) -> None:
    """What is not a function of bytes is refused at once, also if the run writes nothing."""
    with (tmp_path / "out").open("wb") as file, nbcontainer.create("busybox", engine=engine) as box:
        for sink, message in ((-1, f"leave it out to have Result.{keyword}"), (file, f"write {keyword}=file.write")):
            options: dict[str, Any] = {keyword: sink}
            for run in (box.run, lambda command, **more: API.run("busybox", command, engine=engine, **more)):
                with pytest.raises(TypeError, match=rf"{keyword} must be a function of bytes, not \w+: {message}"):
                    run(["true"], **options)
        assert box.record.count == 0


async def asynchronous(data: bytes) -> None:
    """An async function, which does nothing until it is awaited."""


class Asynchronous:
    """An object whose call is async."""

    async def __call__(self, data: bytes) -> None:
        """Do nothing."""


@pytest.mark.parametrize("function", [asynchronous, Asynchronous()])
def test_an_async_function_is_no_sink(engine: Engine, function: Any) -> None:
    """It would be called and never run, and the output would be lost."""
    with pytest.raises(TypeError, match="stdout must be a function of bytes, not an async one: read the events"):
        nbcontainer.run("busybox", ["true"], engine=engine, stdout=function)


def test_a_callback_that_raises_stop_iteration_ends_its_run(engine: Engine) -> None:
    """No future can have that error: the awaited run raises another one, and does not wait for ever."""

    def take(_: bytes) -> None:
        raise StopIteration

    run = nbcontainer.run_async("busybox", ["echo", "a"], engine=engine, stdout=take)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        asyncio.run(asyncio.wait_for(run, DEADLINE))


def test_an_error_of_a_callback_keeps_what_the_run_wrote(engine: Engine) -> None:
    """The container ends, the error is raised, and the changes are a state of the container, which was killed."""

    def take(_: bytes) -> None:
        raise ZeroDivisionError

    with nbcontainer.create("busybox", "kept", engine=engine) as box:
        with pytest.raises(ZeroDivisionError):
            box.run(script="echo x > /file; echo out; sleep 1000", stdout=take)
        assert [change.path for change in box.diff()] == ["/file"]
        assert box.record.last is not None
        assert box.record.last.outcome.reason == Reason.KILLED


def test_a_directory_with_a_nul_is_refused(engine: Engine) -> None:
    """It was cut off there, and the run was in another directory."""
    with pytest.raises(UsageError, match="the working directory contains a NUL character"):
        nbcontainer.run("busybox", ["pwd"], workdir="/t\0mp", engine=engine)


def test_a_container_is_checked_before_its_image_is_pulled(engine: Engine) -> None:
    """A name that cannot be, or that exists, is the error, and not a registry that cannot be reached."""
    with nbcontainer.create("busybox", "dev", engine=engine):
        for name, message in (("bad name", "invalid container name"), ("dev", "already exists")):
            with pytest.raises(NbcontainerError, match=message):
                nbcontainer.create("localhost:1/absent", name, engine=engine)


def test_a_word_that_is_not_unicode_is_refused(engine: Engine) -> None:
    """No argument of a program and no path of a container can have a lone surrogate."""
    with nbcontainer.create("busybox", engine=engine) as box:
        with pytest.raises(UsageError, match=r"the argument '\\ud800' contains a character that is not Unicode text"):
            box.run(["echo", "\ud800"])
        for call in (lambda path: box.get(path), lambda path: box.put(b"x", path)):
            with pytest.raises(UsageError, match="invalid path in the container"):
                call("/\ud800")


def test_a_host_path_that_cannot_be_is_an_error_of_the_package(engine: Engine) -> None:
    """`put` from a name that is too long for the file system says so in one line."""
    with nbcontainer.create("busybox", engine=engine) as box:
        for text, message in (("x" * 300, "File name too long"), ("some text", "no file some text")):
            with pytest.raises(ImageError, match=rf"{message}; .*for a text, write put\(text.encode\(\), path\)"):
                box.put(text, "/file")


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """Let this process have 200 descriptors more than now; return how many it has."""
    limits, count = resource.getrlimit(resource.RLIMIT_NOFILE), len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, limits[1]))
    yield count
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("remove", [False, True])
def test_many_runs_in_threads_hold_few_descriptors(engine: Engine, few_descriptors: int, remove: bool) -> None:
    """Threads that start containers one after the other wait for the removal of the last ones: it keeps pace."""
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(
            lambda _: nbcontainer.run("busybox", ["true"], engine=engine, remove=remove), range(500)
        ):
            assert result.ok
    engine.background.wait()
    roots = 2 * engine.launcher.spares.roots.mounted
    assert len(list(Path("/proc/self/fd").iterdir())) < few_descriptors + roots + 40
