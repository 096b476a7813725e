"""Bodies of responses: documents, which are small, and the pace at which any body must come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, RegistryError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from nbcontainer.images.registry.connections import Patience

_CHUNK = 1 << 18


class Pace:
    """Measures whether a body comes at the slowest rate that `patience` allows, in intervals of its `silence`."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since = time.monotonic()
        self._bytes = 0

    def is_kept(self, size: int) -> bool:
        """Count `size` bytes. Return whether there were enough of them in the last interval."""
        self._bytes += size
        passed = time.monotonic() - self._since
        if passed >= self._patience.silence:
            if self._bytes < self._patience.slowest * passed:
                return False
            self._since, self._bytes = time.monotonic(), 0
        return True


def read_document(response: BaseHTTPResponse, limit: int, patience: Patience) -> bytes:
    """Return a whole small body.

    Raises `ImageError` if it is longer than `limit` bytes, `RegistryError` if it comes too slowly.
    """
    data = read_beginning(response, limit + 1, patience)
    if len(data) > limit:
        size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit} bytes"
        raise ImageError(f"the document from the registry is larger than the limit of {size}")
    return data


def read_beginning(response: BaseHTTPResponse, most: int, patience: Patience) -> bytes:
    """Return the first bytes of a body, `most` of them at most. Raises `RegistryError` if it comes too slowly."""
    parts, left, pace = [], most, Pace(patience)
    while left > 0 and (data := response.read1(min(_CHUNK, left))):
        parts.append(data)
        left -= len(data)
        if not pace.is_kept(len(data)):
            raise RegistryError("the registry sends a document too slowly", hint="try again later")
    return b"".join(parts)
