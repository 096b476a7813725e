"""Kinds of rounds, chosen by chance from a seed, and what came of them."""

from __future__ import annotations

import collections
import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.faults import checks
from tests.faults.limits import LIMITS
from tests.faults.notebooks import THE_NOTEBOOK, Notebooks
from tests.faults.scene import LIMIT, SOMETIME, VICTIMS, Round, Scene, every_round
from tests.faults.tape import ROLES

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterator
    from pathlib import Path

_LONGEST_DELAY = 800
"""Of a kill at any time, in units of 0.1 ms: an act takes less."""


@dataclass(frozen=True)
class Kind:
    """`share` of all rounds; `pool` where containers are made ahead; `says` what it is.

    The init is `compiled` where nothing of it is at a point: those are in the interpreted one.
    """

    share: float
    says: str
    pool: bool = False
    compiled: bool = False


KINDS = {
    "errors": Kind(0.45, "ENOSPC, EMFILE, ENOMEM or EIO at one call of launcher, init, its child or the notebook"),
    "kills": Kind(0.2, "SIGKILL of launcher, init or cell at one call or after one step"),
    "pool": Kind(0.1, "the same two, with containers made ahead", pool=True),
    "sometime": Kind(
        0.1, "SIGKILL of launcher, init or cell at any time, with containers made ahead", pool=True, compiled=True
    ),
    "limits": Kind(
        0.05, "limits of the notebook's or the launcher's process lowered: the kernel itself refuses", compiled=True
    ),
    "notebooks": Kind(0.1, "SIGKILL of the notebook at one call, after one step, or at any time"),
}


def kind_of(one: Round) -> str:
    """The kind that a round is of."""
    if one.what == THE_NOTEBOOK:
        return "notebooks"
    if one.who in (SOMETIME, LIMIT):
        return "sometime" if one.who == SOMETIME else "limits"
    if one.pool:
        return "pool"
    return "kills" if one.what in VICTIMS else "errors"


def round_of(text: str) -> Round:
    """The round of that name. Raises `ValueError`."""
    act, who, position, what, *more = text.split()
    return Round(act, who, int(position), what, pool="pool" in more)


def every_known_round(folder: Path, only: Collection[str] = ()) -> list[Round]:
    """Those at a point, with no container made ahead, of all acts or `only` some: looked for in `folder`."""
    with Scene(folder, only=only).opened() as scene:
        return list(every_round(scene))


@dataclass
class Play:
    """Rounds of one kind, played in `folder`: of all those `known`, some by `chance`."""

    kind: str
    folder: Path
    known: list[Round]
    chance: random.Random
    limit: float = float("inf")
    played: int = 0
    failures: list[str] = field(default_factory=list)
    took: float = 0.0
    ends: collections.Counter[str] = field(default_factory=collections.Counter)
    of: int = 0

    def rounds(self, count: int, only: str = "") -> None:
        """Plays `count` of them, or that one, for no more than `limit` seconds."""
        began = time.monotonic()
        kind, acts = KINDS[self.kind], self.acts if not only else [only.split()[0]]
        scene = (
            Notebooks(self.folder)
            if self.kind == "notebooks"
            else Scene(self.folder, pool=kind.pool, only=acts, compiled=kind.compiled)
        )
        try:
            with scene.opened() as opened:
                began = time.monotonic()
                for one in [round_of(only)] if only else self._choose(count):
                    self._play(opened, one)
                    if time.monotonic() - began > self.limit:
                        break
        except checks.Damaged as error:
            self.failures.append(f"at the end: {error}")
        self.took = time.monotonic() - began

    def _play(self, scene: Scene | Notebooks, one: Round) -> None:
        self.played += 1
        try:
            self.ends[scene.play(one)] += 1
        except checks.Damaged as error:
            self.failures.append(str(error))
            print(f"DAMAGE {error}", flush=True)
            if isinstance(scene, Scene):
                with contextlib.suppress(checks.Damaged):
                    scene.close()

    def _choose(self, count: int) -> list[Round]:
        found = list(self._all(count))
        self.of = len(found)
        return self.chance.sample(found, min(count, len(found)))

    def _all(self, count: int) -> Iterator[Round]:
        """Every round of this kind that there is; of those at any time, `count`."""
        if self.kind == "limits":
            yield from (Round(act, LIMIT, n, what) for act in self.acts for what, (_, ns) in LIMITS.items() for n in ns)
        for one in self.known:
            if self.kind == "pool":
                yield replace(one, pool=True)
            elif self.kind == "notebooks" and one.what in ("launcher", "ENOSPC"):
                yield replace(one, what=THE_NOTEBOOK, pool=self.chance.random() < 0.5)
            elif kind_of(one) == self.kind:
                yield one
        if self.kind in ("sometime", "notebooks"):
            victims = VICTIMS if self.kind == "sometime" else (THE_NOTEBOOK,)
            for _ in range(count if self.kind == "sometime" else len(self.known) // 10):
                delay = self.chance.randrange(_LONGEST_DELAY)
                yield Round(self.chance.choice(self.acts), SOMETIME, delay, self.chance.choice(victims), pool=True)

    @property
    def acts(self) -> list[str]:
        """The names of the acts."""
        return list(dict.fromkeys(one.act for one in self.known))

    def summary(self) -> str:
        """What came of it, in a few lines."""
        ends = ", ".join(f"{number} {end}" for end, number in self.ends.most_common())
        lines = [f"{self.kind}: {self.played} rounds of {self.of} in {self.took:.0f} s ({KINDS[self.kind].says})"]
        lines += [f"  {ends}", *(f"  DAMAGE {text}" for text in self.failures)]
        return "\n".join(lines)


assert set(ROLES).isdisjoint({SOMETIME, LIMIT})
