"""Fixtures of the attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from tests.attacks.attacker import Attacker
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def attack(store_path: Path, tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> Iterator[Attacker]:
    """Runs attacks in cells of an image that has Python, all on one engine: the attacks are many."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    engine = Engine(store_path)
    yield Attacker(engine, tmp_path_factory.mktemp("images"))
    engine.close()
