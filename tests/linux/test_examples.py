"""The examples in the docstrings of the package and of each public name, run as they stand there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import doctest
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.containers.engine import set_default_engine
from nbcontainer.errors import ImageNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine

PUBLIC = [name for name in nbcontainer.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's directory (host) for this file: an example lists its containers, and other tests leave some."""
    return tmp_path_factory.mktemp("examples") / "store"


@pytest.fixture
def _default(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's engine is the default one, and the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBCONTAINER_HOME", str(engine.store.path))
    set_default_engine(engine)
    yield
    set_default_engine(None)
    for name in ("kept", "mine", "greeting"):
        try:
            engine.store.index.drop_image(name)
        except ImageNotFound:
            continue


@pytest.mark.usefixtures("_default")
def test_the_examples_of_help_work() -> None:
    """Each example that `help(nbcontainer)` shows gives what it says."""
    found = doctest.testmod(nbcontainer, verbose=False)
    assert found.failed == 0
    assert found.attempted >= 9


@pytest.mark.usefixtures("_default")
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    """Each public name has an example in its documentation, and what it shows is what happens."""
    ran = examples(getattr(nbcontainer, name), name)
    assert ran.attempted > 0, f"{name} has no example"
    assert ran.failed == 0


@pytest.mark.usefixtures("_default")
@pytest.mark.parametrize(
    "kind", [nbcontainer.Container, nbcontainer.Result, nbcontainer.OutputStream, nbcontainer.Mapped]
)
def test_a_public_method_is_documented(kind: type) -> None:
    """Each public method of the API's classes has documentation; the examples there work."""
    for name, member in inspect.getmembers(kind):
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        assert member.__doc__, name
        assert examples(member, name).failed == 0


def examples(value: Any, name: str) -> doctest.TestResults:
    """Runs the examples in the own docstring of a public thing, with all public names at hand."""
    names: dict[str, Any] = {one: getattr(nbcontainer, one) for one in PUBLIC} | {"asyncio": asyncio, "Path": Path}
    names |= {one: getattr(concurrent.futures, one) for one in ("ProcessPoolExecutor", "ThreadPoolExecutor")}
    parsed = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", names, name, None, None)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(parsed)
    return doctest.TestResults(runner.failures, runner.tries)
