"""A run inside a live container: by a new process, beside the interpreter."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nbcontainer.containers.cells.request import encode
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cells.template import Attached, make_template
from nbcontainer.containers.live.joined_streams import JoinedStreams
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import ContainerError
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.joined import ENDED, JoinedHandle
from nbcontainer.sandbox.launcher.joining import script_path
from nbcontainer.sandbox.silent_observer import SilentObserver
from nbcontainer.sandbox.spec import Directory
from nbcontainer.sandbox.steps.devices import SCRIPT
from nbcontainer.sandbox.steps.exchange.display import DRIVER
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rights.user import SetUser
from nbcontainer.sandbox.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.display_channel import DisplayListener
    from nbcontainer.sandbox.handle import ContainerHandle


class Joinable(Protocol):
    """A container of this process that runs now, and in which init starts more processes.

    `options` are those with which it runs. `handle` is None before its start and after its end.
    """

    engine: Engine
    options: RunOptions

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def container(self) -> Container:
        """The container."""

    @property
    def image(self) -> Image:
        """Its image."""

    @property
    def handle(self) -> ContainerHandle | None:
        """Its handle, which another thread reads."""


def check_image(live: Joinable, request: Request) -> None:
    """Raise `ContainerError` if a request names another image than that of the running container."""
    if request.image and request.image != live.image.name:
        choose_container(live.engine, request)


def run_inside(
    live: Joinable, request: Request, streams: Streams, on_follow: Callable[[Supervisor], None] | None = None
) -> Outcome:
    """Return the outcome of a request that a new process runs in a live container.

    It has the namespaces, the user, the capabilities, the filter and the limits of the container, its environment and
    its working directory; the request may add variables, and name another directory and another user. A process that
    it leaves behind runs on until the container stops. `on_follow` gets the supervisor of the process, whose `stop`
    ends that alone. Raises `UsageError`, `ContainerError`, `SetupFailed`.
    """
    check_image(live, request)
    _check(live, request.options)
    container = live.handle
    if container is None:
        raise ContainerError(f"container '{live.name}' has just ended", hint="run the cell again")
    body = encode(request.script) if request.command and request.script is not None else b""
    with contextlib.ExitStack() as stack:
        stdin = streams.stdin
        if request.stdin is not None:
            stdin = request.stdin.open(live.engine.store)
            stack.callback(os.close, stdin)
        opened = stack.enter_context(JoinedStreams(stdin, live.engine.files.output_pipe, body))
        return _run(live, container, request, streams, opened, on_follow)


@contextlib.contextmanager
def _ended_container(name: str) -> Iterator[None]:
    """Raise `ContainerError` for the errors of messages to a container that has ended."""
    try:
        yield
    except OSError as error:
        if error.errno not in ENDED:
            raise
        raise ContainerError(f"container '{name}' has just ended", hint="run the cell again") from None


def _run(
    live: Joinable,
    container: ContainerHandle,
    request: Request,
    streams: Streams,
    opened: JoinedStreams,
    on_follow: Callable[[Supervisor], None] | None,
) -> Outcome:
    """Run the request with these streams, and return its outcome. Raises what `run_inside` raises."""
    with _ended_container(live.name):
        handle = JoinedHandle(container)
    with handle as joined:
        opened.watch(joined, container.kill)
        program = program_of(live, request, joined.number, display=streams.display)
        if program.script:
            opened.send(protocol.memory_file("cell", encode(request.script or "")))
        started, timeout = time.monotonic(), request.options.timeout
        try:
            with _ended_container(live.name):
                joined.start(program.execute, opened.travelling, program.script, user=program.user, limit=timeout)
            opened.close_sent()
            observer = _Observer(dict(zip(opened.outputs, (streams.stdout, streams.stderr), strict=True)))
            supervisor = Supervisor(
                joined, observer, opened.outputs, timeout=timeout, feed=opened.feed, started=started
            )
            if on_follow is not None:
                on_follow(supervisor)
            return supervisor.to_end()
        except BaseException:  # an interrupt before it is supervised
            joined.kill()
            raise


def _check(live: Joinable, options: RunOptions) -> None:
    """Raise `ContainerError` for options of a container that the running one does not have."""
    asked, had = map(_without_own, (options, live.options))
    if asked not in (type(options)(), had):
        hint = f"remove the options, or stop it first: `%container stop {live.name}`"
        raise ContainerError(f"container '{live.name}' runs with other options", hint=hint)


def _without_own(options: RunOptions) -> RunOptions:
    """Return options without what a process in a running container has of its own."""
    process = replace(options.process, env=(), unset_env=(), workdir="", user="")
    return replace(options, process=process, timeout=None)


class JoiningProgram(NamedTuple):
    """The step that starts a process in a running container, and the container path of its script; "" without one.

    `user` is the step of another user than the container's, None for that one.
    """

    execute: Execute
    script: str
    user: SetUser | None


def program_of(
    live: Joinable, request: Request, number: int, terminal: int = 0, *, display: DisplayListener | None = None
) -> JoiningProgram:
    """Return the program of a request. `number` is that of its process, `terminal` how many of its streams are one.

    With `display`, the program of that name is found: what it shows goes to who listens to the container.
    """
    process, asked = live.options.process, request.options.process
    process = replace(
        process,
        env=(*process.env, *asked.env),
        workdir=asked.workdir or process.workdir,
        user=asked.user or process.user,
        terminal=terminal == 3,
        terminal_input=terminal == 1,
    )
    if request.command:
        process = replace(process, entrypoint="")  # the command is the whole one, as with `docker exec`
    options = replace(live.options, process=process)
    whole = replace(request, options=options, image=live.image.name)
    attached = Attached(replace(options.mounts, volumes=(), named=()))
    streams = Streams(_nowhere, _nowhere, display=display)
    template = make_template(live.engine, whole, live.image, streams, attached, live.name)
    enter = template.on(Directory("")).enter
    execute, user = enter[-1], None
    assert isinstance(execute, Execute)
    if asked.user not in ("", live.options.process.user or live.image.config.user):
        user = next(step for step in enter if isinstance(step, SetUser))
    if request.script is None or request.command:
        return JoiningProgram(execute, "", user)
    path = script_path(number)
    argv: list[str] = []
    for word in execute.argv:
        # The file of the driver is there only beside a live Python.
        argv += ["-c", request.driver] if word == DRIVER else [path if word == SCRIPT else word]
    return JoiningProgram(replace(execute, argv=tuple(argv)), path, user)


def _nowhere(_: bytes) -> None:
    pass


class _Observer(SilentObserver):
    """Passes the output of the process to its sinks."""

    def __init__(self, sinks: dict[int, Callable[[bytes], None]]) -> None:
        self._sinks = sinks

    def on_output(self, descriptor: int, data: bytes) -> None:
        self._sinks[descriptor](data)
