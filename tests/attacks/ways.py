"""The ways to run a cell that an attack is tried in: as everybody does, and with each relaxation there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from nbcontainer.linux.process import CAPABILITIES
from nbcontainer.sandbox.diagnosis import Machine
from tests.requirements import require_private_network, require_root

ALL = tuple(CAPABILITIES)
"""Every capability that there is, over what is the container's own."""


@dataclass(frozen=True)
class Way:
    """One way: its options for a run. `root` is for those that only root may choose, `slow` as the mark."""

    name: str
    chosen: tuple[tuple[str, Any], ...] = ()
    root: bool = False
    slow: bool = False

    @property
    def powerful(self) -> bool:
        """Whether root in the cell has every capability."""
        return ("capabilities", ALL) in self.chosen

    def options(self) -> dict[str, Any]:
        """The options of `RunOptions`. Skips the test for a user who has no such way."""
        if self.root:
            require_root()
            if not Machine().capable("SYS_ADMIN"):
                pytest.skip("root may not make namespaces here")
        if ("network", "private") in self.chosen:
            require_private_network()
        return dict(self.chosen)


WAYS = [
    pytest.param(way, id=way.name, marks=[pytest.mark.slow] if way.slow else [])
    for way in (
        Way("default"),
        Way("network=host", (("network", "host"),)),
        Way("network=private", (("network", "private"),), slow=True),
        Way("cap-add=ALL", (("capabilities", ALL),), slow=True),
        Way("userns=host", (("userns", "host"),), root=True),
    )
]
