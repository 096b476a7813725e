"""Interrupts of the kernel's cells, at every moment: the cell ends, and the shell stays."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.live import cell_watch, session
from nbcontainer.containers.live.channel import Channel
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.steps.exchange.display import CHANNEL, EXCHANGE
from tests.notebook.shell_cells import wait_for
from tests.running import DEADLINE, all_dead, marker, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.notebook.shell_cells import Cells
    from tests.notebook.shell_kernels import ShellKernel


class Impatient:
    """A keyboard of somebody who, asked for a line, interrupts."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt

    def ask(self, secret: bool) -> None:
        self._interrupt()

    def answer(self) -> str | None:
        return None


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is killed because it had no processor for some seconds; a test that wants that asks for less."""
    monkeypatch.setattr(cell_watch, "GRACE", DEADLINE)
    monkeypatch.setattr(cell_watch, "LAST_GRACE", DEADLINE)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("echo ready; sleep 1000", id="a program"),
        pytest.param("echo ready; while :; do :; done", id="a loop of the shell's own"),
        pytest.param("f() { echo ready; while sleep 1000; do :; done; }; f", id="a function"),
        pytest.param("(echo ready; sleep 1000); sleep 1000", id="a subshell"),
        pytest.param("echo ready; sleep 1000 | sleep 1000", id="a pipeline"),
        pytest.param("sleep 2000 & echo ready; wait", id="waiting for a job"),
        pytest.param("x=$(echo ready >&2; sleep 1000); echo $x", id="a command substitution"),
        pytest.param("echo ready; yes", id="a flood"),
        pytest.param("echo ready; while :; do echo line; done", id="a flood of the shell's own"),
        pytest.param(
            "sh -c 'trap \"exit 0\" INT; echo ready; read x < /tmp/never'; sleep 1000", id="a program that ends well"
        ),
        pytest.param("set -e; echo ready; sleep 1000; false", id="under set -e"),
        pytest.param("trap 'echo caught' INT; echo ready; sleep 1000; sleep 1000", id="with a trap of the cell's own"),
    ],
)
def test_an_interrupt_ends_the_cell_and_keeps_the_shell(cells: Cells, code: str) -> None:
    """Nothing after what runs is done, the cell fails as interrupted, and the next has all of the shell's state."""
    seconds = marker()
    cells.good(f"kept=1; mkfifo /tmp/never; sleep {seconds} &")
    wait_for(lambda: processes_with(seconds))
    cells.heard.when("ready", cells.shell.interrupt)
    ran = cells(f"{code.replace('1000', seconds + '1')}; echo not")
    assert ran.end.reason == Reason.INTERRUPTED
    assert ran.end.note == ""
    assert "not\n" not in ran.out[-100:]
    wait_for(lambda: not processes_with(seconds + "1"))
    assert processes_with(seconds), "a job of an earlier cell is nobody's to interrupt"
    assert cells("set +e; trap - INT; echo $kept").out == "1\n"


def test_an_interrupt_ends_a_cell_that_waits_for_input(cells: Cells) -> None:
    """A question that was asked is not waited for any more."""
    cells.good("kept=1")
    ran = cells("read x; echo not", Impatient(cells.shell.interrupt))
    assert (ran.end.reason, ran.out) == (Reason.INTERRUPTED, "")
    assert cells.good("echo $kept") == "1\n"


def test_an_interrupt_of_an_idle_shell_is_nothing(cells: Cells) -> None:
    """It is not kept for the next cell."""
    cells.good("kept=1")
    cells.shell.interrupt()
    assert cells.good("echo $kept; sleep 0") == "1\n"


def test_interrupts_at_any_moment_are_seen_by_their_cell_alone(cells: Cells) -> None:
    """Fifty cells, interrupted at each of their commands in turn or after their end: each one ends, and all is kept."""
    cells.good("kept=1; n=0")
    for number in range(50):
        cells.heard.when(str(number % 5), cells.shell.interrupt)
        ran = cells("n=$((n + 1)); for i in 0 1 2 3 4; do echo $i; done; sleep 0")
        assert ran.end.note == ""
        assert ran.end.reason in ("exited", Reason.INTERRUPTED)
        cells.heard.when("", None)
        assert cells.good("echo $kept") == "1\n"
    assert cells.good("echo $n") == "50\n"


def test_a_stubborn_program_is_killed_and_the_shell_stays(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ignores the interrupt is killed after a while, and a note says so."""
    monkeypatch.setattr(cell_watch, "GRACE", 0.3)
    seconds = marker()
    cells.good("kept=1")
    cells.heard.when("ready", cells.shell.interrupt)
    ran = cells(f"sh -c \"trap '' INT TERM; echo ready; sleep {seconds}; sleep {seconds}\"; echo not")
    assert ran.end.reason == Reason.INTERRUPTED
    assert "killed" in ran.end.note
    assert "not" not in ran.out
    assert all_dead(pidfds(processes_with(seconds)))  # a killed process may die a moment later
    assert cells.good("echo $kept") == "1\n"


def test_a_stubborn_shell_is_killed_and_comes_back(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that ignores everything is killed with its container; the next cell has a new one on the same files."""
    monkeypatch.setattr(cell_watch, "GRACE", 0.2)
    monkeypatch.setattr(cell_watch, "LAST_GRACE", 0.2)
    cells.good("echo kept > /file; x=1")
    cells.heard.when("ready", cells.shell.interrupt)
    ran = cells("trap '' INT TERM URG; echo ready; while :; do :; done")
    assert ran.end.reason == Reason.INTERRUPTED
    assert "a new one" in ran.end.note
    assert cells.good('cat /file; echo "[$x]"') == "kept\n[]\n"


def test_a_second_interrupt_does_not_wait(cells: Cells) -> None:
    """Pressing stop twice kills what ignored the first at once."""
    cells.good("kept=1")

    def twice() -> None:
        cells.shell.interrupt()
        cells.shell.interrupt()

    cells.heard.when("ready", twice)
    ran = cells("sh -c \"trap '' INT; echo ready; sleep 1000\"")
    assert ran.end.reason == Reason.INTERRUPTED
    assert cells.good("echo $kept") == "1\n"


NOISE = f"(while :; do echo noise; sleep 0.1; done > {EXCHANGE}/{CHANNEL}) &"
"""Writes messages for the notebook, some in each time for which it waits for one."""
FLOOD = NOISE.replace("sleep 0.1; ", "")
"""Writes so many that those of the shell are lost among them."""


@pytest.mark.parametrize("other", ["", NOISE], ids=["alone", "beside other messages"])
def test_a_shell_that_does_not_answer_after_an_interrupt_is_killed(
    make_cells: Callable[..., Cells], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The cell ends and says so, and the next one runs in a new shell."""
    cells, send = make_cells("ash"), Channel.send

    def dropping(channel: Channel, line: str) -> None:
        if not line.startswith("sync "):
            send(channel, line)

    cells.good(f"kept=1; echo > /kept\n{other}")
    cells.heard.when("ready", cells.shell.interrupt)
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "send", dropping)
        patch.setattr(cell_watch, "GRACE", 1.0)
        ran = cells("echo ready; sleep 1000")
    assert ran.end.reason == Reason.INTERRUPTED
    assert ran.end.note.startswith("the shell was killed, since it did not answer after the interrupt: the next cell")
    assert cells.good("ls /kept; echo $kept") == "/kept\n\n"


def test_a_time_limit_ends_the_cell(make_cells: Callable[..., Cells]) -> None:
    """--timeout is for each cell, and keeps the shell too."""
    cells = make_cells("ash")
    cells.good("kept=1")
    cells.shell.timeout = 0.5
    assert cells("sleep 1000").end.reason == Reason.TIMEOUT
    cells.shell.timeout = None
    assert cells.good("echo $kept") == "1\n"


@pytest.mark.parametrize("how", ["an interrupt", "a time limit", "a question"])
def test_a_flood_of_messages_puts_off_no_end(
    make_cells: Callable[..., Cells], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What waits for the shell looks at the time, whatever a process of the container writes."""
    for name in ("GRACE", "LAST_GRACE"):
        monkeypatch.setattr(cell_watch, name, 0.5)
    monkeypatch.setattr(session, "_QUESTION_LIMIT", 0.5)
    cells = make_cells("ash")
    cells.good("echo > /kept")
    flood = f"{FLOOD}\necho ready; sleep 1000"
    if how == "an interrupt":
        cells.heard.when("ready", cells.shell.interrupt)
        assert cells(flood).end.reason == Reason.INTERRUPTED
    elif how == "a time limit":
        cells.shell.timeout = 0.5
        assert cells(flood).end.reason == Reason.TIMEOUT
    else:
        assert cells.shell.ask(flood) == ""
        # The shell may have taken longer than the grace and be a new one: the container is the same.
        assert cells("ls /kept").out == "/kept\n"


@pytest.mark.parametrize("how", ["the message", "the signal"])
def test_a_frontend_interrupts_by_message_or_by_signal(shell_kernel: ShellKernel, how: str) -> None:
    """Both ways that Jupyter has end the cell with one short error."""
    cell = shell_kernel.send("x=1; echo ready; sleep 1000").until("ready")
    if how == "the message":
        shell_kernel.interrupt()
    else:
        os.kill(shell_kernel.pid, signal.SIGINT)
    cell.end()
    assert cell.status == "error"
    assert cell.error is not None
    assert cell.error["evalue"] == "interrupted"
    assert shell_kernel.run("echo $x").good().stdout == "1\n"


def test_interrupts_of_an_idle_kernel_are_nothing(shell_kernel: ShellKernel) -> None:
    """Neither by message nor by signal."""
    client = shell_kernel.client
    client.control_channel.send(client.session.msg("interrupt_request", {}))
    assert client.get_control_msg(timeout=DEADLINE)["msg_type"] == "interrupt_reply"
    os.kill(shell_kernel.pid, signal.SIGINT)
    assert shell_kernel.run("echo still").good().stdout == "still\n"


def test_the_frontend_that_was_asked_need_not_answer(shell_kernel: ShellKernel, tmp_path: Path) -> None:
    """An interrupt while the frontend shows a question ends the cell; a late answer is nobody's."""
    cell = shell_kernel.send("read x; echo not")
    assert shell_kernel.client.get_stdin_msg(timeout=20)["msg_type"] == "input_request"
    shell_kernel.interrupt()
    cell.end()
    assert cell.status == "error"
    shell_kernel.client.input("late")
    assert shell_kernel.run("echo $x").good().stdout == "\n"
