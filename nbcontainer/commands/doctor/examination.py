"""`doctor`: checks what the host supports by trying it, within a time limit."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from nbcontainer.commands.doctor.checks import PROBES, Finding, ProbeContext
from nbcontainer.commands.doctor.probe_environment import ProbeEnvironment
from nbcontainer.commands.doctor.report import MISSING, Check, Report
from nbcontainer.commands.views.simple import Lines
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError, StoreError
from nbcontainer.linux.paths import absolute
from nbcontainer.sandbox.apparmor import profile
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.steps.overlay import UPPER_ADVICE
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store.layout import default_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.commands.grammar import Words

_T = TypeVar("_T")

PATIENCE = 10.0
"""Seconds for the whole examination, which takes a fraction of one: a dead file system may never answer."""


def answer(words: Words, store: Engine | Path | None) -> Report | Lines:
    """Return the report for a store, or the AppArmor profile if the arguments ask for it. Raises `UsageError`."""
    return Lines(tuple(profile().splitlines())) if words.has("apparmor-profile") else examine(store)


def examine(store: Engine | Path | None = None, machine: Machine | None = None) -> Report:
    """Examine this machine for the store of an engine, or at a path (host), by default the user's.

    Everything is tried in temporary containers and directories, which are removed. It ends within `PATIENCE`.
    """
    machine = machine or Machine()
    path = store.store.path if isinstance(store, Engine) else store or default_path()
    bench = ProbeEnvironment(absolute(path), idmap.choose(machine))
    end = time.monotonic() + PATIENCE
    try:
        refused = _make(bench, end)
        return diagnose(ProbeContext(machine, bench.path, bench.folder, bench, bench.idmap, refused), end)
    finally:
        with contextlib.suppress(TimeoutError):
            _within(end, bench.close)


def _make(bench: ProbeEnvironment, end: float) -> StoreError | None:
    """Make the bench; return why it is not where the store is, None if it is."""
    try:
        _within(end - PATIENCE / 2, bench.make)
    except StoreError as error:
        refused = error
    except TimeoutError:
        refused = StoreError(f"{bench.path} does not answer", hint=UPPER_ADVICE)
    else:
        return None
    with contextlib.suppress(OSError):  # no launcher starts there either, and says so
        bench.make_elsewhere()
    return refused


def diagnose(patient: ProbeContext, end: float) -> Report:
    """The report of all probes. None is asked for longer than until `end` (time.monotonic())."""
    checks: list[Check] = []
    failures: dict[str, str] = {}
    for probe in PROBES:
        try:
            finding = _within(end, functools.partial(probe.look, patient))
        except TimeoutError:
            finding = Finding(MISSING, f"no answer in {PATIENCE:.0f} s")
        except NbcontainerError as error:
            finding = Finding(MISSING, error.message, error.hint)
        except OSError as error:
            finding = Finding(MISSING, str(error))
        if finding.state == MISSING:
            # What fails for the same reason needs no other cure.
            cause = failures.setdefault(finding.found, probe.name)
            if cause != probe.name:
                finding = Finding(MISSING, f"not without {cause}")
        checks.append(Check(probe.name, *finding))
    return Report(tuple(checks))


def _within(end: float, do: Callable[[], _T]) -> _T:
    """What `do` returns or raises, or TimeoutError at `end`: a thread that waits for a dead disk is left behind."""
    answers: list[Future[_T]] = []

    def work() -> None:
        answer: Future[_T] = Future()
        try:
            answer.set_result(do())
        except BaseException as error:
            answer.set_exception(error)
        answers.append(answer)

    thread = threading.Thread(target=work, name="nbcontainer-doctor", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # this user may have no more threads
        return do()
    thread.join(max(end - time.monotonic(), 0.1))
    if not answers:
        raise TimeoutError
    return answers[0].result()
