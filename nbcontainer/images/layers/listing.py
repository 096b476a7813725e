"""The names in a directory of an image, from its extracted layers, without a mount and without a sandbox.

What is in a layer is not trusted: directories are opened below the layer by descriptor, and no link is followed.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIMIT = 2000
"""Names of one directory that are listed."""

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


def directory(layers: Path, lowers: Sequence[str], path: str) -> dict[str, bool]:
    """Return the names in the directory `path` (container, absolute), with whether each is a directory itself.

    `layers` is the store's directory of layers (host), `lowers` are ids there, the topmost first. A layer that this
    user cannot read counts as empty. Opaque directories do not hide what is below: this is for completion alone.
    """
    found: dict[str, bool] = {}
    hidden: set[str] = set()
    for layer in lowers:
        try:
            _add(f"{layers}/{layer}/diff", path.strip("/") or ".", found, hidden)
        except OSError:
            continue
    return found


def _add(top: str, path: str, found: dict[str, bool], hidden: set[str]) -> None:
    root = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = openat2(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_RESOLVE)
    finally:
        os.close(root)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if len(found) >= LIMIT:
                    return
                if entry.name in hidden or entry.name in found:
                    continue
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:  # a whiteout (overlayfs.rst)
                    hidden.add(entry.name)
                else:
                    found[entry.name] = stat.S_ISDIR(facts.st_mode)
    finally:
        os.close(fd)
