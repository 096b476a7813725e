"""The order in which a launcher tries where /proc can come from."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.launcher import proc_levels
from nbcontainer.sandbox.spec import ProcLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = list(ProcLevel)


class Answers:
    """A kernel's answers to each level, and the levels that were tried."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.tried: list[ProcLevel] = []

    def __call__(self, _kernel: object, level: ProcLevel, *_: object) -> int:
        self.tried.append(level)
        return self.codes.get(level.name, errno.EPERM)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a store's directory. The working directory is as before afterwards."""
    before = Path.cwd()
    opened = os.open(tmp_path, os.O_PATH)
    yield opened
    os.close(opened)
    os.chdir(before)


def choose(monkeypatch: pytest.MonkeyPatch, place: int, answers: Answers, kind: str = "range") -> ProcLevel:
    monkeypatch.setattr(proc_levels, "_try", answers)
    ours, theirs = protocol.pair()
    with ours, theirs:
        return proc_levels.choose(RecordingKernel(), ours, place, {"kind": kind})


@pytest.mark.parametrize("level", ALL)
def test_the_first_that_is_allowed_is_taken(level: ProcLevel, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """The levels are tried in their order, and none after it."""
    answers = Answers(**{level.name: 0})
    assert choose(monkeypatch, place, answers) == level
    assert answers.tried == ALL[: ALL.index(level) + 1]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EINVAL, errno.ENOSPC, errno.ENODEV, errno.ENOMEM])
@pytest.mark.parametrize("level", ALL[:-1])
def test_only_eperm_leads_to_the_next(level: ProcLevel, code: int, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """Any other error ends the search, and a cell reports it as it does on the first level."""
    answers = Answers(**{level.name: code})
    assert choose(monkeypatch, place, answers) == ProcLevel.OWN
    assert answers.tried[-1] == level


def test_containers_without_a_user_namespace_get_no_outer_proc(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """With `--userns=host`, the user namespace that would separate them is missing."""
    answers = Answers(OUTER=0)
    assert choose(monkeypatch, place, answers, kind="host") == ProcLevel.OWN
    assert ProcLevel.OUTER not in answers.tried
