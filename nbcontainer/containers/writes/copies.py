"""Copies of write layers that cannot be moved: a cell still writes there, or the layer is in memory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host
from nbcontainer.images.trash import discard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from nbcontainer.containers.writes.write_layer import WriteView
    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store


@contextlib.contextmanager
def copied(
    store: Store, runner: Runner, upper: WriteView, still: AbstractContextManager[None] | None = None
) -> Iterator[Path]:
    """Yield the directory (host, in the store's `tmp`) of a layer with a copy of the upper directories.

    To keep it, the caller moves it to the store's `layers` under its own name; else it is removed. `still` is entered
    while the upper directories are read. It is not a layer of an image: any name is copied, with `.wh.` or at any
    depth. Raises `OSError`.
    """
    parts = upper.changed_parts()
    with _place(store, runner, give=bool(parts)) as place:
        with still or contextlib.nullcontext():
            for name in ("diff", *(name for name, _ in parts)):
                _copy_upper(store, runner, f"tmp/{upper.id}/{name}", place / name)
        if upper.mount_points:
            runner.on_directory(sandboxed.remove_empty, f"tmp/{place.name}/diff", names=list(upper.mount_points))
        if parts:
            host.merge_parts(store, runner, f"tmp/{place.name}", parts, upper.lowers[-1])
            store.write_file(f"tmp/{place.name}/{host.BESIDE}", host.beside([part for _, part in parts]))
        yield place


@contextlib.contextmanager
def _place(store: Store, runner: Runner, *, give: bool) -> Iterator[Path]:
    """Yield a new directory in the store's `tmp`, removed afterwards unless it was moved; `give` as `new_directory`."""
    place = store.new_directory(store.path / "tmp" / store.unique(), give=give)
    try:
        yield place
    finally:
        if place.exists():
            discard(store, runner, [place])


def _copy_upper(store: Store, runner: Runner, where: str, place: Path) -> None:
    """Copy a directory of the store (relative) to its new directory `place`, which gets the owner and mode, too.

    The sandbox has the first one as its root: the launcher alone may see it. The other one is a descriptor.
    """
    store.new_directory(place)
    target = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        runner.on_directory(sandboxed.copy_root, where, [target], read_only=True)
    finally:
        os.close(target)
