"""Fixtures of the Python API's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.containers.engine import set_default_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def default(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The test's engine as the default one, and its store as that of other processes; busybox is in it."""
    monkeypatch.setenv("NBCONTAINER_HOME", str(engine.store.path))
    set_default_engine(engine)
    nbcontainer.run("busybox", ["true"])
    yield engine
    set_default_engine(None)
