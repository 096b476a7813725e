"""A background process of a live container locks the pipe of a process that joins it: the notebook does not wait.

`test_pipe_locks.py` has the lock itself.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.attacks.test_pipe_locks import LONG, Notebook, wait_until, waits_in_kernel
from tests.running import all_dead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.running import Ran

LIVE = """
import os

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.live import joining
from nbcontainer.containers.live.exec_client import ExecRequest, run_there
from nbcontainer.containers.live.live_container import open_live
from nbcontainer.containers.options import run_options

class Output:
    text = ""
    def stdout(self, data):
        self.text += data.decode()
    stderr = stdout

def variable():
    output = Output()
    live.run("echo $x", output)
    return output.text.strip()

def join(script, **options):
    request = Request(name=name, script=script, options=run_options(options))
    return joining.run_inside(live, request, Streams(show, show))

def hide():
    from nbcontainer.sandbox import join_watch
    join_watch._locked_by = lambda pid: ()

def execute(script):
    return run_there(engine, ExecRequest(name, ("sh", "-c", script)), Streams(show, show))

name = f"locker{{os.getpid()}}"
live = open_live(engine, Request("busybox", name), "shell")
live.run(sys.argv[2], Output())
try:
    print({call}.reason, flush=True)
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
print(variable() or "gone", flush=True)
live.stop(0)
live.container.remove()
"""

LOCKER = (
    f"x=kept; {LONG}"
    "(while [ ! -e /tmp/pid ]; do sleep 0.01; done; exec >/proc/$(cat /tmp/pid)/fd/1; "
    "timeout 5 cat /tmp/long; >/tmp/open; {lock}) & "
)
ONCE = LOCKER.format(lock="exec cat /dev/ptmx")
AGAIN = LOCKER.format(lock="while :; do cat /dev/ptmx & cat /dev/ptmx & cat /dev/ptmx; done")
"""Background processes that write to the pipe of the process whose pid is in a file, and lock it.

The output comes before that process ends. It is more than the pipe holds: all of it is written when the notebook
has read the first part, and waits until the test has seen the lock. The rest is in the pipe then, and does not fill it:
who locks a full pipe waits for space, without the lock. A user with many pipes has small ones, which it fills (pipe(7),
pipe-user-pages-soft).
"""

JOINED = "echo $$ >/tmp/new; mv /tmp/new /tmp/pid; while [ ! -e /tmp/open ]; do sleep 0.01; done; "
"""A process that waits until the background process has its pipe."""

ENDS, STAYS = JOINED + "exit 0", JOINED + "exec sleep 1000"


@pytest.fixture
def notebook(cell: Callable[..., Ran], store_path: Path) -> Iterator[Callable[[str, str], Notebook]]:
    """Start a notebook with a live container that runs a script, and then a call."""
    cell("true")  # the image is there
    started: list[Notebook] = []

    def start(script: str, call: str) -> Notebook:
        started.append(Notebook(store_path, script, LIVE.format(call=call), 1))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("call", ["join", pytest.param("execute", marks=pytest.mark.slow)])
def test_a_joined_process_that_has_ended_holds_up_nothing(notebook: Callable[[str, str], Notebook], call: str) -> None:
    """When a joined process has ended, the process that locks its pipe is ended, and the shell keeps its state."""
    assert notebook(ONCE, f"{call}({ENDS!r})").rest() == [b"exited", b"kept", b"next"]


@pytest.mark.slow
def test_a_time_limit_of_a_joined_process_holds(notebook: Callable[[str, str], Notebook]) -> None:
    """The time limit of a joined process ends it although its pipe is locked, and the shell keeps its state."""
    assert notebook(ONCE, f"join({STAYS!r}, timeout=0.5)").rest()[1:] == [b"kept", b"next"]


def test_an_interrupt_ends_a_joined_process_alone(notebook: Callable[[str, str], Notebook]) -> None:
    """An interrupt ends a joined process whose pipe is locked, and the shell keeps its state."""
    one = notebook(ONCE, f"join({STAYS!r})")
    wait_until(lambda: waits_in_kernel(one.process.pid))
    one.process.send_signal(signal.SIGINT)
    assert one.rest() == [b"interrupted", b"kept", b"next"]


@pytest.mark.slow
def test_a_pipe_that_is_locked_again_and_again_holds_up_nothing(notebook: Callable[[str, str], Notebook]) -> None:
    """If other processes lock the pipe after those that were ended, the cell still ends, and the next one runs."""
    ended, *_, following = notebook(AGAIN, f"join({ENDS!r})").rest()
    assert (ended, following) == (b"exited", b"next")


@pytest.mark.slow
def test_a_process_that_cannot_be_seen_ends_the_container(notebook: Callable[[str, str], Notebook]) -> None:
    """If the process that locks the pipe is not found, the container ends, and its next cell runs in a new shell."""
    one = notebook(ONCE, f"hide() or join({ENDS!r})")
    assert one.rest() == [b"exited", b"gone", b"next"]
    assert all_dead(one.fds)
