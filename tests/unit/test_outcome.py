"""From a wait status to how a cell ended."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest

from nbcontainer.outcome import Outcome, Reason, from_status, signal_name

EXIT_3 = 3 << 8
EXIT_0 = 0
KILLED_BY_9 = 9
SEGV_WITH_CORE = 11 | 0x80


@pytest.mark.parametrize(
    ("status", "stopped", "reason", "code", "number", "words"),
    [
        (EXIT_0, None, Reason.EXITED, 0, 0, "exit code 0"),
        (EXIT_3, None, Reason.EXITED, 3, 0, "exit code 3"),
        (255 << 8, None, Reason.EXITED, 255, 0, "exit code 255"),
        (137 << 8, None, Reason.EXITED, 137, 0, "exit code 137"),
        (KILLED_BY_9, None, Reason.SIGNAL, 137, 9, "ended by SIGKILL"),
        (SEGV_WITH_CORE, None, Reason.SIGNAL, 139, 11, "ended by SIGSEGV"),
        (40, None, Reason.SIGNAL, 168, 40, "ended by signal 40"),
        (15, Reason.TIMEOUT, Reason.TIMEOUT, 143, 15, "stopped after its time limit (2.5 s)"),
        (EXIT_0, Reason.TIMEOUT, Reason.TIMEOUT, 0, 0, "stopped after its time limit (2.5 s)"),
        (2, Reason.INTERRUPTED, Reason.INTERRUPTED, 130, 2, "interrupted"),
        (EXIT_3, Reason.INTERRUPTED, Reason.INTERRUPTED, 3, 0, "interrupted"),
        (None, None, Reason.KILLED, 137, 9, "killed from outside the container"),
        (None, Reason.ENDED_BY_KILL, Reason.ENDED_BY_KILL, 137, 9, "killed by the verb `kill`"),
        (None, Reason.STOPPED, Reason.STOPPED, 137, 9, "killed when it was stopped"),
        (None, Reason.NOT_READY, Reason.NOT_READY, 137, 9, "killed after `--wait-for` failed"),
        (None, Reason.CONTAINER_ENDED, Reason.CONTAINER_ENDED, 137, 9, "ended with its container"),
        (None, Reason.INTERRUPTED, Reason.INTERRUPTED, 137, 9, "interrupted"),
        (None, Reason.TIMEOUT, Reason.TIMEOUT, 137, 9, "stopped after its time limit (2.5 s)"),
    ],
)
def test_how_a_cell_ended(
    status: int | None, stopped: Reason | None, reason: Reason, code: int, number: int, words: str
) -> None:
    """The notebook's reason precedes the status; the exit code is the shell's; no report from init means killed."""
    outcome = from_status(status, stopped=stopped, wall_time=2.5)
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (reason, code, number)
    assert words in outcome.describe()


@pytest.mark.parametrize(
    ("status", "stopped", "ok"),
    [(0, None, True), (EXIT_3, None, False), (0, Reason.TIMEOUT, False), (None, None, False)],
)
def test_only_exit_code_0_by_itself_is_ok(status: int | None, stopped: Reason | None, ok: bool) -> None:
    """A cell that was stopped is not ok, even with exit code 0."""
    assert from_status(status, stopped=stopped, wall_time=0).ok is ok


def test_what_it_cost_is_kept() -> None:
    """Times and memory are kept, and an outcome survives JSON."""
    outcome = from_status(0, stopped=None, wall_time=1.5, cpu_time=0.5, peak_memory=4096)
    assert (outcome.wall_time, outcome.cpu_time, outcome.peak_memory) == (1.5, 0.5, 4096)
    assert Outcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome


@pytest.mark.parametrize("number", [1, 9, 15, 31])
def test_signals_have_names(number: int) -> None:
    """Every standard signal has the name that kill -l prints."""
    assert signal_name(number) == signal.Signals(number).name
    assert signal_name(64).startswith(("SIGRTMAX", "signal 64"))


def test_an_outcome_with_an_unknown_reason_is_refused() -> None:
    """A reason that no version wrote raises `ValueError`."""
    with pytest.raises(ValueError, match="'bored' is not a valid Reason"):
        Outcome.from_dict({"reason": "bored", "exit_code": 0})


def test_a_stopped_cell_has_the_time_that_it_had_to_end() -> None:
    """The outcome says after how many seconds it was killed, also when it is read from a record."""
    outcome = from_status(None, stopped=Reason.STOPPED, wall_time=3, grace=2.0)
    assert Outcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome
    assert outcome.describe() == "killed 2 s after its stop signal"
    assert replace(outcome, grace=0.5).describe() == "killed 0.5 s after its stop signal"


def test_each_reason_has_a_phrase() -> None:
    """No two reasons have the same one."""
    assert len({Outcome(reason, 1).describe() for reason in Reason}) == len(Reason)
