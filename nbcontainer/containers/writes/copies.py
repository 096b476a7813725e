"""Copies of write layers that cannot be moved: a cell still writes there, or the layer is in memory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host
from nbcontainer.images.staging import Staging

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

    To keep it, the caller moves it to the store's `layers` under its own name; else the cleanup removes it. `still` is
    entered while the upper directories are read. Raises `OSError`, `ImageError`.
    """
    parts = upper.changed_parts()
    names = ["diff", *(name for name, _ in parts)]
    with contextlib.ExitStack() as stack:
        tars = [stack.enter_context(store.incoming())[1] for _ in names]
        with still or contextlib.nullcontext():
            for name, tar in zip(names, tars, strict=True):
                where = f"tmp/{upper.id}/{name}"
                runner.on_directory(sandboxed.pack_layer, where, [tar], read_only=True, clamp=None)
        layer = store.unique()
        place = store.new_directory(store.path / "tmp" / layer, give=bool(parts))
        for name, tar in zip(names, tars, strict=True):
            os.lseek(tar, 0, os.SEEK_SET)
            staged = stack.enter_context(Staging(store, runner).unpacked([tar], whiteouts=True))
            staged.tree.rename(place / name)
        for name in upper.mount_points:
            with contextlib.suppress(OSError):  # it is the cell's own: there is something in it
                (place / "diff" / name).rmdir()
        if parts:
            host.merge_parts(store, runner, f"tmp/{layer}", parts, upper.lowers[-1])
            store.write_file(f"tmp/{layer}/{host.BESIDE}", host.beside([part for _, part in parts]))
        yield place
