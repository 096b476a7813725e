"""Fixtures of the attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from tests.attacks.attacker import Attacker
from tests.attacks.scene import Scene
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


@pytest.fixture
def scene(engine: Engine, tmp_path: Path) -> Scene:
    """What is attacked by way of a volume, on an engine of the test's own."""
    tmp_path.chmod(0o755)
    return Scene(engine, tmp_path)
