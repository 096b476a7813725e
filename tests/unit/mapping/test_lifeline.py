"""The worker's end of a notebook's lifeline, without a notebook."""

from __future__ import annotations

import threading

import pytest

from nbcontainer.mapping import lifeline
from nbcontainer.mapping.lifeline import Lifelines


def test_items_that_nothing_would_end_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no thread to wait for the end of the notebook, the item fails, and so does the next one."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    ends = Lifelines()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            ends.runs(f"name-{lifeline._here()}")
