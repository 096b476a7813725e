"""How a write layer becomes a layer of the store: it moves there, or a copy if another container could change it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nbcontainer.containers.writes.copies import copied
from nbcontainer.errors import LauncherError
from nbcontainer.sandbox.networking import Network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.images.runner import Runner
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Spec


def is_alone(spec: Spec) -> bool:
    """Return whether a container of this kind can hand no descriptor to another process, by a socket (unix(7)).

    One with a volume, or in the network of others, can; and so can one that others join, which its plan does not show.
    """
    networking = spec.networking
    shares = spec.mounts.volumes or spec.mounts.named or networking.joined or spec.namespace is not None
    return not shares and networking.network != Network.HOST


@contextlib.contextmanager
def copy_of(upper: WriteLayer, runner: Runner, launcher: Launcher) -> Iterator[Path | None]:
    """Yield a copy of a write layer that cannot move to the store, for `keep`; None for one that can.

    Its container has ended. The store is not locked: another container may continue to write, and the copy take long.
    Raises `OSError`, and what a sandbox raises.
    """
    upper.unmount()
    if upper.moves and not is_held(upper, launcher):
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
    try:
        return any(launcher.has_overlay(*upper.probe(suffix)) for suffix in upper.suffixes)
    except (OSError, LauncherError):
        return True
