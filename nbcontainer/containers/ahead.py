"""Containers that are made before anybody asks for them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nbcontainer.containers.upper import Upper
from nbcontainer.sandbox import plan

if TYPE_CHECKING:
    from nbcontainer.images.store import Store
    from nbcontainer.sandbox.launcher import Launcher
    from nbcontainer.sandbox.steps import Step

DEPTH = 2
"""Containers ready at a time: while a cell goes by so fast that the next one comes at once, that one has the second."""


class Ahead:
    """Containers with everything done but their program, on the layers where the next cell is likely to be.

    Thread-safe: one thread prepares, any may take.
    """

    def __init__(self, store: Store, launcher: Launcher) -> None:
        self._store = store
        self._launcher = launcher
        self._lock = threading.Lock()
        self._ready: list[tuple[Upper, tuple[Step, ...]]] = []

    def take(self, lowers: tuple[str, ...]) -> Upper | None:
        """The upper of a container on these layers (the topmost first) that waits for its plan, or None."""
        with self._lock:
            for index, (upper, steps) in enumerate(self._ready):
                if self._fits(upper, lowers) and self._launcher.has(steps):
                    del self._ready[index]
                    return upper
        return None

    def _fits(self, upper: Upper, lowers: tuple[str, ...]) -> bool:
        return upper.lowers == lowers and upper.in_memory == self._store.in_memory

    def prepare(self, lowers: tuple[str, ...]) -> None:
        """Sees to it that there are DEPTH containers on these layers, and none on others. Raises this package's errors.

        Does not wait for them to be made, nor does a `take`: who starts one waits for what is missing.
        """
        with self._lock:
            kept = [one for one in self._ready if self._fits(one[0], lowers) and self._launcher.has(one[1])]
            others = [one for one in self._ready if one not in kept]
            self._ready = kept
        for upper, steps in others:
            self._launcher.dismiss(steps)
            upper.remove()
        for _ in range(DEPTH - len(kept)):
            upper = Upper(self._store, lowers)
            upper.make()
            steps = plan.ahead(upper.root, self._launcher.idmap)
            self._launcher.order(steps)
            with self._lock:
                self._ready.append((upper, steps))
