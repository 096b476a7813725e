"""One shell process: from the start of its container to the end of everything in it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from typing import TYPE_CHECKING, Protocol

from nbcontainer.containers.cells.streams import Lasting, Streams
from nbcontainer.containers.live.channel import Channel
from nbcontainer.containers.live.messages import OVER, OWN, STARTED
from nbcontainer.containers.live.processes import missed_interrupt, signal_member
from nbcontainer.containers.run import run_in
from nbcontainer.errors import ContainerBusy
from nbcontainer.linux.procfs import children
from nbcontainer.sandbox.display_channel import DisplayListener
from nbcontainer.sandbox.handle import readable
from nbcontainer.sandbox.prompts.line_terminal import LineTerminal
from nbcontainer.sandbox.prompts.observer import Observer
from nbcontainer.sandbox.supervision.lending import Lending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.live.interpreter import Interpreter
    from nbcontainer.containers.live.messages import Message, Messages
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome, Reason
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.prompts.waits import Terminal, Wait
    from nbcontainer.sandbox.supervisor import Supervisor


class ShellListener(DisplayListener, Protocol):
    """Receives the output of cells as it comes: from the thread that waits for the cell, or that of the process."""

    def stdout(self, data: bytes) -> None:
        """Receive standard output, and output to the terminal."""


class ShellProcess:
    """An interpreter in its container, run by a thread of its own. Its messages go to `messages`, in order.

    The thread reads what comes from the container, unless the one that runs cells has borrowed that (`borrow`).

    The listener has all output of a cell before the message that the cell is done. `text` returns the text of the cells
    so far, for the history.
    """

    def __init__(
        self,
        engine: Engine,
        container: Container,
        image: Image,
        request: Request,
        listener: ShellListener,
        messages: Messages,
        interpreter: Interpreter,
        text: Callable[[], str],
    ) -> None:
        self.channel: Channel | None = None
        self.shell = 0
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self._engine = engine
        self._container = container
        self._image = image
        self._request = request
        self._listener = listener
        self._messages = messages
        self._interpreter = interpreter
        self._text = text
        self._supervisor: Supervisor | None = None
        self._lending: Lending | None = None
        self._pidfd = -1
        self._killed: tuple[Reason, float] | None = None
        self.gave_up = False
        """Whether it ended since another cell ran in the container and `end_wait` was called."""
        self._may_wait = True
        self._over = False
        self._outputs: list[int] = []
        self._borrowed = False
        self._terminal: Terminal | None = None
        self._observer = Observer(engine.launcher_for(request.options.privileges.userns))
        self._thread = threading.Thread(target=self._run, name="nbcontainer-shell", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        streams = Streams(
            self._listener.stdout,
            self._listener.stderr,
            control_directory=self._interpreter.directory(),
            on_control_directory=self._on_control_directory,
            on_follow=self._on_follow,
            on_wait=self._on_wait,
            check_wait=self._check_wait,
            lasting=Lasting(self._interpreter.name, self._text),
            on_began=lambda: None,
        )
        try:
            self.outcome = run_in(self._engine, self._container, self._image, self._request, streams)
        except Exception as error:  # the thread that waits raises it
            self.error = error
        finally:
            if self.channel is not None:
                self.channel.close()
            self._over = True
            self._messages.put((OVER,))

    def _on_wait(self, line: str) -> None:
        self._listener.stderr(f"nbcontainer: {line}\n".encode())

    def _check_wait(self) -> None:
        """End the wait for another cell, if this process was killed meanwhile, or `end_wait` called."""
        self.gave_up = not self._may_wait
        if self.gave_up or self._killed is not None:
            raise ContainerBusy(f"container '{self._container.name}' runs another cell", hint="run the cell again")

    def _on_follow(self, follow: Supervisor) -> None:
        self._supervisor = follow
        self._pidfd = os.dup(follow.running.pidfd)  # the thread closes the other one at its end
        self._outputs = list(follow.outputs)
        with contextlib.suppress(OSError):  # too many open files: the thread alone reads then
            self._lending = Lending()
            follow.lend(self._lending)
        if self._killed is not None:
            follow.running.note_end(*self._killed)
            follow.running.kill()

    def _on_control_directory(self, directory: int, terminal: int) -> Mapping[int, Callable[[bytes], None]]:
        self.channel = channel = Channel(directory, terminal, turns=self._interpreter.turns)
        self._terminal = LineTerminal(terminal).peer()
        self._messages.put((STARTED,))
        return {
            channel.replies: self._on_messages,
            terminal: lambda data: self._listener.stdout(channel.without_echo(data)),
        }

    # Messages of the shell, in the thread that reads them

    def _on_messages(self, data: bytes) -> None:
        assert self.channel is not None
        assert self._supervisor is not None
        for word, *rest in self.channel.lines(data):
            if word == "again" and len(rest) == 1 and rest[0].isdecimal() and len(rest[0]) < 10:
                self.channel.add_turns(int(rest[0]))
                continue
            if word != "begun":
                self._supervisor.take_waiting(self._outputs)
            if word not in OWN and not self.channel.serve([word, *rest], self._listener):
                self._messages.put_received((word, *rest))

    # For the thread that runs cells

    def borrow(self) -> bool:
        """Read what comes from the container in `next_message` from now on; return False if that is not possible.

        Then, and after `give_back`, the thread of the process reads it.
        """
        self._borrowed = self._lending is not None and self._lending.borrow()
        return self._borrowed

    def give_back(self) -> None:
        """Let the thread of the process read again. Idempotent."""
        if self._borrowed:
            assert self._lending is not None
            self._borrowed = False
            self._lending.give_back()

    def next_message(self, patience: float | None) -> Message | None:
        """Return the next message; None if there is none within `patience` seconds, or earlier."""
        if not self._borrowed:
            with contextlib.suppress(queue.Empty):
                return self._messages.get(timeout=patience)
            return None
        message = self._messages.next()
        if message is None:
            self._read(patience)
            message = self._messages.next()
        return message

    def _read(self, patience: float | None) -> None:
        """Hand on what comes from the container within that time, or wait until there is a message."""
        assert self._lending is not None
        assert self._supervisor is not None
        self._messages.waker = self._lending.ring
        try:
            ready = self._lending.ready(patience if self._messages.empty() else 0)
        finally:
            self._messages.waker = None
        try:
            for fd, event in ready:
                self._supervisor.take(fd, event)
        except Exception as error:  # what ends the thread of the process there, too
            self._supervisor.fail(error)
            self.give_back()
        if self._lending.over:
            self.give_back()

    # For other threads

    @property
    def handle(self) -> ContainerHandle | None:
        """The handle of the container; None before it has started. This object's thread reads it."""
        return None if self._supervisor is None else self._supervisor.running

    @property
    def noun(self) -> str:
        """The interpreter's name in messages."""
        return self._interpreter.noun

    @property
    def init(self) -> int:
        """Host pid of the container's init; 0 before it has started."""
        return self._supervisor.running.pid if self._supervisor is not None else 0

    @property
    def _ended(self) -> bool:
        """Whether init is dead, so that the pids of its processes may be reused."""
        return self._pidfd < 0 or readable(self._pidfd)

    def find_shell(self) -> int:
        """Return the host pid of the shell, init's first child, which is also its process group; 0 if it has ended."""
        if not self.shell:
            self.shell = next(iter(children(self.init)), 0)
        return self.shell

    @property
    def input_wait(self) -> Wait | None:
        """The thread that waits for input from the terminal, if all output has been read; else None.

        The output pipes are only polled here: the shell's thread reads them.
        """
        if self._terminal is None:
            return None
        try:
            wait = self._terminal.waiting(self.init)
        except PermissionError:
            wait = self._observer.waiting(self._terminal, self.init)
        if wait is None or wait.copying or not any(readable(fd) for fd in self._outputs):
            return wait
        return None

    def interrupt(self, signals: Iterable[int]) -> None:
        """Send the signals that end a cell to the shell and its process group."""
        group = self.find_shell()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            for number in signals:
                if group and not self._ended:
                    os.killpg(group, number)

    def interrupt_rest(self, since: float, seen: set[int]) -> None:
        """Send SIGINT to the processes that have missed it (`processes.missed_interrupt`)."""
        group = self.find_shell()
        if group and not self._ended:
            for pid in missed_interrupt(self.init, since, group, seen):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal_member(pid, group, signal.SIGINT)

    def end_wait(self) -> None:
        """Wait no longer for a cell that runs in the container, here or in another notebook, now or later."""
        self._may_wait = False

    def kill(self, reason: Reason, grace: float = 0.0) -> None:
        """End everything in the container, at once; if it has not started, when it starts.

        `reason` and `grace` are as in its outcome; the first reason holds.
        """
        self._killed = self._killed or (reason, grace)
        if self.handle is not None:
            self.handle.note_end(*self._killed)
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def join(self, patience: float | None = None) -> bool:
        """Wait at most `patience` seconds until it has ended and its layer is saved; return whether it has."""
        if patience == 0 and not self._over:  # each cell looks a few times
            return False
        self._thread.join(patience)
        if self._thread.is_alive():
            return False
        self._observer.close()
        if self._lending is not None:
            self._lending.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return True
