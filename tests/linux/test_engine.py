"""What an engine does in the background, and when."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.engine import Engine

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_held_is_done_later_in_its_order(store_path: Path) -> None:
    """Between `hold` and `go_on` nothing is done in the background; then all of it, in the order it came."""
    done: list[int] = []
    with contextlib.closing(Engine(store_path)) as engine:
        engine.hold()
        engine.hold()
        for number in range(3):
            engine.later(lambda number=number: done.append(number))  # type: ignore[misc]
        assert done == []
        engine.go_on()
        engine.settle()
        assert done == [0, 1, 2]
        engine.go_on()


def test_an_engine_that_is_closed_forgets_nothing(store_path: Path) -> None:
    """What was held when the notebook ends is done before the engine is closed."""
    done: list[str] = []
    engine = Engine(store_path)
    engine.hold()
    engine.later(lambda: done.append("held"))
    engine.close()
    assert done == ["held"]
    engine.hold()
    engine.later(lambda: done.append("after"))
    engine.close()
    assert done == ["held"]


def test_waiting_for_the_background_ends_the_hold(store_path: Path) -> None:
    """Who waits for what was given to the background gets it done, held or not."""
    done: list[str] = []
    with contextlib.closing(Engine(store_path)) as engine:
        engine.hold()
        engine.later(lambda: done.append("held"))
        engine.settle()
        assert done == ["held"]
