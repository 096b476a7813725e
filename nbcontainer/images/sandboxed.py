"""The functions that run inside a sandbox, with the directory they work on as their root.

Each takes the descriptors it was given, a function to tell its progress to, and JSON arguments; it returns a JSON
value. Everything they need is imported here: inside, nothing can be (`nbcontainer.sandbox.sandboxed_call`).
"""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nbcontainer.images.layers.changes import list_changes, look_up
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.inspect import first_names, usage
from nbcontainer.images.layers.merge import merge
from nbcontainer.images.layers.pack import pack_layer, pack_tree
from nbcontainer.images.layers.tree import remove_below
from nbcontainer.images.layers.unpack import Limits, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[int], None]


def _root() -> int:
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def unpack_here(files: Sequence[int], progress: Progress, *, single_id: bool, whiteouts: bool) -> dict[str, Any]:
    """Unpacks the archive in files[0] into the root, and writes its blob to files[1], where there is one."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0)
    done = unpack(
        _root(),
        files[0],
        files[1] if len(files) > 1 else None,
        limits=Limits(),
        single_id=single_id,
        progress=progress,
        whiteouts=whiteouts,
    )
    return asdict(done)


def pack_layer_here(files: Sequence[int], progress: Progress, *, clamp: int | None) -> dict[str, Any]:
    """Writes the root, an overlay's upper directory, to files[0] as a layer, synced to disk."""
    done = pack_layer(_root(), files[0], compression=Compression.NONE, clamp=clamp, progress=progress)
    os.fsync(files[0])
    return asdict(done)


def pack_tree_here(files: Sequence[int], progress: Progress, *, compression: str, clamp: int | None) -> dict[str, Any]:
    """Writes the root to files[0] as a tar."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return asdict(pack_tree(_root(), files[0], compression=Compression(compression), clamp=clamp, progress=progress))


def changes_here(_files: Sequence[int], _: Progress) -> list[list[str]]:
    """What the root, an overlay's upper directory, changes: [kind, path] each."""
    return list_changes(_root())


def look_up_here(
    _files: Sequence[int], _: Progress, *, paths: list[str], replaced: list[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """See `look_up`, with the root as the tree."""
    return look_up(_root(), paths, replaced)


def merge_here(_files: Sequence[int], _: Progress, *, parts: list[tuple[str, str]], modes: dict[str, int]) -> None:
    """See `merge`, in the root."""
    merge(_root(), parts, modes)


def remove_here(_files: Sequence[int], _: Progress) -> None:
    """Removes everything below the root."""
    remove_below(_root())


def first_names_here(files: Sequence[int], _: Progress) -> list[tuple[str, bool]]:
    """See `first_names`, of the file in files[0]."""
    return first_names(files[0])


def examine_here(_files: Sequence[int], _: Progress) -> dict[str, Any]:
    """Of a root with directories: the names of those that are not empty, and the blocks or inodes that are free.

    The latter is the lesser of both, as statvfs(3) has them.
    """
    with os.scandir("/") as entries:
        filled = [entry.name for entry in entries if entry.name.startswith("diff") and not _is_empty(entry.path)]
    free = os.statvfs("/")
    return {"filled": filled, "free": min(free.f_bfree, free.f_ffree)}


def _is_empty(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None


def usage_here(_files: Sequence[int], _: Progress) -> dict[str, int]:
    """See `usage`, of the root."""
    return usage(_root())
