"""One life of a shell: from the start of its container to the end of everything in that."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import signal
import termios
import threading
from typing import TYPE_CHECKING, Protocol

from nbcontainer.containers.cell import Request, Streams
from nbcontainer.containers.run import run_in
from nbcontainer.linux.procfs import children
from nbcontainer.notebook.kernel.shell import contents
from nbcontainer.notebook.kernel.shell.channel import Channel
from nbcontainer.notebook.kernel.shell.observer import Observer
from nbcontainer.notebook.kernel.shell.processes import Terminal, Wait, missed_interrupt, signal_member
from nbcontainer.sandbox.handle import readable

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Iterable, Mapping

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.outcome import Outcome
    from nbcontainer.sandbox.supervisor import Supervisor

Message = tuple[str, ...]
"""Words on the channel; and, of our own, which nobody says there, `started`, `over` and `interrupt`."""

STARTED, OVER, INTERRUPT = _OWN = "started", "over", "interrupt"

_CHUNK = 1 << 16
_TIOCGPTPEER = 0x5441


class ShellListener(Protocol):
    """Who hears what the cells put out. Called from the thread of a life, as it comes."""

    def stdout(self, data: bytes) -> None:
        """Standard output, and what is written to the terminal."""

    def stderr(self, data: bytes) -> None:
        """Standard error."""

    def shown(self, mime: str, data: bytes) -> None:
        """Something to show."""

    def cleared(self, wait: bool) -> None:
        """The output is to be cleared, or (wait) when there is more."""


class ShellProcess:
    """A shell in its container, run by a thread of its own. What it says goes to `messages`, in order.

    Everything that a cell put out has been heard when the message comes that the cell is done.
    """

    def __init__(
        self,
        engine: Engine,
        container: Container,
        image: Image,
        request: Request,
        listener: ShellListener,
        messages: queue.SimpleQueue[Message],
    ) -> None:
        self.control_directory: Channel | None = None
        self.shell = 0
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self._engine = engine
        self._container = container
        self._image = image
        self._request = request
        self._listener = listener
        self._messages = messages
        self._follow: Supervisor | None = None
        self._pidfd = -1
        self._outputs: list[int] = []
        self._keyboard: Terminal | None = None
        self._observer = Observer(engine.launcher_for(request.options.userns))
        self._thread = threading.Thread(target=self._live, name="nbcontainer-shell", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        streams = Streams(
            self._listener.stdout,
            self._listener.stderr,
            control_directory=contents.control_directory(),
            on_control_directory=self._on_exchange,
            on_follow=self._on_follow,
        )
        try:
            self.outcome = run_in(self._engine, self._container, self._image, self._request, streams)
        except Exception as error:  # it is raised where somebody waits
            self.error = error
        finally:
            if self.control_directory is not None:
                self.control_directory.close()
            self._messages.put((OVER,))

    def _on_follow(self, follow: Supervisor) -> None:
        self._follow = follow
        self._pidfd = os.dup(follow.running.pidfd)  # the other one is closed by the thread, whenever that ends
        self._outputs = list(follow.outputs)

    def _on_exchange(self, directory: int, terminal: int) -> Mapping[int, Callable[[bytes], None]]:
        self.control_directory = control_directory = Channel(directory, terminal)
        peer = fcntl.ioctl(terminal, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        facts = os.fstat(peer)
        os.close(peer)
        self._keyboard = Terminal(facts.st_dev, facts.st_ino)
        self._messages.put((STARTED,))
        return {
            control_directory.channel: self._hear,
            terminal: lambda data: self._listener.stdout(control_directory.unechoed(data)),
        }

    # What the thread hears

    def _hear(self, data: bytes) -> None:
        assert self.control_directory is not None
        for word, *rest in self.control_directory.lines(data):
            if word == "again" and len(rest) == 1 and rest[0].isdecimal():
                self.control_directory.turned(int(rest[0]))
                continue
            self._take_outputs()
            if word == "display" and len(rest) == 3:
                self._show(*rest[:2])
                self.control_directory.sign(rest[2])
            elif word == "clear" and len(rest) == 2:
                self._listener.cleared(rest[0] == "1")
                self.control_directory.sign(rest[1])
            elif word not in _OWN:
                self._messages.put((word, *rest))

    def _take_outputs(self) -> None:
        """Takes what is in the pipes of output now, and so was written before what is on the channel."""
        assert self._follow is not None
        for fd in self._outputs:
            left = _waiting_in(fd)
            while left > 0:
                data = os.read(fd, min(left, _CHUNK))
                self._follow.observer.on_output(fd, data)
                left -= len(data)

    def _show(self, mime: str, name: str) -> None:
        assert self.control_directory is not None
        try:
            data = self.control_directory.take_shown(name)
        except Exception as error:
            self._listener.stderr(f"nbcontainer: cannot show {name}: {error}\n".encode())
        else:
            self._listener.shown(mime, data)

    # What others ask of it

    @property
    def init(self) -> int:
        """Host pid of the container's init; 0 before there is one."""
        return self._follow.running.pid if self._follow is not None else 0

    @property
    def _ended(self) -> bool:
        """Whether init is dead, so that its processes' numbers may be others'."""
        return self._pidfd < 0 or readable(self._pidfd)

    def find_shell(self) -> int:
        """Host pid of the shell, init's first child; its process group's number too. 0 where it is gone."""
        if not self.shell:
            self.shell = next(iter(children(self.init)), 0)
        return self.shell

    @property
    def asks(self) -> Wait | None:
        """Who waits for input from the terminal, where all output that can be taken is.

        The pipes are only polled here, which never waits. What else is done with one is for the thread.
        """
        if self._keyboard is None:
            return None
        try:
            wait = self._keyboard.waiting(self.init)
        except PermissionError:
            wait = self._observer.waiting(self._keyboard, self.init)
        if wait is None or wait.copying or not any(readable(fd) for fd in self._outputs):
            return wait
        return None

    def interrupt(self, signals: Iterable[int]) -> None:
        """Sends the shell, and all that it waits for, the signals that end a cell."""
        group = self.find_shell()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            for number in signals:
                if group and not self._ended:
                    os.killpg(group, number)

    def interrupt_rest(self, since: float, seen: set[int]) -> None:
        """Sends SIGINT to those that have missed it (`processes.missed_interrupt`)."""
        group = self.find_shell()
        if group and not self._ended:
            for pid in missed_interrupt(self.init, since, group, seen):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal_member(pid, group, signal.SIGINT)

    def kill(self) -> None:
        """Ends everything in the container, at once."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def join(self, patience: float | None = None) -> bool:
        """Waits until it is over and settled, at most `patience` seconds; whether it is."""
        self._thread.join(patience)
        if self._thread.is_alive():
            return False
        self._observer.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return True


def _waiting_in(fd: int) -> int:
    """Bytes that a pipe holds (FIONREAD, pipe(7)); none of one that is closed."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]
