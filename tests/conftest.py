"""Fixtures that every folder of tests shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's directory (host), one for the whole run, so that busybox is unpacked once."""
    return tmp_path_factory.mktemp("store") / "store"


@pytest.fixture
def engine(store_path: Path) -> Iterator[Engine]:
    """An engine of the test's own on the run's store; what it leaves running fails nobody else."""
    opened = Engine(store_path)
    yield opened
    opened.close()
