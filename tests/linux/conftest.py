"""Fixtures of the tests on the real kernel."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import container as containers
from nbcontainer.errors import ContainerNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A name for a container that is removed at the end."""
    chosen = f"named-{os.urandom(4).hex()}"
    yield chosen
    with contextlib.suppress(ContainerNotFound):
        containers.get(engine, chosen).remove()
