"""Root file systems of the image `host`: which of this machine's directories they show, and where cells write.

Each of the machine's directories is an overlay of its own, with its own upper directory while the cell runs. After the
cell, the changes are merged into one layer, so that a layer is one tree, as for any other image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.images.builtin import host
from nbcontainer.sandbox.spec import HostLower, Overlay

if TYPE_CHECKING:
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.store.layout import Store


@dataclass(frozen=True)
class HostView:
    """The machine's directories below some layers (the topmost first).

    For each directory, `lowers` are the layers that contain a part of it, and `shown` is where containers find it.
    """

    directories: tuple[str, ...]
    lowers: tuple[tuple[str, ...], ...]
    shown: tuple[HostLower, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """The directories other than the root, each after its parents."""
        return tuple(directory for directory in self.directories if directory != "/")

    def root(self, layers: tuple[str, ...], writes_to: tuple[str, str] | None) -> Overlay:
        """Return the root of a container on layers. `writes_to` are its upper and work directories, from `layers`.

        Those of a part have the same names with a dot and its number. Without `writes_to`, the root is read-only.
        """
        parts: list[Overlay] = []
        whole = None
        for directory, lowers, shown in zip(self.directories, self.lowers, self.shown, strict=True):
            if directory == "/":
                whole = shown
                continue
            upper, work = (None, None) if writes_to is None else (f"{to}.{len(parts)}" for to in writes_to)
            below = tuple(f"{layer}/diff{directory}" for layer in lowers)
            parts.append(Overlay(below, upper, work, shown, directory))
        upper, work = writes_to or (None, None)
        return Overlay(tuple(f"{layer}/diff" for layer in layers), upper, work, whole, parts=tuple(parts))


def view(store: Store, launcher: Launcher, layers: tuple[str, ...]) -> HostView | None:
    """Return the machine's directories below layers (the topmost first); None for any image but `host`.

    Raises `ContainerError`, `LauncherError`.
    """
    directories = host.directories(store, layers[-1])
    if not directories:
        return None
    changed = {layer: host.directories(store, layer) for layer in layers}
    return HostView(
        directories,
        tuple(tuple(layer for layer in layers if directory in changed[layer]) for directory in directories),
        tuple(
            HostLower(path, _around(store, directory))
            for directory, path in zip(directories, launcher.show(directories), strict=True)
        ),
    )


def _around(store: Store, directory: str) -> bool:
    """Return whether the store is in a directory, on the same file system."""
    return store.path.is_relative_to(directory) and Path(directory).stat().st_dev == store.path.stat().st_dev
