"""The texts of small files of a tree. It runs in a sandbox with the tree as its root: nothing is imported later."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.images.comparison.parents import Parents

if TYPE_CHECKING:
    from collections.abc import Iterable

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

BINARY, LARGE = "binary", "large"
"""Why a file has no text here."""


def texts_of(root: int, paths: Iterable[str], limit: int, total: int) -> dict[str, tuple[str, str]]:
    """Return the text of each regular file among absolute `paths` with "", or an empty text with the reason, by path.

    A file of more than `limit` bytes is large, as are all files when `total` bytes were read. One that has a zero byte
    or is not UTF-8 is binary. No link is followed.
    """
    found: dict[str, tuple[str, str]] = {}
    with Parents(root) as parents:
        for path in paths:
            if (parent := parents.above(path)) is None:
                continue
            with contextlib.suppress(OSError):
                found[path] = text, _ = _text(parent, path.rpartition("/")[2], min(limit, total))
                total -= len(text.encode())
    return found


def _text(folder: int, name: str, limit: int) -> tuple[str, str]:
    fd = os.open(name, _READ, dir_fd=folder)
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            return "", BINARY
        if facts.st_size > limit:
            return "", LARGE
        return _decoded(_content(fd, facts.st_size))
    finally:
        os.close(fd)


def _content(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def _decoded(data: bytes) -> tuple[str, str]:
    if b"\0" in data:
        return "", BINARY
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        return "", BINARY
