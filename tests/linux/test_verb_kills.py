"""SIGKILL at any time in every verb, and two processes with verbs on one store.

`python -m tests.faults.verbs` does thousands.
NBCONTAINER_VERB_KILLS is the number of kills, and NBCONTAINER_PAIR_VERBS that of the verbs of each process.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.containers import VERBS
from tests.faults.verbs.kills import VerbKills, acts
from tests.faults.verbs.later_acts import NOT_KILLED
from tests.faults.verbs.pairs import pair
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("NBCONTAINER_VERB_KILLS", "40"))
PAIR_VERBS = int(os.environ.get("NBCONTAINER_PAIR_VERBS", "40"))
SEED = 5

_LIMIT = 15 if KILLS == 40 else 1e9
"""Seconds: a busy machine does fewer kills, unless it is asked for a number of them."""


@pytest.fixture(autouse=True)
def _containers(_containers_work: str) -> None:
    require("namespaces", available=not _containers_work, why=_containers_work)


def test_every_verb_is_killed() -> None:
    """Each verb of the program is in the table of those that are killed, or in the list of exceptions with a reason."""
    killed = {act.words[0] for act in acts().values()}
    verbs = {*VERBS, "run", "exec", "debug", "kernel", "demo", "use"}  # some are added by the notebook or the terminal
    assert verbs - killed == set(NOT_KILLED)
    assert {act.words[1] for act in acts().values() if act.words[0] == "cache"} == {"export", "import"}
    assert {act.words[1] for act in acts().values() if act.words[0] == "volume"} == {"create", "rm", "prune"}


@pytest.mark.slow
def test_a_killed_verb_leaves_nothing(tmp_path: Path) -> None:
    """The store is whole, the next use works, and the next start or `prune` removes what the kill left."""
    chance = random.Random(os.environ.get("NBCONTAINER_SEED", SEED))
    with VerbKills(tmp_path / "bench", measured=False).opened() as kills:
        began = time.monotonic()
        for one in kills.rounds(chance, KILLS):
            kills.play(one)
            if time.monotonic() - began > _LIMIT:
                break
        assert kills.failures == [], kills.summary()


@pytest.mark.slow
def test_two_processes_on_one_store(tmp_path: Path) -> None:
    """Each verb ends with its result, or with one line that is true beside the other process; nothing is left."""
    tmp_path.chmod(0o755)
    assert pair(tmp_path, SEED, PAIR_VERBS)["ok"] > PAIR_VERBS
