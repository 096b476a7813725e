"""How a write layer becomes a layer of the store: it moves there, or a copy if another container could change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers.writes.copies import keep_copy
from nbcontainer.errors import LauncherError
from nbcontainer.sandbox.networking import Network

if TYPE_CHECKING:
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.images.runner import Runner
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Spec


def is_alone(spec: Spec) -> bool:
    """Return whether a container of this kind can hand no descriptor to another process, by a socket (unix(7)).

    One with a volume, or in the network of others, can.
    """
    networking = spec.networking
    shares = spec.mounts.volumes or spec.mounts.named or networking.joined or spec.namespace is not None
    return not shares and networking.network != Network.HOST


def keep(upper: WriteLayer, runner: Runner, launcher: Launcher) -> str:
    """Make a write layer a layer of the store; return the new layer's id. Its container has ended.

    If that was not alone, another one may run that holds a descriptor of its overlay, and can write to the upper
    directories still: then a copy becomes the layer. Raises `OSError`, and what a sandbox raises.
    """
    upper.unmount()
    if upper.shared and upper.store.sharing.has_other() and is_held(launcher, upper):
        return keep_copy(upper.store, runner, upper)
    return upper.keep(runner)


def is_held(launcher: Launcher, upper: WriteLayer) -> bool:
    """Return whether an overlay with these upper directories exists still, or whether that cannot be known."""
    for name in upper.filled():
        try:
            if launcher.has_overlay(*upper.probe(name)):
                return True
        except (OSError, LauncherError):
            return True
    return False
