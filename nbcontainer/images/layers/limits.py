"""Limits of archives, and how names from archives are shown in messages."""

from __future__ import annotations

import os
from dataclasses import dataclass

_SHOWN = 200


@dataclass(frozen=True)
class Limits:
    """The limits of one archive; an archive beyond any of them is refused with `HostileArchive`.

    Sizes are bytes. The defaults allow every real image that was tried, and stop decompression bombs.
    """

    entries: int = 2_000_000
    """Entries in one archive."""
    bytes: int = 100 << 30
    """File contents in one archive; holes in sparse files do not count."""
    ratio: int = 1000
    """Decompressed bytes for each compressed one, checked after `ratio_from` bytes."""
    ratio_from: int = 1 << 30
    """Decompressed bytes below which `ratio` is not checked."""
    path: int = 4096
    """Length of a name or of a link's target."""
    component: int = 255
    """Length of one part of a name."""
    xattrs: int = 64 << 10
    """Names and values of one file's extended attributes together."""
    pax_header: int = 1 << 20
    """One extended header, or one sparse map."""
    apparent_size: int = 1 << 40
    """Size of one file, holes included."""


def shown(name: bytes) -> str:
    """Return `name` in quotes for a message: printable, on one line, and short."""
    text = os.fsdecode(name)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
