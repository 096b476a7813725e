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
    while the upper directories are read. Raises `OSError`, `ImageError`.
    """
    parts = upper.changed_parts()
    names = ["diff", *(name for name, _ in parts)]
    with contextlib.ExitStack() as stack:
        tars = [stack.enter_context(store.incoming())[1] for _ in names]
        with still or contextlib.nullcontext():
            for name, tar in zip(names, tars, strict=True):
                where = f"tmp/{upper.id}/{name}"
                runner.on_directory(sandboxed.pack_layer, where, [tar], read_only=True, clamp=None, with_root=True)
        place = stack.enter_context(_place(store, runner, give=bool(parts)))
        for name, tar in zip(names, tars, strict=True):
            _unpack(store, runner, tar, place / name)
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


def _unpack(store: Store, runner: Runner, tar: int, place: Path) -> None:
    """Unpack a tar into the new directory `place` of the store, where it stays.

    The tar gives the directory its owner and mode: a process outside of the sandbox may be unable to move it.
    """
    os.lseek(tar, 0, os.SEEK_SET)
    where = str(store.new_directory(place).relative_to(store.path))
    runner.on_directory(sandboxed.unpack, where, [tar], single_id=runner.single_id, whiteouts=True)
