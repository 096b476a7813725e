"""The worker's end of a notebook's lifeline, without a notebook."""

from __future__ import annotations

import threading

import pytest

from nbcontainer.mapping import lifeline
from nbcontainer.mapping.lifeline import Lifelines


def test_an_item_without_a_watch_on_its_notebook_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that cannot have a thread that waits for the end of the notebook fails, and so does the next item."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    ends = Lifelines()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            ends.runs(f"name-{lifeline._here()}")
