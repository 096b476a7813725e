"""The ways to run a cell that an attack is tried in: as everybody does, and with each relaxation there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.requirements import require_private_network, require_root


@dataclass(frozen=True)
class Way:
    """One way: its options for a run. `root` is for those that only root may choose, `slow` as the mark."""

    name: str
    chosen: tuple[tuple[str, Any], ...] = ()
    root: bool = False
    slow: bool = False

    def options(self) -> dict[str, Any]:
        """The options of `RunOptions`. Skips the test for a user who has no such way."""
        if self.root:
            require_root()
        if ("network", "private") in self.chosen:
            require_private_network()
        return dict(self.chosen)


WAYS = [
    pytest.param(way, id=way.name, marks=[pytest.mark.slow] if way.slow else [])
    for way in (
        Way("default"),
        Way("network=host", (("network", "host"),)),
        Way("network=private", (("network", "private"),), slow=True),
        Way("userns=host", (("userns", "host"),), root=True),
    )
]
