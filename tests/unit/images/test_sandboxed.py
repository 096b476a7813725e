"""The functions that run in a sandbox: they close what they open, so that the number of layers has no limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.images import sandboxed
from tests.running import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LAYERS = [f"layer{number}" for number in range(20)]


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The functions set the umask of their sandbox: the tests after these have their own again."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the functions take for their root, with layers in it."""
    for name in (*LAYERS, "new", "flat"):
        (tmp_path / name).mkdir()
        if name in LAYERS:
            (tmp_path / name / "f").write_text(name)
    monkeypatch.setattr(sandboxed, "_root", lambda: os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    return tmp_path


@pytest.mark.parametrize(
    "do",
    [
        lambda: sandboxed.list_layers((), print, layers=LAYERS),
        lambda: sandboxed.flatten((), print, layers=LAYERS, target="flat"),
        lambda: sandboxed.pick((), print, layers=LAYERS, current=LAYERS, target="new", paths=["/f"]),
    ],
    ids=["list_layers", "flatten", "pick"],
)
def test_descriptors_are_closed(root: Path, do: Callable[[], object]) -> None:
    """After a function on many layers, as many descriptors are open as before."""
    before = open_descriptors()
    do()
    assert root.exists()
    assert open_descriptors() == before


def test_layers_are_listed_one_by_one(root: Path) -> None:
    """Each layer has a list of its own, in the order of the arguments; a link in the place of one is not followed."""
    (root / "link").symlink_to(root / LAYERS[0])
    assert sandboxed.list_layers((), print, layers=LAYERS[:2]) == [[("C", "/f", 6)]] * 2
    with pytest.raises(OSError, match="link"):
        sandboxed.list_layers((), print, layers=["link"])
