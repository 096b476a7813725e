"""The examples in the package's docstring, run as they stand there."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

import nbcontainer
from nbcontainer.containers.engine import set_default_engine

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine


def test_the_examples_of_help_work(engine: Engine) -> None:
    """Each example that `help(nbcontainer)` shows gives what it says."""
    set_default_engine(engine)
    try:
        found = doctest.testmod(nbcontainer, verbose=False)
        assert found.failed == 0
        assert found.attempted >= 9
    finally:
        set_default_engine(None)
        engine.store.index.drop_image("kept")
