"""One run from Python: what the caller asked for, its run in some thread, its end from any other, and its result."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.options.run_option import string, strings
from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import default_engine
from nbcontainer.errors import UsageError
from nbcontainer.outcome import Reason
from nbcontainer.runs import arguments
from nbcontainer.runs.results import Result, failure
from nbcontainer.runs.value_exchange import connect
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import State
    from nbcontainer.sandbox.explanation import Explanation
    from nbcontainer.sandbox.supervisor import Supervisor
    from nbcontainer.values.exchange import Exchange

    Sink = Callable[[bytes], None]
    Runner = Callable[[Engine, Request, Streams, Callable[[State], None]], tuple[Container, Outcome]]


class Cancelled(Exception):
    """The run was stopped before its container had started. It never leaves this package."""


@dataclass(frozen=True)
class Data:
    """What goes into a run and out of it, beside its command and its options.

    `stdin` is its standard input, None for none; `inputs` are values for files in `/in`; `get` names the values to read
    from `/out`: names, or a mapping of names to paths there. With `output` there is a `/out` without them.
    """

    stdin: bytes | str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    get: Sequence[str] | Mapping[str, str] = ()
    output: bool = False

    @property
    def wanted(self) -> dict[str, str]:
        """The names of `get` with their paths in `/out`; an empty path is for the file NAME.*. Raises `UsageError`."""
        if isinstance(self.get, Mapping):
            from nbcontainer.values.exchange import path_in_output

            for path in strings("get", self.get.values()):
                arguments.unicode("a path of get", path)
            return {name: path_in_output(path, f"get={{{name!r}: …}}") for name, path in self.get.items()}
        return dict.fromkeys(strings("get", self.get), "")

    def exchange(self) -> Exchange | None:
        """Return the exchange of a run with these values, which the caller closes; None for none.

        Raises `UsageError`, and `TypeError` if `inputs` is not a mapping.
        """
        if not isinstance(self.inputs, Mapping):
            raise TypeError(
                f'inputs must be a mapping, not {type(self.inputs).__name__}: write inputs={{"name": value}}'
            )
        if not self.inputs and not self.get and not self.output:
            return None
        from nbcontainer.values.exchange import Exchange

        for name in self.inputs:
            if not isinstance(name, str) or not name.isidentifier():
                raise UsageError(f"invalid name {name!r} in inputs", hint='write inputs={"name": value}')
        return Exchange(self.inputs, output=bool(self.get) or self.output)


def image_word(image: str | Image) -> str:
    """Return what names an image in a request: of an `Image`, its digest."""
    return arguments.image("image", image)


class Call:
    """One run, which `result` does in the thread that calls it. `stop` may be called from any thread, at any time.

    `stdout` and `stderr` get the output as it comes; None collects it for the result. `runner` runs the request, and
    `on_output` gets the exchange while its `/out` is there, after the end. `limit` gets what is collected; an error of
    it ends the container, and is raised. `attach` may change the streams before the run.
    """

    def __init__(
        self,
        request: Request,
        data: Data,
        *,
        engine: Engine | None = None,
        stdout: Sink | None = None,
        stderr: Sink | None = None,
        runner: Runner,
        on_output: Callable[[Exchange, Outcome], None] | None = None,
        limit: Sink | None = None,
        attach: Callable[[Streams], None] | None = None,
    ) -> None:
        self._engine = engine
        self._request = request
        self._data = data
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._limit = limit
        self._attach = attach
        arguments.sink("stdout", stdout)
        arguments.sink("stderr", stderr)
        self._sinks = (stdout or self._collector(self._out), stderr or self._collector(self._err))
        self._runner = runner
        self._on_output = on_output
        self._supervisor: Supervisor | None = None
        self._explanation: Explanation | None = None
        self._stopped: bool = False
        self.started = False
        """Whether its container has been started."""
        self.on_start: Callable[[], None] | None = None
        self._lock = threading.RLock()  # a finalizer may call `stop` inside one of these methods

    def describe(self) -> str:
        """Return where it runs, as a phrase."""
        return f"a run in {self._request.name or self._request.image}"

    def _collector(self, parts: list[bytes]) -> Sink:
        limit = self._limit
        if limit is None:
            return parts.append

        def collect(data: bytes) -> None:
            limit(data)
            parts.append(data)

        return collect

    def result(self, *, check: bool) -> Result:
        """Run to the end, and return the result. Raises `CellFailed` if `check`, and the package's other errors.

        If Ctrl-C interrupts the thread that calls it, it raises `KeyboardInterrupt` when the container has ended, as
        subprocess.run does.
        """
        wanted = self._data.wanted
        with contextlib.ExitStack() as stack:
            exchange = self._data.exchange()
            if exchange is not None:
                stack.enter_context(exchange)
            streams = Streams(*self._sinks, stdin=stack.enter_context(_input(self._data.stdin)))
            self._connect(streams, exchange)
            container, outcome = self._perform(streams)
            out, err = b"".join(self._out), b"".join(self._err)
            if check and not outcome.ok:
                raise failure(outcome, out, err)
            if exchange is not None and self._on_output is not None:
                self._on_output(exchange, outcome)
            values = exchange.get(wanted) if exchange is not None and outcome.ok else {}
            return Result(container, outcome, out, err, values, explanation=self._explanation)

    def _connect(self, streams: Streams, exchange: Exchange | None) -> None:
        streams.on_follow, streams.check_wait = self._watch, self._check_wait
        streams.on_explained = self._note
        if exchange is not None:
            connect(exchange, self._request.options, streams)
        if self._attach is not None:
            self._attach(streams)

    def _perform(self, streams: Streams) -> tuple[Container, Outcome]:
        try:
            container, outcome = self._runner(self._engine or default_engine(), self._request, streams, self._check)
        finally:
            with self._lock:
                supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None and supervisor.interrupted:
            raise KeyboardInterrupt  # the supervisor caught the one that interrupted this thread
        return container, outcome

    def _check(self, _: State) -> None:
        """Take a state of a transfer, which ends here if the run was stopped."""
        if self._stopped:
            raise Cancelled

    def _check_wait(self) -> None:
        if self._stopped:
            raise Cancelled

    def _note(self, explanation: Explanation) -> None:
        """Keep how the run was explained so far: each explanation has the steps of the one before."""
        self._explanation = explanation

    def _watch(self, supervisor: Supervisor) -> None:
        with self._lock:
            self._supervisor, self.started = supervisor, True
            if self._stopped:
                supervisor.stop(Reason.INTERRUPTED, gently=False)
        if self.on_start is not None:
            self.on_start()

    def stop(self, *, gently: bool = True) -> None:
        """End the run: SIGINT, and SIGKILL a moment later; SIGKILL at once at the second call, or if not `gently`."""
        with self._lock:
            self._stopped = True
            if self._supervisor is not None:
                self._supervisor.stop(Reason.INTERRUPTED, gently=gently)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped


@contextlib.contextmanager
def _input(data: bytes | str | None) -> Iterator[int | None]:
    """Yield a descriptor of a sealed file with these bytes, at its beginning; None for None."""
    if data is None:
        yield None
        return
    if not isinstance(data, bytes | bytearray | memoryview | str):
        raise TypeError(f"input must be bytes or a string, not {type(data).__name__}")
    fd = protocol.memory_file("stdin", arguments.unicode("input", data) if isinstance(data, str) else bytes(data))
    try:
        yield fd
    finally:
        os.close(fd)


def request_in(
    image: str,
    command: Sequence[str],
    script: str | None,
    data: Data,
    options: Mapping[str, Any],
    *,
    variables: bool = True,
) -> Request:
    """Return the request of a Python caller; `variables` sets those of its short inputs.

    Raises `TypeError`, `UsageError`, `ContainerError`.
    """
    words = arguments.argv(command)
    if script is not None:
        string("script", script)
    if data.stdin is not None and words and script is not None:
        raise UsageError("both `script` and `input` are the command's standard input", hint="leave out one of them")
    exchange = data.exchange() if variables else None
    return request_of_keywords(image, words, script, options, () if exchange is None else exchange.variables)
