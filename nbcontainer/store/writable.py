"""The host directories that containers could write to. A path that leads through a link below one is refused.

The store records such a directory before a container starts that has it as a volume, and keeps the record: a link that
a cell made there stays after the cell. Each directory has two marks in `writable`, which are empty files. One is named
by device, inode and time of birth: a directory can be renamed, or be at several places, and inode numbers are used
again. The other is named by the path: device numbers change when the machine restarts.
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
    """Mark a directory, on disk, as one that containers could write to. Raises `OSError`."""
    missing = [path for path in _marks(store, directory) if not os.path.lexists(path)]
    for path in missing:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    if missing:
        sync_directory(store.path / MARKS)


def forget(store: Store, directory: Node) -> None:
    """Remove the marks of a directory. Call it for a directory that was removed with all its files."""
    for path in _marks(store, directory):
        with contextlib.suppress(OSError):
            Path(path).unlink()


def check(store: Store, links: Iterable[Link]) -> None:
    """Raise `LinkRefused` for a link that a container could have made: it is below a marked directory.

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
