"""The worker's side of `map`: one function that takes and returns plain data. Workers import this module.

It uses the default store of the worker's user, as a notebook there does.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbcontainer._version import __version__
from nbcontainer.containers import run as running
from nbcontainer.containers.engine import default_engine
from nbcontainer.errors import NbcontainerError, SetupFailed, ValueUnavailable
from nbcontainer.images import sandboxed
from nbcontainer.mapping import answers, dask_worker
from nbcontainer.mapping.lifeline import Lifelines, Runs
from nbcontainer.mapping.portable_image import BlobsMissing, WorkerImages
from nbcontainer.mapping.pressure import Gate
from nbcontainer.mapping.tasks import function_command, function_inputs
from nbcontainer.runs.calls import Call, Cancelled, Data, request_in
from nbcontainer.sandbox.steps.exchange.values import OUTPUT
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.mapping.pressure import Place
    from nbcontainer.outcome import Outcome
    from nbcontainer.runs.results import Result
    from nbcontainer.values.exchange import Exchange

FILES_LIMIT = 1 << 30
"""Bytes of all files that come back with one result, and of its value."""

OUTPUT_LIMIT = 256 << 20
"""Bytes of an item's output and errors together: they are in memory."""

_LIFELINES = Lifelines()
_IMAGES = WorkerImages()
_GATE = Gate()
os.register_at_fork(after_in_child=_GATE.forget)


def perform(
    task: Mapping[str, Any],
    blobs: Mapping[str, bytes] | None = None,
    *,
    runs: Runs | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the answer to a task: its result, its error, or the digests of the blobs that are missing here.

    `blobs` are those that it lacked before, by digest. `runs` end when the notebook ends them; without, this process
    finds them by the task's lifeline. `on_wait` gets what a start waits for.
    """
    held = runs or _LIFELINES.runs(task["lifeline"])
    try:
        with dask_worker.started(task) as key:
            return _Item(task, held, on_wait, key).answer(blobs)
    except BlobsMissing as error:
        return {"missing": error.digests}
    except NbcontainerError as error:
        return answers.of_error(error)
    except OSError as error:
        return answers.of_error(store_error("run an item of a map", error.filename or "", error))


class _Item:
    """One item on this worker. `key` is its key on a Dask worker, empty elsewhere."""

    def __init__(self, task: Mapping[str, Any], runs: Runs, on_wait: Callable[[str], None], key: str) -> None:
        self._task = task
        self._runs = runs
        self._on_wait = on_wait
        self._key = key
        self._files: dict[str, bytes] = {}
        self._value: tuple[str, bytes] | None = None
        self._problem: ValueUnavailable | None = None

    def answer(self, blobs: Mapping[str, bytes] | None) -> dict[str, Any]:
        engine = default_engine()
        with _GATE.admitted(self._on_wait, lambda: self._runs.stopped, engine.store.path) as place:
            result = self._run(engine, blobs, place)
        if self._problem is not None:
            return answers.of_error(answers.with_output(self._problem, result.stdout, result.stderr))
        return answers.of_result(result, self._files, self._value)

    def _run(self, engine: Engine, blobs: Mapping[str, bytes] | None, place: Place) -> Result:
        """Run it, again while the machine has too little of something for its start; never twice once it ran."""
        while True:
            call: Call | None = None
            try:
                call = self._call(engine, _IMAGES.find(engine, self._task["image"], blobs))
                with self._runs.holding(call), dask_worker.watching(self._key, call):
                    return call.result(check=False)
            except Cancelled:
                raise _ended() from None
            except (NbcontainerError, OSError) as error:
                ran = call is not None and call.started and not isinstance(error, SetupFailed)
                if ran or not place.may_start_again(error):
                    raise _without_python(error, self._task) from None

    def _call(self, engine: Engine, word: str) -> Call:
        task = self._task
        options = {} if task["timeout"] is None else {"timeout": task["timeout"]}
        if task["function"] is None:
            data, command = Data(task["input"], output=self._wants_output), list(task["command"])
        else:
            data, command = Data(None, function_inputs(task), output=True), function_command(word, task["python"])
        request = request_in(word, command, None, data, options, variables=False)
        if task["function"] is not None:  # the image's entrypoint is for its own program
            process = replace(request.options.process, entrypoint="")
            request = replace(request, options=replace(request.options, process=process))
        kept = _Output()
        return Call(
            request,
            data,
            engine=engine,
            limit=kept.count,
            runner=self._run_and_read,
            on_output=self._read_output,
        )

    @property
    def _wants_output(self) -> bool:
        return any(_in_output(path) for path in self._task["files"])

    def _run_and_read(self, engine: Engine, request: Any, streams: Any, progress: Any) -> Any:
        """Run in a new container, take the files that were asked for, and remove it."""
        container, image = running.choose_container(engine, request, progress)
        try:
            outcome = running.run_in(engine, container, image, request, streams)
            paths = [path for path in self._task["files"] if not _in_output(path)]
            if paths:
                with self._noting(outcome):
                    self._read_files(container, paths)
            return container, outcome
        finally:
            container.remove()

    def _read_files(self, container: Container, paths: list[str]) -> None:
        """Take files of a container. Raises `ValueUnavailable` for one that is missing."""
        with tempfile.TemporaryFile() as file:
            listed, missing = container.workspace.on_layers(
                sandboxed.copy_files, container.lowers, [file.fileno()], paths=paths, limit=FILES_LIMIT
            )
            file.seek(0)
            self._files |= {path: file.read(size) for path, size in listed}
        if missing:
            path, reason = missing[0]
            problem = f"cannot read {path}: {reason}" if reason else f"the item left no file {path}"
            raise ValueUnavailable(problem, hint="check the path, or let it write the file")

    def _read_output(self, exchange: Exchange, outcome: Outcome) -> None:
        """Take the function's value, and the files in `/out` that were asked for."""
        if self._task["function"] is not None and outcome.ok:
            with self._noting(outcome):
                self._value = _value_in(exchange)
        for path in filter(_in_output, self._task["files"]):
            with self._noting(outcome):
                self._files |= exchange.files_at(path, FILES_LIMIT)

    @contextlib.contextmanager
    def _noting(self, outcome: Outcome) -> Iterator[None]:
        """Note the first thing that an item should have left, and did not: an item that failed left what it could.

        It is the answer only when the item's output is known, which belongs to it.
        """
        try:
            yield
        except ValueUnavailable as error:
            if outcome.ok and self._problem is None:
                self._problem = error


def _value_in(exchange: Exchange) -> tuple[str, bytes]:
    """Return suffix and bytes of what a function returned. Raises `ValueUnavailable`."""
    found = [name for name in exchange.files() if name.partition(".")[0] == "value"]
    if not found:
        raise ValueUnavailable("the function ended Python (sys.exit) before it returned a value", hint="return instead")
    if len(found) > 1:
        problem = f"the function wrote a file {OUTPUT}/value.* beside the one of its value"
        raise ValueUnavailable(problem, hint="let it write another name")
    return exchange.raw("value", FILES_LIMIT)


class _Output:
    """Counts what an item writes. The error ends its container."""

    def __init__(self) -> None:
        self._left = OUTPUT_LIMIT

    def count(self, data: bytes) -> None:
        """Count some bytes. Raises `ValueUnavailable` at the limit."""
        self._left -= len(data)
        if self._left < 0:
            problem = f"the item wrote more than {OUTPUT_LIMIT >> 20} MiB to its output"
            raise ValueUnavailable(problem, hint="let it write to a file, and name that in `files`")


def _in_output(path: str) -> bool:
    return path == OUTPUT or path.startswith(f"{OUTPUT}/")


def _ended() -> NbcontainerError:
    from nbcontainer.errors import WorkerLost

    return WorkerLost("the item was ended before its container had started", hint="run it again")


def _without_python(error: NbcontainerError | OSError, task: Mapping[str, Any]) -> NbcontainerError | OSError:
    if task["function"] is not None and isinstance(error, SetupFailed) and error.step == "Execute":
        version = task["python"]
        error.hint = f"a function needs an image with Python {version}: use python:{version}-slim, say, or a command"
    return error


def describe() -> dict[str, Any]:
    """Return what identifies this worker: host, process, store, versions."""
    import platform

    return {"host": platform.node(), "pid": os.getpid(), "python": platform.python_version(), "version": __version__}
