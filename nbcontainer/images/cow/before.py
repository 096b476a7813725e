"""What the host's directory had at a path when a cell changed it, to see whether the host has changed it since."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Before(NamedTuple):
    """The facts of a file or directory of the host (stat(2)); times are in nanoseconds, ids those of the container.

    `attributes` stand for those of a directory (`nbcontainer.images.cow.attributes.mark`); 0 if they are not known.
    """

    mode: int
    inode: int
    size: int
    ctime: int
    uid: int
    gid: int
    mtime: int
    attributes: int = 0

    @classmethod
    def of(cls, facts: os.stat_result) -> Before:
        """Return those of a file."""
        return cls(
            facts.st_mode,
            facts.st_ino,
            facts.st_size,
            facts.st_ctime_ns,
            facts.st_uid,
            facts.st_gid,
            facts.st_mtime_ns,
        )

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def rights(self) -> tuple[int, int, int]:
        """The permissions and the owner."""
        return stat.S_IMODE(self.mode), self.uid, self.gid


_LENGTHS = (len(Before._fields) - 1, len(Before._fields))
"""An older version noted no attributes."""

Noted = dict[bytes, Before | None]
"""What was at each path, None for nothing."""


def decode(documents: Iterable[Any]) -> Noted:
    """Return what the notes beside layers say, the first one for each path; one that cannot be read is left out."""
    noted: Noted = {}
    for document in documents:
        if not isinstance(document, dict):
            continue
        for path, fields in document.items():
            if fields is None:
                noted.setdefault(os.fsencode(path), None)
            elif isinstance(fields, list) and len(fields) in _LENGTHS and {type(one) for one in fields} == {int}:
                noted.setdefault(os.fsencode(path), Before(*fields))
    return noted
