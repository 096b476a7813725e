"""The ways to run a cell that an attack is tried in: as everybody does, and with each relaxation there is."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nbcontainer.sandbox.machine import Machine
from nbcontainer.sandbox.network import find_tools
from tests.requirements import require, require_root


def open_to_all(device: str) -> bool:
    """Whether every user may open a device."""
    path = Path(device)
    return path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o006 == 0o006


@dataclass(frozen=True)
class Way:
    """One way: its options for a run. `root` is for those that only root may choose."""

    name: str
    chosen: tuple[tuple[str, Any], ...] = ()
    root: bool = False

    def options(self) -> dict[str, Any]:
        """The options of `RunOptions`. Skips the test for a user who has no such way."""
        if self.root:
            require_root()
        if ("network", "private") in self.chosen:
            require("tun", available=open_to_all("/dev/net/tun"), why="/dev/net/tun is not for everybody here")
            require("pasta or slirp4netns", available=bool(find_tools(Machine())), why="neither is installed")
        return dict(self.chosen)


WAYS = [
    pytest.param(way, id=way.name)
    for way in (
        Way("default"),
        Way("network=host", (("network", "host"),)),
        Way("network=private", (("network", "private"),)),
        Way("userns=host", (("userns", "host"),), root=True),
    )
]
