"""A process in a container locks a pipe that the notebook reads: the cell still ends, and the notebook with it.

sendfile(2) from a terminal to which nothing is typed locks the pipe that it writes to. A process that reads or closes
such a pipe waits, and no signal ends the wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import DEADLINE, all_dead, descendants, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.running import Ran

# After the first output, `show` waits until the test has seen that the pipe with the rest of it is locked.
NOTEBOOK = """
import select, sys, threading
from pathlib import Path
from nbcontainer.containers import startup
from nbcontainer.containers.engine import Engine
from nbcontainer.outcome import Reason
from tests.running import DEADLINE, run_script

def show(data):
    if begun:
        return
    begun.append(data)
    select.select([sys.stdin], [], [], DEADLINE)

def cell(**options):
    try:
        ran = run_script(engine, sys.argv[2], stdout=show, stderr=show, **options)
        print(ran.outcome.reason, flush=True)
    except KeyboardInterrupt:
        print("KeyboardInterrupt", flush=True)

begun = []
engine = Engine(Path(sys.argv[1]))
startup.start(engine)
{start}
print(run_script(engine, "echo next").text, flush=True)
engine.close()
"""

LONG = "head -c 70000 /dev/zero > /tmp/long; "  # more than the notebook reads at once

PLAIN = LONG + "cat /tmp/long /dev/ptmx"
"""A cell that locks its output pipe with data in it."""

STUBBORN = (
    LONG
    + "trap '' INT TERM; exec >/proc/self/fd/1 2>/proc/self/fd/2; "
    + "cat /dev/ptmx 1<>/dev/nbcontainer/channel & cat /dev/ptmx >&2 & cat /tmp/long /dev/ptmx"
)
"""A cell that takes no signal, opens its pipes again and locks them all, and that of `display`."""

FLOODED = f"(while :; do kill -CHLD 1; (true &); usleep 50000; done) & {PLAIN}"
"""A cell that locks its output pipe, and leaves init no second without a signal and an orphan."""

INPUT = f"exec 4<&0; (while :; do head -c 4096 <&4 >/dev/null; done) & cat /dev/ptmx >/proc/self/fd/4 & {PLAIN}"
"""A cell that also locks the pipe of its input, which the notebook writes to."""


def copies(pid: int) -> bool:
    """Whether a process is a cat that waits in a system call with a terminal's other end open."""
    with contextlib.suppress(OSError):
        files = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        waits = Path(f"/proc/{pid}/syscall").read_text().split()[0] not in ("running", "0", "63")
        return waits and any(name.endswith("ptmx") for name in files)
    return False


def wait_until(happens: Callable[[], bool]) -> None:
    """Wait for something that no event reports."""
    deadline = time.monotonic() + DEADLINE
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waits_in_kernel(pid: int) -> bool:
    """Whether a process's first thread is in an uninterruptible wait."""
    return "\nState:\tD" in Path(f"/proc/{pid}/status").read_text()


class Notebook:
    """A process that runs one cell, which locks pipes. `close` ends all of it."""

    def __init__(self, store: Path, script: str, start: str, locks: int) -> None:
        """Start it, and wait until that many processes lock pipes."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", NOTEBOOK.format(start=start), str(store), script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            self._wait(locks)
        except BaseException:
            self.close()
            raise

    def _wait(self, locks: int) -> None:
        """Wait until that many pipes are locked, and let the notebook read on."""
        assert self.process.stdin is not None
        wait_until(lambda: self._is_locked(locks))
        self.below = descendants(self.process.pid)
        self.fds = pidfds(self.below)
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def _is_locked(self, number: int) -> bool:
        """Whether that many processes hold locks. False if the process ends first."""
        assert self.process.poll() is None
        return sum(map(copies, descendants(self.process.pid))) >= number

    def rest(self) -> list[bytes]:
        """The lines that it writes until it ends, by itself."""
        return self.process.communicate(timeout=DEADLINE)[0].splitlines()

    def close(self) -> None:
        """Kill all that is left: without the promise, each of them holds up the next."""
        for pid in (*descendants(self.process.pid), self.process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=DEADLINE)


@pytest.fixture
def notebook(cell: Callable[..., Ran], store_path: Path) -> Iterator[Callable[[str, str], Notebook]]:
    """Start a notebook with a cell that locks a pipe."""
    cell("true")  # the image is there
    started: list[Notebook] = []

    def start(script: str, how: str) -> Notebook:
        started.append(Notebook(store_path, script, how, {STUBBORN: 3, INPUT: 2}.get(script, 1)))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("script", [PLAIN, STUBBORN, FLOODED, INPUT], ids=["plain", "stubborn", "flooded", "input"])
def test_a_locked_pipe_holds_up_no_time_limit(notebook: Callable[[str, str], Notebook], script: str) -> None:
    """A cell that locks its pipes ends at its time limit, and the next one runs."""
    given = ", stdin=open('/dev/zero').fileno()" if script == INPUT else ""
    one = notebook(script, f"cell(timeout=5.0{given})")
    assert one.rest() == [b"timeout", b"next"]
    assert all_dead(one.fds)


def test_a_locked_pipe_holds_up_no_interrupt(notebook: Callable[[str, str], Notebook]) -> None:
    """An interrupt ends a cell that locks its pipes while the notebook waits for the lock, and the next one runs."""
    one = notebook(STUBBORN, "cell()")
    wait_until(lambda: waits_in_kernel(one.process.pid))
    one.process.send_signal(signal.SIGINT)
    assert one.rest() == [b"interrupted", b"next"]
    assert all_dead(one.fds)


@pytest.mark.parametrize(
    ("script", "number"),
    [
        (STUBBORN, signal.SIGKILL),
        (FLOODED, signal.SIGKILL),
        pytest.param(STUBBORN, signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["killed", "killed and flooded", "terminated"],
)
def test_a_locked_pipe_outlives_no_notebook(
    notebook: Callable[[str, str], Notebook], script: str, number: signal.Signals
) -> None:
    """A notebook that is killed while a cell locks its pipes ends, and all of the cell with it."""
    one = notebook(script, "cell()")
    wait_until(lambda: waits_in_kernel(one.process.pid))
    one.process.send_signal(number)
    assert one.process.wait(DEADLINE) == -number
    assert all_dead(one.fds)


STOP = """
import os, time
from nbcontainer.sandbox import supervisor

found = []
register = supervisor.Supervisor._register
supervisor.Supervisor._register = lambda self: (found.append(self), register(self))
thread = threading.Thread(target=cell)
thread.start()
def waits():
    states = [open(f"/proc/self/task/{task}/status").read() for task in os.listdir("/proc/self/task")]
    return any("State:\tD" in state for state in states)

while not found or not waits():
    time.sleep(0.02)
found[0].stop(Reason.INTERRUPTED)
thread.join()
"""


@pytest.mark.slow
def test_a_locked_pipe_holds_up_no_other_thread(notebook: Callable[[str, str], Notebook]) -> None:
    """Another thread stops a cell whose own thread waits for the lock, although the cell takes no signal."""
    one = notebook(STUBBORN, STOP)
    assert one.rest() == [b"interrupted", b"next"]
    assert all_dead(one.fds)
