"""Many jobs at once, and the end of their notebook: nothing is left of them."""

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

from nbcontainer.containers.cleanup import sweep
from nbcontainer.containers.lookup import list_all
from tests.running import DEADLINE, all_dead, appear, descendants, marker, mounts_of, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine

pytestmark = pytest.mark.slow

JOBS = int(os.environ.get("NBCONTAINER_JOBS", "12"))

NOTEBOOK = """
import signal, sys
from pathlib import Path
from nbcontainer.containers import startup
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs.starting import start

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
engine = Engine(Path(sys.argv[1]))
startup.start(engine)
for number in range(int(sys.argv[3])):
    name = f"many{number}" if number % 2 else ""
    start(engine, Request("busybox", name, script=f"echo made > /made; sleep {sys.argv[2]}"))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def notebook(engine: Engine, store_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a notebook with many jobs, half of them named."""
    started: list[subprocess.Popen[bytes]] = []

    def run(mark: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", NOTEBOOK, str(store_path), mark, str(JOBS)]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
    for container in list_all(engine)[0]:
        if container.name.startswith("many"):
            container.remove()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_of_many_jobs_outlives_their_notebook(
    notebook: Callable[[str], subprocess.Popen[bytes]], engine: Engine, store_path: Path, number: signal.Signals
) -> None:
    """No process, mount or directory is left; at an orderly end, what named containers wrote is saved."""
    mark = marker()
    process = notebook(mark)
    appear(mark, JOBS + 1)  # the notebook has it in its arguments, too
    fds = pidfds(descendants(process.pid))
    assert len(fds) >= 2 * JOBS
    began = time.monotonic()
    process.send_signal(number)
    assert all_dead(fds)
    print(f"{JOBS} jobs ended {time.monotonic() - began:.2f} s after {number.name}")
    _, errors = process.communicate(timeout=DEADLINE)
    assert processes_with(mark) == []
    if number == signal.SIGTERM:
        assert errors.startswith(b"nbcontainer: ended with the notebook: ")
        assert errors.count(b",") == JOBS - 1
        assert {len(one.layers) for one in list_all(engine)[0] if one.name.startswith("many")} == {2}
    sweep(engine)
    assert [line for line in mounts_of(store_path) if f"tmp/{engine.store.session}" not in line] == []
    alive = engine.store.sessions.alive()
    left = [path for path in (store_path / "tmp").iterdir() if path.name.partition(".")[0] not in alive]
    assert left == []


def test_an_interrupt_reaches_no_job(notebook: Callable[[str], subprocess.Popen[bytes]]) -> None:
    """After SIGINT for the notebook, all of its jobs still run."""
    mark = marker()
    process = notebook(mark)
    appear(mark, JOBS + 1)  # the notebook has it in its arguments, too
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"interrupted\n"
    assert len(processes_with(mark)) == JOBS + 1
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
