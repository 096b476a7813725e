"""The notebook's process dies in the middle of a cell: nothing of the cell's outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import startup
from nbcontainer.containers.engine import Engine
from tests.running import DEADLINE, all_dead, appear, descendants, marker, mounts_of, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.running import Ran

    Cell = Callable[..., Ran]

NOTEBOOK = """
import signal
import sys
from pathlib import Path
from nbcontainer.containers import startup
from nbcontainer.containers.engine import Engine
from tests.running import run_script

def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()

for number in (signal.SIGHUP, signal.SIGTERM):  # whatever the tests were started with: nohup(1) has one ignored
    signal.signal(number, signal.SIG_DFL)

def main():
    run_script(engine, sys.argv[2], stdout=show, stderr=show)

engine = Engine(Path(sys.argv[1]))
startup.start(engine)
{start}
"""

STARTS = {
    "main thread": "main()",
    "another thread": "import threading; t = threading.Thread(target=main); t.start(); t.join()",
}


@pytest.fixture
def notebook(cell: Cell, store_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a Python process that runs a cell in the test's store, and waits until the cell has said `ready`."""
    cell("true")  # the image is there
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str, how: str = "main()") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", NOTEBOOK.format(start=how), str(store_path), script],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_nothing_outlives_the_notebook(
    notebook: Callable[..., subprocess.Popen[bytes]], store_path: Path, number: signal.Signals, how: str
) -> None:
    """Whatever ends the notebook, every process of its containers, the launcher and the spares are gone at once."""
    seconds = marker()
    stubborn = f"sh -c 'trap \"\" INT TERM HUP; sleep {seconds}' & setsid sleep {seconds} & "
    process = notebook(stubborn + f"trap '' INT TERM HUP; echo ready; sleep {seconds}", how)
    fds = pidfds(descendants(process.pid))
    assert len(fds) >= 5
    process.send_signal(number)
    process.wait()
    assert all_dead(fds, DEADLINE)
    assert processes_with(seconds) == []
    assert mounts_of(store_path) == []


def test_an_interrupt_of_the_process_ends_the_cell(notebook: Callable[..., subprocess.Popen[bytes]]) -> None:
    """SIGINT ends the cell and not the process, which ends by itself, and with it the launcher and the spares."""
    seconds = marker()
    process = notebook(f"setsid sleep {seconds} & echo ready; sleep {seconds}")
    fds = pidfds(descendants(process.pid))
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 0
    assert all_dead(fds, DEADLINE)
    assert processes_with(seconds) == []


def test_a_stopped_notebook_is_not_a_dead_one(notebook: Callable[..., subprocess.Popen[bytes]]) -> None:
    """SIGSTOP does not end the containers; SIGKILL of the stopped process does."""
    seconds = marker()
    process = notebook(f"sleep {seconds} & echo ready; wait")
    fds = pidfds(descendants(process.pid))
    process.send_signal(signal.SIGSTOP)
    assert appear(seconds, 1)
    process.kill()
    process.wait()
    assert all_dead(fds, DEADLINE)


@pytest.mark.parametrize("how", STARTS.values(), ids=STARTS)
def test_what_the_notebook_ignores_is_not_ignored_inside(
    notebook: Callable[..., subprocess.Popen[bytes]], how: str
) -> None:
    """A notebook that was started with signals ignored, by nohup(1), say, has cells whose signals are the kernel's."""
    ignore = "[signal.signal(number, signal.SIG_IGN) for number in (1, 2, 3, 10, 12, 15, 17, 28)]"
    process = notebook("echo ready; grep SigIgn /proc/self/status", f"{ignore}; engine.close(); {how}")
    assert process.stdout is not None
    name, mask = process.stdout.read().split()
    # Two signals of the C library's own are ignored by whatever posix_spawn(3) of glibc starts: 32 and 33.
    assert (name, int(mask, 16) & ~(0b11 << 31)) == (b"SigIgn:", 0)
    assert process.wait(DEADLINE) == 0


def test_the_next_start_sweeps(notebook: Callable[..., subprocess.Popen[bytes]], store_path: Path) -> None:
    """What a killed notebook left in the store's `tmp`, and its anonymous containers, are gone after a start."""
    seconds = marker()
    process = notebook(f"echo x > /file; chmod 000 /file; mkdir -p /a/b; echo ready; sleep {seconds}")
    fds = pidfds(descendants(process.pid))
    process.kill()
    process.wait()
    assert all_dead(fds, DEADLINE)
    dead = {path.name for path in (store_path / "sessions").iterdir()}
    assert list((store_path / "tmp").iterdir()) != []
    engine = Engine(store_path)
    try:
        startup.start(engine)
        engine.background.wait()
        alive = {path.name for path in (store_path / "sessions").iterdir()}
        left = {path.name.partition(".")[0] for path in (store_path / "tmp").iterdir()}
        assert left <= alive
        assert not left & (dead - alive)
    finally:
        engine.close()


def test_two_notebooks_share_a_store(
    notebook: Callable[..., subprocess.Popen[bytes]], cell: Cell, engine: Engine
) -> None:
    """A notebook that is killed does not disturb another one's cells in the same store."""
    process = notebook("echo ready; sleep 1000")
    assert cell("echo here").text == "here"
    process.kill()
    process.wait()
    startup.start(engine)
    engine.background.wait()
    assert cell("echo still").text == "still"
