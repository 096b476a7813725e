"""An engine whose containers leave their roots to the next ones, and what tests ask about these roots."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.engine import Engine
from nbcontainer.containers.writes.root_mount import tells_changes
from tests.requirements import program_or_skip, require, require_linux
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHICH = "sed -n 's/.* \\/ .*upperdir=\\([^,]*\\).*/\\1/p' /proc/self/mounts"
"""Writes the directory that the root was first mounted with: no other root ever has it."""


def mounted(engine: Engine) -> int:
    """How many roots the launcher has mounted for this engine."""
    return engine.launcher.spares.roots.mounted


def warm_up(engine: Engine) -> None:
    """Run until the next cell gets a root that another one had."""
    for _ in range(6):
        run_script(engine, "true")
        engine.background.wait()
    assert mounted(engine) > 0


@contextlib.contextmanager
def reusing_engine(store: Path) -> Iterator[Engine]:
    """An engine on a store, with the compiled init, that is warmed up."""
    program_or_skip()
    require_linux(6, 15, "reused roots")
    engine = Engine(store)
    try:
        there = tells_changes(str(store))
        require("multigrain timestamps", available=there, why="the file system of the store has coarse times")
        warm_up(engine)
        yield engine
    finally:
        engine.close()
