"""The texts of a changed file, on the host and in a volume."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.images.cow.below import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.cow.merged import Entries

LIMIT = 256 << 10
"""Bytes of a file whose text is compared."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_EMPTY = b""


def both(tree: int, layers: Sequence[int], entries: Entries, path: bytes) -> tuple[str, str] | None:
    """Return the texts of a file in the host's directory and in the volume; empty for one that is not there.

    None if one is not a small text file, or if the volume does not change it.
    """
    entry = entries.get(path)
    if entry is None:
        return None
    old = _read(tree, path)
    new = _read(layers[entry.layer], path) if stat.S_ISREG(entry.facts.st_mode) else _EMPTY
    if old is None or new is None or entry.is_directory:
        return None
    try:
        return old.decode(), new.decode()
    except UnicodeDecodeError:
        return None


def _read(root: int, path: bytes) -> bytes | None:
    """Return the content of a file, empty if it is not there; None if it is not a small file without NUL bytes."""
    try:
        with opened(root, path, _READ) as fd:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > LIMIT:
                return None
            data = os.read(fd, LIMIT + 1)
    except FileNotFoundError:
        return _EMPTY
    except OSError:
        return None
    return None if b"\0" in data or len(data) > LIMIT else data
