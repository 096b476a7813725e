"""Processes of a live container are killed, stopped or interrupted at random moments, in a flood too: nothing is left.

`NBCONTAINER_LIVE_KILLS` is how often each is tried, and `NBCONTAINER_LIVE_SEED` chooses other moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import DEADLINE, all_dead, descendants, mounts_of, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.running import Ran

ROUNDS = int(os.environ.get("NBCONTAINER_LIVE_KILLS", "1"))
SEED = os.environ.get("NBCONTAINER_LIVE_SEED", "0")

NOTEBOOK = """
import itertools, os, sys
from pathlib import Path
from nbcontainer.containers import startup
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.live.live_container import open_live
from nbcontainer.errors import NbcontainerError

class Output:
    def stdout(self, data):
        pass
    stderr = stdout
    def shown(self, mime, data):
        pass
    def cleared(self, wait):
        pass

store, image, word, *cells = sys.argv[1:]
engine = Engine(Path(store))
startup.start(engine)
live = None
for code in itertools.cycle(cells):
    try:
        live = open_live(engine, Request(image, f"live{os.getpid()}"), word)
        outcome, note = live.run(code, Output())
        print("ran", flush=True)
    except NbcontainerError as error:
        print("error", error, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""

SHELL = ("x=5", "seq 1000", "sleep 0.02 & true", "setsid sleep 1000 & true", "head -c 3000000 /dev/zero", "false")
PYTHON = (
    "x = 5",
    "print('y\\n' * 500000)",
    "import subprocess; p = subprocess.Popen(['sleep', '1000'])",
    "1/0",
    "pass",
)


HOW = ("killed", "interrupted", "stopped", "notebook")

COMMANDS = ("sh", "ash", "sleep", "seq", "head", "python3")
"""The names of programs of the cells."""


class Notebook:
    """A process that runs live cells until it is killed."""

    def __init__(self, store: Path, python: bool) -> None:
        """Start it, and wait for its first cell; end it if that does not run."""
        words = ("host", "python", *PYTHON) if python else ("busybox", "shell", *SHELL)
        self.process = subprocess.Popen(
            [sys.executable, "-c", NOTEBOOK, str(store), *words],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        try:
            assert self.next() == b"ran\n"
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def next(self) -> bytes:
        """What the next cell says: `ran`, or an error."""
        return self.lines.readline()

    def programs(self) -> list[int]:
        """The processes of its cells."""
        return sorted(pid for pid in descendants(self.process.pid) if _name(pid) in COMMANDS)

    def runs_again(self) -> bool:
        """Whether one of the next cells runs."""
        return any(self.next() == b"ran\n" for _ in range(8))

    def end(self, number: signal.Signals) -> bool:
        """End it by a signal; return whether all of it has ended."""
        watched = pidfds([self.process.pid, *descendants(self.process.pid)])
        os.kill(self.process.pid, number)
        self.process.wait(DEADLINE)
        self.lines.close()
        return all_dead(watched)


def _name(pid: int) -> str:
    """The name of a process's program; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def disturb(notebook: Notebook, how: str, chance: random.Random) -> None:
    """Do something to the notebook or its container at a random moment."""
    time.sleep(chance.random() * 0.2)
    if how == "interrupted":
        os.kill(notebook.process.pid, signal.SIGINT)
        return
    programs = notebook.programs() if how != "notebook" else []
    for pid in chance.sample(programs, min(len(programs), 2)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_nothing_is_left_of_a_live_container(cell: Callable[..., Ran], store_path: Path, how: str) -> None:
    """Whatever happens to a live container and when, the end of its notebook ends all of it, and leaves no mount.

    After a kill and after an interrupt, its cells run again.
    """
    cell("true")
    for number in range(ROUNDS):
        chance = random.Random(f"{SEED} {how} {number}")
        before = mounts_of(store_path)
        notebook = Notebook(store_path, python=bool((number + HOW.index(how)) % 2))
        try:
            disturb(notebook, how, chance)
            assert how in ("stopped", "notebook") or notebook.runs_again()
        finally:
            ended = notebook.end(signal.SIGKILL)
        assert ended, number
        assert mounts_of(store_path) == before
