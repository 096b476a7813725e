"""`--live=python`: what a cell may do to the Python that runs it, which is there for the next cell all the same."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.live.cell_watch import CellWatch

if TYPE_CHECKING:
    from tests.notebook.conftest import Notebook

START = "%%container host --name dev --live=python\n"
AGAIN = "%%container --name dev --live\n"


LATER = """
async def later():
    try:
        for i in range(1000):
            await asyncio.sleep(0.01)
            print('old', i)
            if i == 2:
                threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
    finally:
        print('cleaned')
await later()
"""


def interrupt_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts each cell as soon as the interpreter says that it begins."""
    begin = CellWatch._begin

    def interrupted(watch: CellWatch, how: str) -> None:
        begin(watch, how)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(CellWatch, "_begin", interrupted)


def test_an_interrupt_at_the_beginning_of_a_cell_ends_it_and_not_python(
    dev: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes before the first line of the cell is not lost: nothing has to be killed for it."""
    dev.good(START + "import time\nx = 5")
    with monkeypatch.context() as patched:
        interrupt_when_it_begins(patched)
        for _ in range(20):
            ran = dev.run(AGAIN + "time.sleep(1000)")
            assert str(ran.error) == "interrupted"
            assert "killed" not in ran.stderr
    assert dev.good(AGAIN + "x") == dev.good(AGAIN + "print(5)")


def test_an_interrupt_before_a_cell_runs_is_for_that_cell(dev: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that was asked for before the interpreter began is sent when it begins."""
    dev.good(START + "import time\nx = 5")
    with monkeypatch.context() as patched:
        send = CellWatch._send

        def interrupted(watch: CellWatch) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            send(watch)

        patched.setattr(CellWatch, "_send", interrupted)
        for _ in range(20):
            ran = dev.run(AGAIN + "time.sleep(1000)")
            assert str(ran.error) == "interrupted"
            assert "killed" not in ran.stderr
    assert dev.good(AGAIN + "print(x)") == "5\n"


def test_what_an_interrupted_cell_awaited_does_not_go_on(dev: Notebook) -> None:
    """The task of the cell is cancelled, with its cleanup; a later cell with `await` runs alone in the event loop."""
    dev.good(START + "import asyncio, os, signal, threading")
    ran = dev.run(AGAIN + LATER)
    assert ran.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "\ncleaned\n" in ran.stdout
    assert dev.good(AGAIN + "await asyncio.sleep(0.1); print('new')") == "new\n"


@pytest.mark.parametrize(
    ("code", "said", "status"),
    [
        ("#!/no/such program\necho hi", "cannot run #!/no/such program: No such file or directory", 127),
        ("#!/etc/passwd\necho hi", "cannot run #!/etc/passwd: Permission denied", 126),
        ("#!/bin/sh\nkill -TERM $$", "", 143),
        ("import sys; sys.stderr = None; sys.exit('x')", "SystemExit", 1),
        ("class Bad:\n    def __str__(self): return 1 / 0\nraise SystemExit(Bad())", "SystemExit", 1),
    ],
)
def test_a_cell_that_fails_in_a_strange_way_does_not_end_python(
    dev: Notebook, code: str, said: str, status: int
) -> None:
    """The cell has the exit status that a shell gives it, and variables remain."""
    dev.good(START + "x = 5")
    ran = dev.run(AGAIN + code)
    assert str(ran.error).startswith(f"exit code {status}")
    assert said in ran.stderr
    assert "ended" not in ran.stderr
    assert dev.good(AGAIN + "print(x)") == "5\n"


def test_the_next_cell_has_an_input_whatever_the_last_one_closed(dev: Notebook) -> None:
    """A closed descriptor 0 goes to no file of a later cell, and `exit()` closes the input of its own cell alone."""
    dev.good(START + "import os\nos.close(0)")
    dev.good(AGAIN + "f = open('/tmp/q', 'w')")
    dev.good(AGAIN + "n = f.write('kept'); f.close()")
    assert dev.good(AGAIN + "print(f.fileno() if not f.closed else open('/tmp/q').read())") == "kept\n"
    dev.good(AGAIN + "exit()")
    assert "EOFError" in dev.run(AGAIN + "input()").stderr
    assert dev.good(AGAIN + "import subprocess; subprocess.run('cat; echo read', shell=True);") == "read\n"


@pytest.mark.parametrize("end", ["\f", "\v", "\x1c", "\u2028"])
def test_a_traceback_shows_the_line_that_failed(dev: Notebook, end: str) -> None:
    """Characters that end lines for `str.splitlines`, as a form feed between functions, end none for Python."""
    ran = dev.run(f"{START}x = 1 #{end} one line\n{end if end == chr(12) else ''}\n1/0 # here")
    assert "1/0 # here" in ran.stderr
    assert "line 3" in ran.stderr


def test_a_value_that_has_every_attribute_is_shown_as_text(dev: Notebook) -> None:
    """A mock answers to each display method, with another mock."""
    shown = dev.good(START + "from unittest.mock import MagicMock, call\nMagicMock(name='it')")
    assert "MagicMock name='it'" in shown
    assert "call" in dev.good(AGAIN + "call")
