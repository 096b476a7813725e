"""Live containers of a notebook: each runs between its cells, until it is stopped or the notebook ends."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.live import exec_server
from nbcontainer.containers.live.interpreter import INTERPRETERS, SHELL
from nbcontainer.containers.live.session import ShellSession, encoded
from nbcontainer.containers.options import RunOptions
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import ContainerError, SandboxError, StoreError, UsageError
from nbcontainer.linux.signals import set_handler
from nbcontainer.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.live.cell_watch import CellEnd
    from nbcontainer.containers.live.interpreter import Interpreter
    from nbcontainer.containers.live.process import ShellListener
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.prompts.asking import Keyboard

_KEPT = 256
"""Pieces of output between cells that are kept for the next cell; a piece has at most 64 KiB."""


class Switch:
    """A `ShellListener` that passes on to the listener of the current cell.

    Between cells it keeps the last output, for the next cell. What a listener raises ends no container: it is kept in
    `error`.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._listener: ShellListener | None = None
        self._kept: deque[Callable[[ShellListener], None]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def begin(self, listener: ShellListener) -> None:
        """Pass on to this listener from now on."""
        with self._lock:
            self._listener, self.error = listener, None
            while self._kept:
                self._kept.popleft()(listener)

    def end(self) -> None:
        """Pass on to it no more."""
        with self._lock:
            self._listener = None

    def check(self) -> None:
        """Raise what the listener has raised."""
        if self.error is not None:
            raise self.error

    @contextlib.contextmanager
    def to(self, listener: ShellListener) -> Iterator[None]:
        """Pass on to this listener inside the block. Raises what the listener has raised."""
        self.begin(listener)
        try:
            yield
        finally:
            self.end()
        self.check()

    def _pass(self, event: Callable[[ShellListener], None]) -> None:
        with self._lock:
            if self._listener is None:
                self._kept.append(event)
                return
            try:
                event(self._listener)
            except Exception as error:
                self.error = self.error or error

    def stdout(self, data: bytes) -> None:
        """Pass on standard output."""
        self._pass(lambda listener: listener.stdout(data))

    def stderr(self, data: bytes) -> None:
        """Pass on standard error."""
        self._pass(lambda listener: listener.stderr(data))

    def shown(self, mime: str, data: bytes) -> None:
        """Pass on data to display."""
        self._pass(lambda listener: listener.shown(mime, data))

    def cleared(self, wait: bool) -> None:
        """Pass on a request to clear the output."""
        self._pass(lambda listener: listener.cleared(wait))


class LiveContainer:
    """A named container with an interpreter that stays. `find` and `open_live` return those of an engine."""

    def __init__(self, engine: Engine, request: Request, interpreter: Interpreter) -> None:
        self.name = request.name
        self.options = _comparable(request.options)
        self.image_word = request.image
        self.interpreter = interpreter
        self.engine = engine
        self._switch = Switch()
        self.session = ShellSession(engine, request, self._switch, interpreter=interpreter)

    @property
    def chosen(self) -> bool:
        """Whether the container has been chosen: then it needs no image any more."""
        return self.session.container is not None

    @property
    def container(self) -> Container:
        """The container, which has been chosen."""
        return self.session.opened

    @property
    def image(self) -> Image:
        """The image of the container, which has been chosen."""
        return self.session.image

    @property
    def handle(self) -> ContainerHandle | None:
        """The handle of the container; None if it has not started or has ended."""
        return self.session.handle

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.session.running

    def run(
        self,
        code: str,
        listener: ShellListener,
        *,
        keyboard: Keyboard | None = None,
        timeout: float | None = None,
        progress: Listener | None = None,
    ) -> tuple[Outcome, str]:
        """Run a cell in the interpreter, started if it does not run; return its outcome, and a note for the person.

        SIGINT ends the cell and keeps the interpreter, if this is the main thread. Raises this package's errors.
        """
        session = self.session
        encoded(code, program=code.startswith("#!"))  # nothing starts for a cell that cannot be written
        exec_server.serve(self.engine)
        session.timeout = timeout
        began = time.monotonic()
        self._switch.begin(listener)
        self.engine.live[self.name] = self
        try:
            session.choose(progress)
            end = _interruptible(session, code, keyboard)
        finally:
            self._switch.end()
            if not session.running:
                self.engine.live.pop(self.name, None)
        self._switch.check()
        return end.outcome(time.monotonic() - began), end.note

    def beside(self, listener: ShellListener) -> contextlib.AbstractContextManager[None]:
        """Pass the output of the container on to a listener inside the block, while another process runs in it."""
        return self._switch.to(listener)

    def wake(self) -> None:
        """Wake the interpreter for a cell that is about to come."""
        self.session.wake()

    def ask(self) -> None:
        """Do nothing: `stop` asks the interpreter."""

    def kill(self) -> None:
        """End everything in it at once, and wait for the end; what it wrote is a layer then. Raises as `stop`."""
        self._close(0.0, Reason.ENDED_BY_KILL)

    def stop(self, grace: float = 0.0) -> None:
        """End everything in it; what it wrote is a layer then. An idle interpreter may end by itself meanwhile.

        Raises `StoreError` or `SandboxError` if what it wrote is lost.
        """
        self._close(grace, Reason.STOPPED)

    def _close(self, grace: float, reason: Reason) -> None:
        self.engine.live.pop(self.name, None)
        error = self.session.close(grace, reason)
        if isinstance(error, StoreError | SandboxError):
            raise error


def find(engine: Engine, name: str) -> LiveContainer | None:
    """Return the live container of this process that runs under a name; None if none does."""
    found = engine.live.get(name)
    if isinstance(found, LiveContainer) and found.running:
        return found
    return None


def open_live(engine: Engine, request: Request, word: str) -> LiveContainer:
    """Return the live container of a request, as `reopen` does with the one that runs."""
    return reopen(engine, request, word, find(engine, request.name) if request.name else None)


def reopen(engine: Engine, request: Request, word: str, found: LiveContainer | None) -> LiveContainer:
    """Return the live container of a request: `found`, which runs under its name, or one that starts with a cell.

    `word` names the interpreter; empty for the one that runs, or else the shell. Raises `UsageError` for a request that
    the container cannot fulfil, and `ContainerError` if it runs with another interpreter or other options.
    """
    interpreter = _interpreter(word)
    if not request.name:
        raise UsageError("--live requires --name", hint="name the container, as in `--name dev --live`")
    if request.remove:
        hint = f"end and remove it with `%container rm -f {request.name}`"
        raise UsageError("--rm cannot be used with --live", hint=hint)
    if found is None:
        live, before = LiveContainer(engine, request, interpreter or SHELL), engine.live.get(request.name)
        if isinstance(before, LiveContainer):  # it has ended, and no cell has said so
            live.session.lost_note = before.session.lost_note
        return live
    check_image(found, request)
    stop = f"stop it first: `%container stop {request.name}`"
    if interpreter not in (None, found.interpreter):
        raise ContainerError(f"container '{request.name}' runs a live {found.interpreter.noun}", hint=stop)
    check_options(found, request)
    return found


def check_image(found: LiveContainer, request: Request) -> None:
    """Raise `ContainerError` if a request names another image than that of the running container."""
    if request.image and request.image != found.image_word:
        choose_container(found.engine, request)


def check_options(found: LiveContainer, request: Request) -> None:
    """Raise `ContainerError` if a request asks for options that the running container does not have."""
    if _comparable(request.options) not in (_NO_OPTIONS, found.options):
        hint = f"remove the options, or stop it first: `%container stop {found.name}`"
        raise ContainerError(f"container '{found.name}' runs with other options", hint=hint)


def _comparable(options: RunOptions) -> RunOptions:
    """Return the options but for those of one cell: its time limit."""
    return options if options.timeout is None else replace(options, timeout=None)


_NO_OPTIONS = RunOptions()


def _interpreter(word: str) -> Interpreter | None:
    if word and word not in INTERPRETERS:
        hint = f"write --live, or --live={' or --live='.join(INTERPRETERS)}"
        raise UsageError(f"unknown interpreter '{word}' for --live", hint=hint)
    return INTERPRETERS.get(word)


def _interruptible(session: ShellSession, code: str, keyboard: Keyboard | None) -> CellEnd:
    """Run a cell. SIGINT ends it meanwhile, if this is the main thread."""
    if threading.get_ident() != threading.main_thread().ident:
        return session.run(code, keyboard)
    before = set_handler(signal.SIGINT, lambda *_: session.interrupt())
    try:
        return session.run(code, keyboard)
    finally:
        set_handler(signal.SIGINT, before)
