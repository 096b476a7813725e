"""How a write layer becomes a layer of the store: it moves there, as a copy if another container could change it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from nbcontainer.containers.writes.copies import copied
from nbcontainer.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.images.runner import Runner
    from nbcontainer.sandbox.launcher.client import Launcher

_PAUSES = (0.01, 0.03, 0.1, 0.3)
"""Seconds between the looks whether an overlay is gone: what looks at dying processes holds it for a moment."""


@contextlib.contextmanager
def settled(upper: WriteLayer, runner: Runner, launcher: Launcher) -> Iterator[Path | None]:
    """Make sure that no other container can change a write layer, whose container has ended, before `keep` keeps it.

    Yield a copy for `keep` if the layer cannot move, else None. If another container holds it, copies replace the upper
    directories. The store is not locked: that one may continue to write, and the copy take long. Raises `OSError`, and
    what a sandbox raises.
    """
    upper.unmount()
    if upper.moves:
        if is_held(upper, launcher):
            upper.replace_uppers(runner)
        yield None
        return
    with copied(upper.store, runner, upper) as place:
        yield place


def keep(upper: WriteLayer, runner: Runner, copy: Path | None) -> str:
    """Make a write layer, or its copy, a layer of the store; return the new layer's id.

    Raises `OSError`, and what a sandbox raises.
    """
    if copy is None:
        return upper.keep(runner)
    os.chown(copy, os.geteuid(), os.getegid())  # the containers' root has filled it, if it has parts
    upper.store.layers.adopt(copy, copy.name)
    return copy.name


def is_held(upper: WriteLayer, launcher: Launcher) -> bool:
    """Return whether another container can write to a write layer whose container has ended, or whether it may.

    It can as long as it holds a descriptor of an overlay with one of the upper directories. Also an empty one counts:
    it need not stay empty.
    """
    if not (upper.shared and upper.store.sharing.has_other()):
        return False
    return any(_exists(upper, suffix, launcher) for suffix in upper.suffixes)


def _exists(upper: WriteLayer, suffix: str, launcher: Launcher) -> bool:
    """Return whether an overlay with one of the upper directories exists still, or whether that cannot be known."""
    for pause in (*_PAUSES, 0.0):
        with contextlib.suppress(OSError, LauncherError), upper.second_overlay(suffix) as places:
            if not launcher.has_overlay(*places):
                return False
        time.sleep(pause)
    return True
