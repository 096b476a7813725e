"""`nbcontainer`: the verbs in a terminal. The only module that ends the process."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import re
import select
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer._version import __version__
from nbcontainer.api import Result
from nbcontainer.commands import containers
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.explanation_view import ExplanationView
from nbcontainer.commands.grammar import Command, Option, Words, parse
from nbcontainer.commands.progress_line import TerminalLine
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.commands.standard_files import Ending, open_standard_files
from nbcontainer.commands.terminal import WindowSize, raw
from nbcontainer.commands.verbs.copying_verb import CP, copy_stream
from nbcontainer.commands.verbs.debugging import DEBUG, session
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC, exec_request
from nbcontainer.commands.views.job_views import LogOutput
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.run import run
from nbcontainer.errors import NbcontainerError, SetupFailed, StoreError, UsageError
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Reason
from nbcontainer.rendering.text import visible
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.containers.active import ActiveCell
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener
    from nbcontainer.sandbox.explanation import Explanation

    Sink = Callable[[bytes], None]

_RUN = RUN

_TOP = Command(
    "nbcontainer",
    "VERB ...",
    "Containers without a daemon. `VERB --help` shows the options of a verb.",
    (
        Option(("--store",), "DIR", "use this store instead of the user's own"),
        Option(("--json",), "", "print results as JSON"),
        Option(("--version",), "", "print the version"),
    ),
    most=0,
    tail=True,
)

_OUTPUT_HINT = "write it to another place, as in `> FILE`"

_DEMO = Command("demo", "", "Run the quick start, and show its outputs as they come.")

_KERNEL = Command("kernel", "install|freeze|list|remove ...", "Manage kernels whose cells run in a container.")

_MAGIC = re.compile(r"`(?P<magic>%%container|%container|%commit|%cd)\b(?P<rest>[^`]*)`")
"""A command of a notebook in an error's hint."""

# Exit codes of docker run and exec: what went wrong before the program could say anything itself.
_CANNOT_START, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
_BROKEN_PIPE = 141
# Exit codes of timeout(1) and of the shell, whatever the container made of the signal it got.
_TIMED_OUT, _INTERRUPTED = 124, 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program: ends with the container's exit code, 125 to 127 where it could not start, 2 for wrong arguments."""
    words = sys.argv[1:] if arguments is None else arguments
    open_standard_files()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # signs of states, where the locale's encoding has none
    ending = Ending()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup(1) ignores one
            signal.signal(number, ending.begin)
    sys.exit(ending.code_of(functools.partial(_run_program, words)))


def _run_program(words: Sequence[str]) -> int:
    """Run the program with these arguments; return its exit code."""
    try:
        code = _main(words)
    except UsageError as error:
        code = _complain(error, 2)
    except SetupFailed as error:
        started = {errno.ENOENT: _NOT_FOUND, errno.EACCES: _NOT_EXECUTABLE} if error.step == "Execute" else {}
        code = _complain(error, started.get(error.errno, _CANNOT_START))
    except NbcontainerError as error:
        runs = parse(_TOP, words).tail[:1] in ([RUN.name], [PROGRAM_EXEC.name], [DEBUG.name])
        code = _complain(error, _CANNOT_START if runs else 1)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        _let_go_of_output()
        code = _BROKEN_PIPE
    return code


def _complain(error: NbcontainerError, code: int) -> int:
    text, hint = str(error), visible(error.hint)
    if text.endswith(hint):
        text = text.removesuffix(hint) + in_terminal(hint)
    _say_beside(text)
    return code


def _say_beside(text: str) -> None:
    """Write a line to standard error, which may be a terminal that was closed."""
    with contextlib.suppress(OSError):
        print(f"nbcontainer: {text}", file=sys.stderr)


def in_terminal(hint: str) -> str:
    """Return a hint with this program's commands in place of the magics of a notebook.

    A magic that has no such command stays, as in "start it in a notebook, with `%%container --bg`".
    """
    return _MAGIC.sub(lambda found: _as_command(found["magic"], found["rest"]) or found[0], hint)


def _as_command(magic: str, rest: str) -> str:
    """Return the command of a terminal for a magic with what follows it, in backquotes; empty if there is none."""
    if magic == "%cd":
        return f"`cd{rest}`"
    verb = {"%%container": " run", "%commit": " commit"}.get(magic, "")
    name, *words = f"{verb}{rest}".split() or [""]
    if name.startswith("-"):
        return f"`nbcontainer {name}`"
    command = _commands().get(name)
    if command is None or not all(flag in command.spelled for word in words for flag in _flags(word)):
        return ""
    return f"`nbcontainer{verb}{rest}`"


def _flags(word: str) -> list[str]:
    """Return the flags that a word has: none, one, or several of one letter, as in -it."""
    if word.startswith("--"):
        return [word.partition("=")[0]]
    return [f"-{letter}" for letter in word[1:]] if word.startswith("-") else []


def _main(arguments: Sequence[str]) -> int:
    top = parse(_TOP, arguments)
    if top.has("version"):
        _say(f"nbcontainer {__version__}")
        return 0
    if top.has("help") or not top.tail:
        _say(_overview())
        return 0
    name, *rest = top.tail
    if name == _KERNEL.name:
        return _kernel(rest, top)
    command = _command(name)
    words = parse(command, rest)
    if words.has("help"):
        _say(command.describe("nbcontainer "))
        return 0
    if name == "demo":
        from nbcontainer.demo import show

        return show()
    store = host_path(top.one("store")) if top.has("store") else None
    try:
        opened = Engine(store)
    except StoreError:
        if name != "doctor":
            raise
        from nbcontainer.commands.doctor.examination import answer

        return _show(answer(words, store), top)  # it says so, and what else there is to say
    with contextlib.closing(opened) as engine, _refusals(name, engine):
        own = {PROGRAM_EXEC.name: _exec, DEBUG.name: _debug, "run": _run_for_json if top.has("json") else _run}
        if name in own:
            return own[name](engine, words)
        if name == CP.command.name and "-" in words.operands:
            return _show(copy_stream(Invocation(engine, words)), top)
        return _show(containers.VERBS[name].answer(Invocation(engine, words, _listener())), top)


@contextlib.contextmanager
def _refusals(name: str, engine: Engine) -> Iterator[None]:
    """Raise a `StoreError` for what the kernel refuses this process during a verb."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise store_error(f"do {name}", error.filename or engine.store.path, error) from error


def _kernel(words: Sequence[str], top: Words) -> int:
    from nbcontainer.notebook.kernel.specs import commands

    with contextlib.ExitStack() as stack:

        def engine() -> Engine:
            store = host_path(top.one("store")) if top.has("store") else None
            return stack.enter_context(contextlib.closing(Engine(store)))

        return _show(commands.run(words, engine, _listener()), top)


def _show(view: Any, top: Words) -> int:
    if isinstance(view, LogOutput) and not top.has("json"):
        view.write(_writer(1), _writer(2), terminal=os.isatty(1))
        return 0
    if view is not None and (text := json.dumps(view.as_json(), indent=2) if top.has("json") else _text(view)):
        _say(text)
    return 0 if getattr(view, "ok", True) else 1


def _text(view: Any) -> str:
    """Return a view as text; an explanation has comments for a person at a terminal, and none for a program."""
    return view.with_words() if isinstance(view, ExplanationView) and sys.stdout.isatty() else str(view)


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go_of_output()
        problem = f"cannot write to standard output: {error.strerror}"
        raise NbcontainerError(problem, hint=_OUTPUT_HINT) from error


def _let_go_of_output() -> None:
    """What could not be written is forgotten: Python would try, and complain, once more at its own end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _listener() -> Listener | None:
    return TerminalLine(sys.stderr) if sys.stderr.isatty() else None


def _command(name: str) -> Command:
    commands = _commands()
    if (command := commands.get(name)) is None:
        raise containers.unknown(name, "nbcontainer", (*commands, _KERNEL.name))
    return command


def _commands() -> dict[str, Command]:
    """Return the grammar of each verb but `kernel`, by its name."""
    own = {command.name: command for command in (_RUN, PROGRAM_EXEC, DEBUG, _DEMO)}
    return own | {name: verb.command for name, verb in containers.TERMINAL_VERBS.items()}


def _overview() -> str:
    extra = "\n".join(f"  {command.usage}  {command.help}" for command in (_RUN, PROGRAM_EXEC, DEBUG, _DEMO, _KERNEL))
    return f"{_TOP.describe('')}\n\nverbs:\n{extra}\n{containers.overview('', containers.TERMINAL_VERBS)}"


def _run(engine: Engine, words: Words) -> int:
    interactive, terminal = words.has("interactive"), words.has("tty")
    request = request_of(words)
    if interactive and request.stdin is not None:
        raise UsageError("-i and --stdin both give the input", hint="remove one of them")
    if not request.image and not request.name:
        raise UsageError("run: missing image", hint=f"write `{_RUN.usage}`")
    if not terminal:
        streams = Streams(*_screens(request.options), stdin=0 if interactive else None)
        streams.on_cached = streams.notify
        return _exit_code(_run_here(engine, request, streams))
    with _terminal(_screens(request.options), interactive=interactive) as streams:
        outcome = _run_here(engine, request, streams)
    return _exit_code(outcome)


def _run_here(engine: Engine, request: Request, streams: Streams) -> Outcome:
    """Run. Say what was done, and which changes to copy-on-write volumes are dropped with an anonymous container."""
    explained: list[Explanation] = []
    streams.on_explained = explained.append
    try:
        container, outcome = run(engine, request, streams, progress=_listener())
    finally:
        if explained and explained[-1].whole:
            _show(ExplanationView(explained[-1]), Words())
    if container.anonymous and not request.remove:
        for volume in container.record.volumes:
            if volume.layers:
                streams.notify(f"the changes to {volume.source} are dropped: use --name NAME to keep and apply them")
    return outcome


def _debug(engine: Engine, words: Words) -> int:
    terminal = os.isatty(0) and os.isatty(1)
    with session(engine, words, terminal=terminal) as found:
        if not terminal:
            streams = Streams(*_screens(found.request.options), stdin=0)
            return _exit_code(found.run(streams))
        print(f"nbcontainer: {found.title}", file=sys.stderr)
        with _terminal(_screens(found.request.options), interactive=True) as streams:
            outcome = found.run(streams)
        return _exit_code(outcome)


@contextlib.contextmanager
def _terminal(screens: tuple[Sink, Sink], *, interactive: bool) -> Iterator[Streams]:
    """Yield the streams of a run with a terminal, which this program's own is connected to."""
    if interactive and not os.isatty(0):
        raise UsageError("-it requires a terminal on standard input", hint="remove -t, or -i")
    with contextlib.ExitStack() as stack:
        size = stack.enter_context(WindowSize(0 if interactive else 1)) if os.isatty(0 if interactive else 1) else None
        if interactive:
            stack.enter_context(raw(0))
        keyboard = 0 if interactive else None
        streams = Streams(*screens, keyboard=keyboard, on_terminal=size.follow if size else None)
        yield streams


def _exec(engine: Engine, words: Words) -> int:
    """Run a command in a container of a notebook."""
    from nbcontainer.containers.live.exec_client import run_there

    request, timeout = exec_request(words)
    interactive, terminal = words.has("interactive"), words.has("tty")
    running = running_containers(engine.store).get(request.name)
    screens = _screens(running)
    if terminal:
        with _terminal(screens, interactive=interactive) as streams:
            return _exit_code(run_there(engine, request, streams, timeout=timeout))
    streams = Streams(*screens, stdin=0 if interactive else None)
    return _exit_code(run_there(engine, request, streams, timeout=timeout))


def _run_for_json(engine: Engine, words: Words) -> int:
    """Run, and print the result as one JSON document, with the output as text."""
    if words.has("tty"):
        raise UsageError("--json and -t exclude each other", hint="remove one of them")
    out: list[bytes] = []
    err: list[bytes] = []
    streams = Streams(out.append, err.append, stdin=0 if words.has("interactive") else None)
    container, outcome = run(engine, request_of(words), streams, progress=_listener())
    result = Result(container, outcome, b"".join(out), b"".join(err))
    _say(json.dumps(result.as_dict(), indent=2))
    return _exit_code(outcome)


def _exit_code(outcome: Outcome) -> int:
    if outcome.reason == Reason.EXITED:
        return outcome.exit_code
    _say_beside(outcome.describe())
    return {Reason.TIMEOUT: _TIMED_OUT, Reason.INTERRUPTED: _INTERRUPTED}.get(outcome.reason) or outcome.exit_code or 1


def _screens(source: RunOptions | ActiveCell | None) -> tuple[Sink, Sink]:
    """Return what writes the output of a run: bytes as they are, but an untrusted one's controls no terminal."""
    return _screen(1, source), _screen(2, source)


def _screen(fd: int, source: RunOptions | ActiveCell | None) -> Sink:
    if source is None or not source.untrusted or not os.isatty(fd):
        return _writer(fd)
    from nbcontainer.rendering.inert_text import InertText

    return InertText(_writer(fd))


def _writer(fd: int) -> Sink:
    def write(data: bytes) -> None:
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:  # another process that shares the terminal or pipe has set it so
                select.select((), (fd,), ())
            except BrokenPipeError:
                raise
            except OSError as error:
                problem = f"cannot write the container's output: {error.strerror}"
                raise NbcontainerError(problem, hint=_OUTPUT_HINT) from error

    return write
