"""Runs of zeros in large files, which an archive leaves out.

They are found in the content instead of the file system's map, which differs between file systems: the same file gives
the same pieces, however it is stored.
"""

from __future__ import annotations

from nbcontainer.linux.files import GRAIN, data_grains

Pieces = list[tuple[int, int]]
"""(offset, length) of each run of data, in bytes, in order."""

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
    for offset, data in data_grains(fd, size):
        length = len(data)
        if pieces and sum(pieces[-1]) == offset:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + length)
        else:
            pieces.append((offset, length))
    return pieces


def _few(pieces: Pieces) -> Pieces:
    """Return the pieces, joined over the smallest holes if there are too many for a map."""
    smallest = GRAIN
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
