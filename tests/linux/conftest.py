"""Fixtures of the tests on the real kernel."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import lookup as containers
from nbcontainer.errors import ContainerNotFound
from tests.linux.made import IPV4, run_there
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A name for a container that is removed at the end."""
    chosen = f"named-{os.urandom(4).hex()}"
    yield chosen
    with contextlib.suppress(ContainerNotFound):
        containers.get(engine, chosen).remove()


@pytest.fixture
def made(tmp_path: Path, _containers_work: str) -> Callable[..., dict[str, str]]:
    """Runs a cell on a machine in a network of the test's, with a resolver on its loopback: what was said."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    require("ip", why="iproute2 is not installed")
    return functools.partial(run_there, tmp_path, route=IPV4, resolver="127.0.0.53")
