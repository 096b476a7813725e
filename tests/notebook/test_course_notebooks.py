"""The chapters of the course, executed as readers do: in English for users with many ids, else in Chinese."""

from __future__ import annotations

import copy
import json
import os
import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from nbcontainer.sandbox.userns import idmap
from tests.debian import debian_tar
from tests.notebook import executing
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

COURSE = executing.NOTEBOOKS / "course"
LANGUAGE = "en" if os.geteuid() == 0 or idmap.choose().kind is not idmap.SINGLE else "zh"
CHAPTERS = sorted((COURSE / LANGUAGE).glob("*.ipynb"))

_MADE_BY_THE_MAGIC = "lrwxrwxrwx './etc/mtab' -> '/proc/self/mounts'", "lrwxrwxrwx '/etc/mtab' -> '/proc/self/mounts'"
"""All that a cell's tree has more than the one that is made by hand."""

_TREES = "import json\nprint(json.dumps([sorted(by_hand), sorted(by_magic)]))"

ALL = os.environ.get("NBCONTAINER_NOTEBOOKS") == "all"
"""Whether the notebook that imports a whole Debian is executed: it takes a minute, and the tar of tests/debian.py."""

USES = [path for path in sorted((executing.NOTEBOOKS / "uses").glob("*.ipynb")) if ALL or path.stem != "data-science"]


def solutions(notebook: Any) -> list[str]:
    """Return the solutions of a chapter, each with the check of its exercise, which must then be done."""
    found: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("lab.check(") and ".predict" not in cell.source:
            found.append(f"print(bool({cell.source}))")
        elif "<details>" in cell.source and found and found[-1].startswith("print(bool("):
            found[-1] = re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL)[0] + found[-1]
    return found


def ran(notebook: Any, number: int) -> str:
    """Return what a cell wrote to its standard output."""
    return "".join(output.get("text", "") for output in notebook.cells[number].outputs)


@pytest.fixture
def env(store_path: Path, short_path: Path, _containers_work: str) -> dict[str, str]:
    """The environment of a kernel whose store and settings are the tests' own."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    return {**os.environ, "NBCONTAINER_HOME": str(store_path), "IPYTHONDIR": str(short_path / "ipython")}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_does_what_its_reader_sees(path: Path, env: dict[str, str], short_path: Path) -> None:
    """Its outputs are the stored ones, the tree made by hand is the magic's, and each solution passes its check."""
    stored = executing.read(path)
    notebook, last = copy.deepcopy(stored), len(stored.cells)
    more = [_TREES, *solutions(notebook)]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]  # type: ignore[no-untyped-call]
    executing.execute(notebook, short_path, env)
    assert_outputs(notebook, stored)
    by_hand, by_magic = json.loads(ran(notebook, last))
    assert [line for line in by_magic if line not in _MADE_BY_THE_MAGIC] == by_hand
    assert len(by_hand) >= 3
    assert [ran(notebook, last + 1 + number).split()[-1] for number in range(len(more) - 1)] == ["True"] * (
        len(more) - 1
    )
    assert len(more) > 1


@pytest.mark.slow
@pytest.mark.parametrize("path", USES, ids=lambda path: path.stem)
def test_a_use_shows_what_is_stored(path: Path, env: dict[str, str], short_path: Path) -> None:
    """The notebooks about uses fail nowhere, and their outputs are the stored ones."""
    stored = executing.read(path)
    notebook = copy.deepcopy(stored)
    debian = {"DEBIAN_TAR": str(debian_tar())} if path.stem == "data-science" else {}
    executing.execute(notebook, short_path, {**env, **debian})
    assert_outputs(notebook, stored)


def assert_outputs(notebook: Any, stored: Any) -> None:
    """Assert that a notebook has the stored outputs, where these are the same on all machines."""
    for cell, before in zip(notebook.cells, stored.cells, strict=False):
        if cell.cell_type == "code" and executing.MACHINE not in cell.metadata.get("tags", ()):
            found = json.loads(json.dumps(executing.outputs(cell)))
            assert [_comparable(one) for one in found] == [_comparable(one) for one in before.outputs], cell.source


def _comparable(output: Any) -> Any:
    """Return an output without its drawing, which is compared as its text."""
    data = {kind: value for kind, value in output.get("data", {}).items() if kind == "text/plain"}
    return {**output, "data": data}
