"""Runs of zeros in large files, which an archive leaves out.

They are found in the content instead of the file system's map, which differs between file systems: the same file gives
the same pieces, however it is stored.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Pieces = list[tuple[int, int]]
"""(offset, length) of each run of data, in bytes, in order."""

_GRAIN = 64 << 10  # bytes; zeros are looked for in pieces of this size
_ZEROS = bytes(_GRAIN)
_BUFFER = 1 << 20
_WORTH = 1 << 20  # bytes; fewer zeros are not worth a map, which some readers do not know
_PIECES_MAX = 20_000  # so that a map stays far below a reader's limit


def data_pieces(fd: int, size: int) -> Pieces:
    """Return the pieces to store of a file of `size` bytes: one with all of it, or its data without the holes."""
    if size < _WORTH:
        return [(0, size)]
    pieces = _few(_pieces(fd, size))
    if size - sum(length for _, length in pieces) < _WORTH:
        return [(0, size)]
    return pieces


def _pieces(fd: int, size: int) -> Pieces:
    pieces: Pieces = []
    for offset in _grains_of_data(fd, size):
        length = min(_GRAIN, size - offset)
        if pieces and sum(pieces[-1]) == offset:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + length)
        else:
            pieces.append((offset, length))
    return pieces


def _grains_of_data(fd: int, size: int) -> Iterator[int]:
    """Yield the offsets of the grains that are not all zeros. Holes of the file system are not read."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: nothing but a hole up to the end (lseek(2))
        if start >= size:  # it grows
            return
        offset = max(offset, start - start % _GRAIN)
        data = os.pread(fd, min(_BUFFER, size - offset), offset)
        for at in range(0, len(data), _GRAIN):
            if not data.startswith(_ZEROS[: len(data) - at], at):
                yield offset + at
        if not data:
            return
        offset += len(data)


def _few(pieces: Pieces) -> Pieces:
    """Return the pieces, joined over the smallest holes if there are too many for a map."""
    smallest = _GRAIN
    while len(pieces) > _PIECES_MAX:
        smallest *= 2
        joined = pieces[:1]
        for offset, length in pieces[1:]:
            first, before = joined[-1]
            if offset - (first + before) < smallest:
                joined[-1] = (first, offset + length - first)
            else:
                joined.append((offset, length))
        pieces = joined
    return pieces
