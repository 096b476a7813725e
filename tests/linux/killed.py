"""Running `tests.linux.history_process`, which kills itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.linux.history_process import LAST_EVENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.engine import Engine

EVENTS = {"undo": 8, "redo": 8, "checkout": 18, "remove": 32, "discard": 40, "flatten": 60, "commit": 100}
"""About how many audit events each of these makes."""

_MOST = 150
_WITHOUT_SANDBOX = ("undo", "redo", "checkout", "remove")
_TICKS = 200
_EARLY = 0.6
"""Up to this moment, a process is killed at an event, and later at a time: its sandbox works then."""


def killed(engine: Engine, name: str, kind: str, words: Sequence[str], moment: float) -> str:
    """Let another process do something to a container, and be killed at a moment between 0 and 1 of it.

    Return its error if it was refused, an empty text if it was not.
    """
    place = [str(engine.store.path), name, str(_event(kind, moment)), kind]
    child = [sys.executable, "-m", "tests.linux.history_process", *place, *words]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, -signal.SIGKILL), done.stderr
    return done.stderr if done.returncode == 1 else ""


def _event(kind: str, moment: float) -> int:
    events = EVENTS.get(kind, _MOST)
    if kind in _WITHOUT_SANDBOX:
        return 1 + int(moment * events)
    if moment <= _EARLY:
        return 1 + int(moment / _EARLY * events)
    return LAST_EVENT + 1 + int((moment - _EARLY) / (1 - _EARLY) * _TICKS)
