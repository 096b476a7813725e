"""`map`: the function that users call."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, ParamSpec

from nbcontainer.commands.options.run_option import strings
from nbcontainer.commands.options.table import RunKeywords
from nbcontainer.containers.engine import default_engine
from nbcontainer.errors import UsageError
from nbcontainer.mapping import portable_image, progress_report
from nbcontainer.mapping.mapped import Mapped
from nbcontainer.mapping.submitting import check_executor, submitter
from nbcontainer.mapping.tasks import Work, command_of
from nbcontainer.oci.documents import Image
from nbcontainer.runs import arguments
from nbcontainer.runs.calls import image_word
from nbcontainer.sandbox.steps.exchange.values import OUTPUT
from nbcontainer.values.exchange import path_in_output

P = ParamSpec("P")

_LONGEST = 10**9
"""Seconds of a time limit, at most, as for `--timeout`."""


def _explaining(function: Callable[P, Mapped]) -> Callable[P, Mapped]:
    """Return a function whose error for an option that only `run` has says what to do in place of it."""

    @functools.wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> Mapped:
        own = inspect.signature(function).parameters
        for name in options:
            if name not in own and name in RunKeywords.__annotations__:
                advice = "commit an image with what the items need, or call run() in a pool of threads (docs/map.md)"
                raise TypeError(f"map() has no option '{name}', which run() has: {advice}")
        return function(*args, **options)

    return called


@_explaining
def map(  # noqa: A001 - as in concurrent.futures
    image: str | Image,
    command: Sequence[str] | Callable[[Any], Any],
    inputs: Iterable[Any],
    *,
    workers: int | None = None,
    executor: concurrent.futures.Executor | None = None,
    timeout: float | None = None,
    retries: int = 0,
    ordered: bool = True,
    files: Sequence[str] = (),
    progress: bool = True,
) -> Mapped:
    """Run a command or a function in a container of its own for each input, and return an iterator of the results.

    A command (an argument list) gets the input, text or bytes, on standard input. A function is called with the input
    inside the container, and what it returns is `Result.value`; the image needs the notebook's version of Python. What
    the function and its input hold is sent by cloudpickle; the value comes back by the codecs of docs/values.md, and is
    never unpickled.

    Each item gives one `Result`, whose outcome may be a failure, or an `NbcontainerError` in its place, which is
    returned and not raised. `timeout` (seconds) is for each item. A failed item is run up to `retries` more times.
    Results come in the order of the inputs, or with `ordered=False` as they end; `Result.index` is the position of the
    input. `files` are paths in the container whose contents come back as `Result.files`, directories with all files
    below them. `inputs` may be endless: a list is read as answers are, anything like a generator in a thread of its
    own, a few ahead.

    Without `executor`, `workers` threads of this machine run containers, by default one for each processor. `executor`
    is any concurrent.futures.Executor, such as `Client.get_executor()` of dask.distributed (docs/map.md); `workers` is
    then how many items are sent at once. Raises `UsageError`, `TypeError`, `ImageNotFound` or `ImageError` before the
    first item is sent.

    >>> [result.text for result in map("busybox", ["tr", "a-z", "A-Z"], ["one", "two"])]
    ['ONE', 'TWO']
    >>> def square(number):
    ...     return number * number
    >>> [result.value for result in map("host", square, range(4))]
    [0, 1, 4, 9]
    """
    _check_inputs(inputs)
    check_executor(executor)
    workers, timeout, retries = _workers(workers), _timeout(timeout), _retries(retries)
    words, function = command_of(command)
    wanted = tuple(_absolute(path) for path in strings("files", files))
    engine = default_engine()
    listener = progress_report.listener() if progress else None
    found = engine.images.reporting_to(listener).find(image_word(image))
    described = portable_image.described(engine.store, found)
    sender = submitter(executor, workers)  # last: from here on, an error has to close it
    work = Work(described, words, function, timeout, wanted, sender.lifeline)
    total = len(inputs) if isinstance(inputs, Sized) else None
    return Mapped(
        inputs,
        work.task,
        sender,
        blob=functools.partial(portable_image.read_blob, engine.store),
        retries=retries,
        ordered=ordered,
        report=progress_report.Report(f"map {found.name}", total, listener),
    )


def _check_inputs(inputs: Any) -> None:
    """Raise `TypeError` for what cannot be iterated. An iterator is not touched: its first input may take long."""
    if isinstance(inputs, str | bytes | bytearray | memoryview):
        shown = repr(inputs) if len(inputs) < 40 and not isinstance(inputs, memoryview) else "..."
        raise TypeError(f"inputs must be an iterable, not one {type(inputs).__name__}: write inputs=[{shown}]")
    if not isinstance(inputs, Iterator):
        iter(inputs)


def _workers(workers: int | None) -> int | None:
    if workers is None:
        return None
    if (found := arguments.whole(workers)) is None or found < 1:
        raise UsageError(f"invalid number of workers: {workers!r}", hint="write a number greater than 0")
    return found


def _retries(retries: int) -> int:
    if (found := arguments.whole(retries)) is None or found < 0:
        raise UsageError(f"invalid number of retries: {retries!r}", hint="write 0 or a greater number")
    return found


def _timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if (found := arguments.number(timeout)) is None or not 0 < timeout < math.inf:
        raise UsageError(f"invalid timeout: {timeout!r}", hint="write a number of seconds greater than 0")
    if found > _LONGEST:
        raise UsageError(f"invalid timeout: more than {_LONGEST} seconds", hint="write less, or leave it out")
    return found


def _absolute(path: str) -> str:
    arguments.path_inside(path)
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"the path {path!r} in files is not absolute", hint="write it as in /work/result.csv")
    if path.startswith(f"{OUTPUT}/") and path.rstrip("/") != OUTPUT:
        path_in_output(path.rstrip("/"), "files")  # raises before the items run, and not after it
    return path
