"""The host's directories that containers could write to: no link below them is followed where a path leads through.

The store remembers them, before a container starts that has one as a volume, and for good: a link that a cell left
there does not go with the cell. Each has two marks in `writable`, empty files that are named by its device,
inode and time of birth (it may be renamed, or be at several places; the number of an inode is used again) and by its
path (device numbers change when the machine restarts).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.errors import LinkRefused
from nbcontainer.store.atomic_files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.linux.paths import Link, Node
    from nbcontainer.store.layout import Store

MARKS = "writable"


def remember(store: Store, directory: Node) -> None:
    """Marks a directory, on disk, as one that containers could write to. Raises `OSError`."""
    missing = [path for path in _marks(store, directory) if not os.path.lexists(path)]
    for path in missing:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    if missing:
        sync_directory(store.path / MARKS)


def forget(store: Store, directory: Node) -> None:
    """Takes the marks of a directory away: call it for one that was removed, with all that was in it."""
    for path in _marks(store, directory):
        with contextlib.suppress(OSError):
            Path(path).unlink()


def check(store: Store, links: Iterable[Link]) -> None:
    """Raises `LinkRefused` for a link that a container could have made: one below a marked directory.

    Call it after the path was walked: a container that starts later did not make the link.
    """
    for link in links:
        for directory in link.above:
            if any(os.path.lexists(path) for path in _marks(store, directory)):
                raise LinkRefused(
                    f"{link.path} is a symbolic link in a directory that containers can write to ({directory.path})",
                    hint=f"if you trust it, name its target instead: {link.target}",
                )


def _marks(store: Store, directory: Node) -> tuple[str, str]:
    path = hashlib.sha256(os.fsencode(directory.path)).hexdigest()[:40]
    top = f"{store.path}/{MARKS}"
    return f"{top}/{directory.device:x}-{directory.inode:x}-{directory.born:x}", f"{top}/{path}"
