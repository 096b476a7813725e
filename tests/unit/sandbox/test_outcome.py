"""From a wait status to how a cell ended."""

from __future__ import annotations

import json
import signal

import pytest

from nbcontainer.sandbox.outcome import Outcome, from_status, signal_name

EXIT_3 = 3 << 8
EXIT_0 = 0
KILLED_BY_9 = 9
SEGV_WITH_CORE = 11 | 0x80


@pytest.mark.parametrize(
    ("status", "stopped", "reason", "code", "number", "words"),
    [
        (EXIT_0, "", "exited", 0, 0, "exit code 0"),
        (EXIT_3, "", "exited", 3, 0, "exit code 3"),
        (255 << 8, "", "exited", 255, 0, "exit code 255"),
        (137 << 8, "", "exited", 137, 0, "exit code 137"),
        (KILLED_BY_9, "", "signal", 137, 9, "ended by SIGKILL"),
        (SEGV_WITH_CORE, "", "signal", 139, 11, "ended by SIGSEGV"),
        (40, "", "signal", 168, 40, "ended by signal 40"),
        (15, "timeout", "timeout", 143, 15, "stopped after its time limit (2.5 s)"),
        (EXIT_0, "timeout", "timeout", 0, 0, "stopped after its time limit (2.5 s)"),
        (2, "interrupted", "interrupted", 130, 2, "interrupted"),
        (EXIT_3, "interrupted", "interrupted", 3, 0, "interrupted"),
        (None, "", "killed", 137, 9, "killed from outside the container"),
        (None, "interrupted", "interrupted", 137, 9, "interrupted"),
        (None, "timeout", "timeout", 137, 9, "stopped after its time limit (2.5 s)"),
    ],
)
def test_how_a_cell_ended(status: int | None, stopped: str, reason: str, code: int, number: int, words: str) -> None:
    """Who ended it comes before how it died; the exit code is the shell's; no word of init is a kill from outside."""
    outcome = from_status(status, stopped=stopped, wall_time=2.5)
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (reason, code, number)
    assert words in outcome.describe()


@pytest.mark.parametrize(
    ("status", "stopped", "ok"), [(0, "", True), (EXIT_3, "", False), (0, "timeout", False), (None, "", False)]
)
def test_only_exit_code_0_by_itself_is_ok(status: int | None, stopped: str, ok: bool) -> None:
    """A cell that was stopped is not ok, whatever it exited with."""
    assert from_status(status, stopped=stopped, wall_time=0).ok is ok


def test_what_it_cost_is_kept() -> None:
    """Times and memory come out as they went in, and travel as JSON."""
    outcome = from_status(0, stopped="", wall_time=1.5, cpu_time=0.5, peak_memory=4096)
    assert (outcome.wall_time, outcome.cpu_time, outcome.peak_memory) == (1.5, 0.5, 4096)
    assert Outcome(**json.loads(json.dumps(outcome.as_dict()))) == outcome


@pytest.mark.parametrize("number", [1, 9, 15, 31])
def test_signals_have_names(number: int) -> None:
    """Every standard signal is called what kill -l calls it."""
    assert signal_name(number) == signal.Signals(number).name
    assert signal_name(64).startswith(("SIGRTMAX", "signal 64"))
