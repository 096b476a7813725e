"""Running a cell in a test, and looking at what it leaves running."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import select
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.containers import run
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.options import run_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.launcher.client import Launcher

DEADLINE = 60.0
"""Seconds to wait for an event that comes at once, unless something is broken or the machine is very busy."""


@dataclass(frozen=True)
class Ran:
    """A cell that ran: its container, its outcome, and what it wrote."""

    container: Container
    outcome: Outcome
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its standard output as text, without the last line's end."""
        return self.stdout.decode().removesuffix("\n")

    @property
    def lines(self) -> list[str]:
        """The lines of its standard output."""
        return self.stdout.decode().splitlines()


def run_script(
    engine: Engine,
    script: str | None,
    *,
    image: str = "busybox",
    name: str = "",
    command: tuple[str, ...] = (),
    remove: bool = False,
    stdin: int | None = None,
    keyboard: int | None = None,
    stdout: Callable[[bytes], None] | None = None,
    stderr: Callable[[bytes], None] | None = None,
    **options: Any,
) -> Ran:
    """Runs a cell to its end. `options` are fields of `run_options`; `stdout` and `stderr` get its output instead."""
    out: list[bytes] = []
    err: list[bytes] = []
    request = Request(image, name, command, script, remove, run_options(options))
    streams = Streams(stdout or out.append, stderr or err.append, stdin, keyboard)
    container, outcome = run.run(engine, request, streams)
    return Ran(container, outcome, b"".join(out), b"".join(err))


def marker() -> str:
    """A number of seconds to sleep that nobody else sleeps: `sleep MARKER` is known again by its command line."""
    return str(secrets.randbelow(10**9) + 10**9)


def processes_with(word: str) -> list[int]:
    """Host pids of the processes with `word` as an argument of their command line, this one left out."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):
                if word.encode() in (path / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(path.name))
    return found


def init_of(word: str) -> int:
    """Host pid of the pid 1 above the processes with `word` in their command line (NSpid in proc_pid_status(5)).

    Waits until there is one: a shell says its next word before what it has forked is the program.
    """
    for found in appear(word, 1):
        pid = found
        while pid > 1:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            if status["NSpid"].split()[-1] == "1":
                return pid
            pid = int(status["PPid"])
    raise AssertionError(f"no container runs {word}")


def appear(mark: str, number: int) -> list[int]:
    """Host pids of the processes with `mark` in their words, when there are `number` of them.

    Nobody tells when a process in another pid namespace starts a program: it has to be looked for.
    """
    deadline = time.monotonic() + DEADLINE
    while len(found := processes_with(mark)) < number:
        assert time.monotonic() < deadline, f"{len(found)} of {number} processes with {mark} came up"
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def interrupt_beside(mark: str) -> Iterator[None]:
    """When a process with `mark` runs and the main thread waits, another thread takes a SIGINT.

    To the main thread, that is a signal that came just before the system call in which it waits.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = Path(f"/proc/self/task/{threading.main_thread().native_id}/stat")

    def work() -> None:
        appear(mark, 1)
        asleep = 0  # often enough in turn that no short wait is meant
        while asleep < 20:
            asleep = asleep + 1 if main.read_text().rpartition(") ")[2][0] == "S" else 0
            time.sleep(0.005)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


def descendants(pid: int) -> set[int]:
    """Host pids of the living processes below `pid` in the tree of processes (field 4 of proc_pid_stat(5))."""
    children: dict[int, set[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (path / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(parent), set()).add(int(path.name))
    found: set[int] = set()
    todo = {pid}
    while todo:
        todo = set().union(*(children.get(one, set()) for one in todo)) - found
        found |= todo
    return found


def beginners(launcher: Launcher) -> set[int]:
    """The processes whose children are the inits of a launcher: its own, and the server of the compiled helper."""
    own, helper = launcher.pid, launcher.connection.helper
    return {own} if helper is None else {own, helper.pid}


def processes_of(launcher: Launcher) -> set[int]:
    """The pids of the inits of a launcher, and of all below them."""
    return {pid for begun in beginners(launcher) for pid in descendants(begun)}


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def limit_with_room(room: int) -> int:
    """The limit on open files (RLIMIT_NOFILE) at which this process can open `room` more: its numbers have gaps."""
    names = [int(link.name) for link in Path("/proc/self/fd").iterdir()]
    there = {number for number in names if os.path.lexists(f"/proc/self/fd/{number}")}  # not that of the listing
    return next(itertools.islice((number for number in itertools.count() if number not in there), room, None))


def pidfds(pids: Iterable[int]) -> list[int]:
    """Descriptors of processes, for `all_dead`, which closes them; one that is dead already is left out."""
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
    return found


def all_dead(fds: list[int], seconds: float = DEADLINE) -> bool:
    """Whether the processes of these descriptors are dead within `seconds`. Closes the descriptors."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    waiting = set(fds)
    try:
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                waiting.discard(fd)
        return not waiting
    finally:
        for fd in fds:
            os.close(fd)


def mounts() -> list[str]:
    """The lines of this process's mountinfo (proc_pid_mountinfo(5))."""
    return Path("/proc/self/mountinfo").read_text().splitlines()


def mounts_of(store: Path) -> list[str]:
    """Those mounts that are in a store, or made of one."""
    sessions = [path.name for path in (store / "sessions").iterdir()]
    return [line for line in mounts() if str(store) in line or any(f"tmp/{session}." in line for session in sessions)]


def make_deep(tree: Path, levels: int) -> None:
    """Makes a tree with so many directories below each other, and a file in the lowest one."""
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=fd))
    os.close(fd)
