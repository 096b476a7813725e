"""Merging the layers of a volume into one: a cell never sees many, whatever ran before."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.cow import directories
from nbcontainer.errors import NbcontainerError
from nbcontainer.images import sandboxed, trash
from nbcontainer.images.cow import volume_jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.workspace import Workspace


def squeezed(workspace: Workspace, tree: int, layers: Sequence[str]) -> str | None:
    """Return the id of a new layer with the effect of `layers`, from the bottom up; None if it cannot be made now.

    `tree` is a descriptor of the directory below them. Files are hard links, so the cost depends on their number.
    Layers in memory stay as they are. Call it with the store's shared lock held.
    """
    store, new = workspace.store, workspace.store.unique()
    if any((store.path / "layers" / layer / "diff").is_symlink() for layer in layers):
        return None
    try:
        store.new_directory(store.layers.begin(new) / "diff")
        _fill(workspace, tree, layers, f"{new}/diff")
        store.layers.finish(new)
    except (OSError, NbcontainerError):  # the next cell tries again
        with contextlib.suppress(OSError, NbcontainerError):
            trash.discard(store, workspace, [store.path / "layers" / new])
        return None
    return new


def _fill(workspace: Workspace, tree: int, layers: Sequence[str], target: str) -> None:
    names = [f"{layer}/diff" for layer in reversed(layers)]
    hiding = workspace.on_directory(sandboxed.flatten, "layers", layers=names, target=target)
    # Whiteouts in a directory that the host does not have would be seen as files.
    if hiding and (alone := directories.run(workspace, volume_jobs.missing, tree, (), paths=hiding)):
        workspace.on_directory(sandboxed.drop_whiteouts, "layers", target=target, paths=alone)
