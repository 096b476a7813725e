"""`-i` and `-t` of a cell: the terminal of its programs, and the answers to their prompts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.terminal import WindowSize, raw
from nbcontainer.errors import UsageError
from nbcontainer.notebook.prompts.keyboards import EndOfInput, has_terminal, keyboard_of
from nbcontainer.sandbox.prompts.asking import Prompter
from nbcontainer.sandbox.prompts.line_terminal import LineTerminal
from nbcontainer.sandbox.prompts.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.prompts.asking import Keyboard
    from nbcontainer.sandbox.prompts.waits import Terminal, Wait
    from nbcontainer.sandbox.supervisor import Supervisor

    Sink = Callable[[bytes], None]

_ROWS, _COLUMNS = 24, 80
"""The size of a terminal without a window: that of a VT100. LINES and COLUMNS of the notebook change it."""


def check(words: Words, script: str | None) -> None:
    """Raise `UsageError` if two things give the run its input."""
    if not words.has("interactive"):
        return
    if words.has("stdin"):
        raise UsageError("-i and --stdin both give the input", hint="remove one of them")
    if words.tail and script is not None:
        hint = "remove -i, or write the command into the body"
        raise UsageError("-i: the body of the cell is the input of the command", hint=hint)


@contextlib.contextmanager
def connected(words: Words, streams: Streams, shell: Any, launcher: Launcher) -> Iterator[None]:
    """Connect the terminal of a cell with `-i` or `-t` while the block runs it.

    Raises `UsageError` if `-i` finds no frontend that answers.
    """
    with contextlib.ExitStack() as stack:
        keyboard = stack.enter_context(keyboard_of(shell)) if words.has("interactive") else EndOfInput()
        if words.has("tty") and getattr(shell, "kernel", None) is None and has_terminal() and _in_main_thread():
            streams.on_terminal = stack.enter_context(WindowSize(0)).follow
            if words.has("interactive"):
                stack.enter_context(raw(0))
                streams.keyboard = 0
                yield
                return
        prompts = CellPrompts(keyboard, streams, launcher)
        stack.callback(prompts.close)
        yield


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class CellPrompts:
    """The prompts of one cell: it sees when a program waits for input, asks, and types the answer.

    It takes its place in `streams`. `close` ends its helper process, and shows output that was held.
    """

    def __init__(self, keyboard: Keyboard, streams: Streams, launcher: Launcher) -> None:
        self._observer = Observer(launcher)
        self._prompter = Prompter(keyboard, self._find, self._secret, self._type)
        self._streams = streams
        self._before = streams.on_follow, streams.on_terminal
        self._supervisor: Supervisor | None = None
        self._typed: LineTerminal | None = None
        self._peer: Terminal | None = None
        self._screen: _Screen | None = None
        streams.on_follow, streams.on_terminal, streams.on_glance = self._follow, self._begin, self._look

    def _follow(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        if self._before[0] is not None:
            self._before[0](supervisor)

    def _begin(self, terminal: int) -> Sink:
        if self._before[1] is None:
            set_size(terminal)
        else:
            self._before[1](terminal)
        self._typed = LineTerminal(terminal)
        self._peer = self._typed.peer()
        self._screen = _Screen(self._streams.stdout, self._typed)
        return self._screen

    def _look(self) -> None:
        if self._peer is not None:
            self._prompter.look()

    def _find(self) -> Wait | None:
        """Return the thread that waits for input, if all that was typed and all output has been read; else None."""
        supervisor, peer = self._supervisor, self._peer
        assert supervisor is not None
        assert peer is not None
        if supervisor.typing:
            return None
        try:
            wait = peer.waiting(supervisor.running.pid)
        except PermissionError:
            wait = self._observer.waiting(peer, supervisor.running.pid)
        return None if wait is not None and not wait.copying and _output_waits(supervisor) else wait

    def _secret(self) -> bool:
        assert self._typed is not None
        return self._typed.mode.secret

    def _type(self, answer: str) -> None:
        assert self._supervisor is not None
        assert self._typed is not None
        self._supervisor.type(self._typed.keys(answer))

    def close(self) -> None:
        """End the helper process, and show output that was held."""
        self._observer.close()
        if self._screen is not None:
            self._screen.finish()


def _output_waits(supervisor: Supervisor) -> bool:
    """Return whether a stream of the cell has output that has not been read."""
    poll = select.poll()
    for descriptor in supervisor.outputs:
        poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


class _Screen:
    r"""Shows a terminal's output: without the echo of answers, and with "\n" for "\r\n", as a page shows lines."""

    def __init__(self, sink: Sink, typed: LineTerminal) -> None:
        self._sink = sink
        self._typed = typed
        self._held = b""

    def __call__(self, data: bytes) -> None:
        """Show some output. A return at its end is held until the next byte has come."""
        self._show(self._typed.without_echo(data))

    def _show(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if data:
            self._sink(data.replace(b"\r\n", b"\n"))

    def finish(self) -> None:
        """Show what was held."""
        self._show(self._typed.rest())
        if self._held:
            self._sink(self._held)


def set_size(terminal: int) -> None:
    """Give a terminal that no window shows a size: LINES and COLUMNS of the notebook, or else 24 by 80."""
    size = struct.pack("HHHH", _size("LINES", _ROWS), _size("COLUMNS", _COLUMNS), 0, 0)
    with contextlib.suppress(OSError):  # the container has ended
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def _size(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and 0 < int(text[:6]) < 1 << 16 and len(text) < 6 else default
