"""The cells of the pages in docs/how-to and of docs/install.md are executed, in order, in an empty notebook each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from tests import documents
from tests.documents import PROJECT
from tests.notebook.executing import execute
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [PROJECT / "docs" / "install.md", *sorted((PROJECT / "docs" / "how-to").glob("*.md"))]

_ELSEWHERE = ("python:3.12", "%container load", "--name dev", "%pip")
"""Parts of cells that need a registry or change the environment: another test parses them."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """The cells of a page that run anywhere, each with the output that the page shows for it, or an empty text."""
    found: list[tuple[str, str]] = []
    for _, language, block in documents._FENCE.findall(page.read_text()):
        if language == "ipython" and not any(part in block for part in _ELSEWHERE):
            found.append((block.rstrip("\n"), ""))
        elif language == "text":
            found[-1] = (found[-1][0], block)
    return found


@pytest.fixture
def env(short_path: Path, store_path: Path, _containers_work: str) -> dict[str, str]:
    """The environment of a kernel with a store of its own."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    return {**os.environ, "NBCONTAINER_HOME": str(store_path), "IPYTHONDIR": str(short_path / "ipython")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_cells_of_a_page_print_what_it_shows(page: Path, env: dict[str, str], short_path: Path) -> None:
    """Each cell of a page runs in the order of the page, and prints the text that the page shows after it."""
    code = [("%load_ext nbcontainer", ""), *blocks(page)]
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell, _ in code]  # type: ignore[no-untyped-call]
    execute(notebook, short_path, env)
    for cell, (source, shown) in zip(notebook.cells, code, strict=True):
        lines = "".join(output.text for output in cell.outputs if output.output_type == "stream").splitlines(True)
        printed = "".join(line for line in lines if not line.startswith("nbcontainer: "))  # notices of this machine
        if shown and "$(hostname)" not in source:
            assert printed == shown, source


def test_the_pages_have_cells_to_run() -> None:
    """The pages' cells are found: a change of their form does not turn the test off."""
    require("sources", available=PAGES[0].exists(), why="the project's pages are not around")
    assert [page.stem for page in PAGES if len(blocks(page)) < 3] == []
