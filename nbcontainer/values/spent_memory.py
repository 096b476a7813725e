"""The memory of values whose cells have ended: the kernel frees a gigabyte in a tenth of a second, no cell waits."""

from __future__ import annotations

import os
import threading


class SpentMemory:
    """Descriptors of files in memory: what they hold is freed when `free` closes them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: list[int] = []

    def add(self, files: list[int]) -> None:
        """Take descriptors over."""
        with self._lock:
            self._files += files

    def free(self) -> None:
        """Close the descriptors. When it returns, the memory of all that were added before is free."""
        with self._lock:
            while self._files:
                os.close(self._files.pop())


SPENT = SpentMemory()
"""That of this process: new values wait until it is free, so that no cell has the memory of two."""
