"""Some hundred faults, chosen by a seed. `python -m tests.faults` does the same by the thousand, and more of them.

After each: no process, mount, control group, descriptor or directory is left, the store is whole, the next cell works.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.plays import KINDS, Play, every_known_round
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.scene import Round

SEED = 7

ROUNDS = {"errors": 60, "kills": 30, "pool": 10, "sometime": 10, "limits": 15, "notebooks": 4}

ACTS = ("plain", "full", "named")

_LIMIT = 3.5  # seconds for each kind: a busy machine does fewer rounds


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> list[Round]:
    require("namespaces", available=not _containers_work, why=_containers_work)
    return every_known_round(tmp_path_factory.mktemp("known") / "scene", ACTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_leaves_nothing(kind: str, known: list[Round], tmp_path: Path) -> None:
    """A call that fails, or a process that is killed, is one line for a person at most, and the next cell works."""
    play = Play(kind, tmp_path / "scene", known, random.Random(f"{SEED} {kind}"), limit=_LIMIT)
    play.rounds(ROUNDS[kind])
    assert play.failures == [], play.summary()
    assert play.played > 0


def test_every_step_of_the_plan_is_a_point(known: list[Round]) -> None:
    """There are rounds at more than three dozen steps' ends and two hundred calls of init's in a cell alone."""
    mine = [one for one in known if (one.act, one.who) == ("full", "init")]
    calls = {one.position for one in mine if one.what == "ENOSPC"}
    everywhere = {one.position for one in mine if one.what == "launcher"}
    assert len(calls) > 200
    assert len(everywhere - calls) > 35
