"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from nbcontainer.errors import SandboxError
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.helper import program
from nbcontainer.sandbox.network import private
from tests.requirements import require, require_private_network
from tests.reusing import reusing_engine
from tests.running import Ran, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["tests.hanging", "tests.retried", "tests.sampling"]


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's directory (host), one for the whole run, so that busybox is unpacked once."""
    return tmp_path_factory.mktemp("store") / "store"


@pytest.fixture(scope="session")
def _containers_work(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why this machine cannot make the namespaces of containers; empty where it can."""
    probe = Engine(tmp_path_factory.mktemp("probe") / "store")
    try:
        return "" if probe.launcher.pid else "no launcher"
    except SandboxError as error:
        return str(error)
    finally:
        probe.close()


@pytest.fixture
def reusing(store_path: Path, _containers_work: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine of the test's own whose containers leave their roots to the next ones."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    monkeypatch.setenv(program.SWITCH, "1")
    with reusing_engine(store_path) as opened:
        yield opened


@pytest.fixture
def engine(store_path: Path, _containers_work: str) -> Iterator[Engine]:
    """An engine of the test's own on the run's store; what it leaves running fails nobody else."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    opened = Engine(store_path)
    yield opened
    opened.close()


@pytest.fixture
def cell(engine: Engine) -> Callable[..., Ran]:
    """Runs a script as a cell of busybox on `engine`: `cell(script, user="1000", …)`, see `run_script`."""
    return functools.partial(run_script, engine)


@pytest.fixture(params=["pasta", "slirp4netns"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The program that makes the network, as if no other were installed."""
    name: str = request.param
    require_private_network(name)
    installed = private.find_tools(Machine())
    monkeypatch.setattr(private, "find_tools", lambda _: [tool for tool in installed if tool.name == name])
    return name
