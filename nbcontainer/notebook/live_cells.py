"""`--live`: a cell in a container that runs between cells, as the magics run it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn, cast

from nbcontainer.commands.docker_answers import OPTION_ANSWERS
from nbcontainer.commands.grammar import Command, Option, ValueKind
from nbcontainer.commands.options.table import EXEC_OPTIONS, RUN_OPTIONS
from nbcontainer.commands.run import ARGUMENTS
from nbcontainer.containers.run import run as run_afresh
from nbcontainer.errors import ContainerBusy, ContainerNotFound, UsageError
from nbcontainer.notebook import python_cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job
    from nbcontainer.containers.live.live_container import LiveContainer
    from nbcontainer.notebook.shown_data import CellOutput
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener
    from nbcontainer.sandbox.prompts.asking import Keyboard

OPTION = Option(
    ("--live",),
    "shell|python",
    "keep the container of --name running, with its shell or with `python`, for the next cells with --live",
    alone="",
    kind=ValueKind.CHOICE,
    choices=("shell", "python"),
)


EXEC = Command(
    "exec",
    "NAME COMMAND [ARG...]",
    "Run a command by a new process in a container of this notebook that runs: a job (--bg), or one with --live.",
    (
        *EXEC_OPTIONS,
        Option(("--out",), "VAR", "store standard output in this variable instead of showing it"),
        Option(("--err",), "VAR", "store standard error in this variable"),
        Option(("--no-raise-error",), "", "do not fail if the command fails"),
    ),
    least=1,
    most=1,
    tail=True,
    answers=OPTION_ANSWERS["exec"],
)


def in_container(engine: Engine, words: Words) -> Words:
    """Return the arguments of `exec` as those of a run in its container. Raises `UsageError`, `ContainerNotFound`."""
    name = words.operands.pop()
    if not words.tail:
        raise UsageError("exec: missing command", hint=f"write `%container exec {name} COMMAND`")
    if joinable(engine, name) is None:
        hint = f"start it with `%%container IMAGE --name {name} --bg`, or with --live"
        raise ContainerNotFound(f"no container '{name}' runs in this notebook", hint=hint)
    words.options["name"] = [name]
    return words


def joinable(engine: Engine, name: str) -> LiveContainer | Job | None:
    """Return the live container or the job of this process that runs under a name; None if none does."""
    from nbcontainer.containers.jobs.following import own_job
    from nbcontainer.containers.live import live_container

    job = own_job(engine, name)
    return job if job is not None and job.handle is not None else live_container.find(engine, name)


_OF_CONTAINER = {option.name for option in RUN_OPTIONS} - {option.name for option in EXEC_OPTIONS} - {"name"}


def joins(engine: Engine, words: Words) -> bool:
    """Return whether a cell runs in a container that runs already, and names none of the container's own options."""
    return _OF_CONTAINER.isdisjoint(words.options) and joinable(engine, words.one("name")) is not None


def wake(engine: Engine, line: str) -> bool:
    """Wake the live containers that a cell's first line names; return whether the cell runs in an interpreter."""
    for name, live in list(engine.live.items()):
        if name in line:
            live.wake()
    return "--live" in line


def runs_live(engine: Engine, words: Words) -> bool:
    """Return whether a cell runs in a live container."""
    return words.has(OPTION.name) or words.one("name") in engine.live


def is_untrusted(engine: Engine, words: Words) -> bool:
    """Return whether a cell runs in a container of this process that was started with `--untrusted`."""
    found = joinable(engine, words.one("name"))
    return found is not None and found.options.untrusted


def described(engine: Engine, words: Words) -> str:
    """Return how a cell runs in a live container, for its footer; empty if it has a container of its own."""
    if not runs_live(engine, words):
        return ""
    if words.has(OPTION.name):
        return f"in its {words.one(OPTION.name) or 'shell'}"
    return "by a new process in it"


def refuse_values() -> NoReturn:
    """Raise `UsageError`: a running container has no files of another cell's values."""
    hint = "use files of a volume, or run the cell in a container of its own"
    raise UsageError("--in, --get and --show cannot be used in a live container", hint=hint)


def run(
    engine: Engine,
    request: Request,
    streams: Streams,
    *,
    words: Words,
    shell: Any,
    progress: Callable[[], Listener | None],
) -> tuple[Container, Outcome]:
    """Return the container of a live cell, and the cell's outcome. Raises this package's errors.

    `shell` is IPython's. With `-i`, its frontend answers prompts. `progress` makes what shows that an image is fetched.
    """
    if streams.values is not None:
        refuse_values()
    if request.options.cache not in ("", "off"):
        from nbcontainer.containers.cached.use import note as note_once

        note_once(engine, streams, "it runs in a live container")
    if words.has(OPTION.name):
        return _in_interpreter(engine, request, streams, words, shell, progress)
    found = joinable(engine, request.name)
    if found is None:  # it has ended meanwhile
        return run_afresh(engine, request, streams, progress=progress())
    return _beside(found, request, streams, words)


def _beside(found: LiveContainer | Job, request: Request, streams: Streams, words: Words) -> tuple[Container, Outcome]:
    """Run a cell by a new process in a running container."""
    if words.has("interactive"):
        hint = "give the input by --stdin, or use `nbcontainer exec -it` in a terminal"
        raise UsageError(f"-i cannot be used in container '{found.name}', which is running", hint=hint)
    if request.remove:
        hint = f"remove --rm: `%container rm -f {found.name}` ends and removes it"
        raise UsageError(f"--rm cannot be used in container '{found.name}', which is running", hint=hint)
    from nbcontainer.containers.live.joining import run_inside
    from nbcontainer.containers.live.live_container import LiveContainer

    output = cast("CellOutput", streams.display)
    with found.beside(output) if isinstance(found, LiveContainer) else contextlib.nullcontext():
        return found.container, run_inside(found, request, streams)


def _in_interpreter(
    engine: Engine,
    request: Request,
    streams: Streams,
    words: Words,
    shell: Any,
    progress: Callable[[], Listener | None],
) -> tuple[Container, Outcome]:
    """Run a cell in the interpreter of its container, which is started if it does not run."""
    from nbcontainer.containers.live.live_container import find, reopen

    _check_input(words)
    if request.script is None or request.command:
        hint = "write the cell below `%%container`, without a command"
        raise UsageError("--live runs the cell's body", hint=hint)
    running = find(engine, request.name)
    if running is None and joinable(engine, request.name) is not None:
        hint = f"remove --live to run the cell beside it, or stop it first: `%container stop {request.name}`"
        raise ContainerBusy(f"container '{request.name}' is running as a job", hint=hint)
    word = words.one(OPTION.name) or ("python" if words.has(python_cells.OPTION.name) else "")
    live = reopen(engine, request, word, running)
    listener = None if live.chosen else progress()
    with _keyboard(shell) if words.has("interactive") else _NO_KEYBOARD as keyboard:
        outcome, note = live.run(
            request.script,
            cast("CellOutput", streams.display),
            keyboard=keyboard,
            timeout=request.options.timeout,
            progress=listener,
        )
    if note:
        streams.notify(note)
    return live.session.opened, outcome


def _check_input(words: Words) -> None:
    for name, flag in (("tty", "-t"), ("stdin", "--stdin")):
        if words.has(name):
            raise UsageError(f"{flag} cannot be used in a live container", hint=f"remove {flag}, or use -i")
    if words.has(ARGUMENTS):
        hint = "write them in the body, as in `set -- one two` of a shell, or remove --live"
        raise UsageError("-s cannot be used with --live: the interpreter runs before the cell's arguments", hint=hint)


def _keyboard(shell: Any) -> contextlib.AbstractContextManager[Keyboard]:
    from nbcontainer.notebook.prompts.keyboards import keyboard_of

    return keyboard_of(shell)


_NO_KEYBOARD = contextlib.nullcontext()
