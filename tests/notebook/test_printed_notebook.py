"""A notebook with each kind of display, as nbconvert's HTML: what a reader of the page or of its print sees."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert.exporters import HTMLExporter

from tests.notebook.test_view_formats import words_of
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

CELLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "output": ("%%container busybox --name dev\necho visible; rm /bin/vi; echo new > /etc/motd", ("visible",)),
    "footer": ("%%container busybox --footer\necho more > /file", ("busybox · ✓ exit code 0", "1 file changed")),
    "shown": ("%%container busybox -v .:/work:ro --show\ncp /work/* /out", ("La Paz", "<img")),
    "ps": ("%container ps", ("dev", "busybox")),
    "images": ("%container images", ("busybox", "MB")),
    "history": ("%container history dev", ("✓ exited", "echo visible")),
    "diff": ("%container diff dev", ("1 added, 1 deleted", "motd")),
    "layers": ("%container layers dev", ("merged: what the cell sees", "/bin/vi")),
    "tree": ("%container tree", ("1 echo visible", "[dev]")),
    "mounts": ("%container mounts busybox", ("above them the cell's own", "/dev/null")),
    "namespaces": ("%container namespaces busybox", ("shared with the host",)),
    "doctor": ("%container doctor", ("✓ ok", "namespaces")),
    "explain": ("%%container busybox --explain\ntrue", ("PivotRoot", "pivot_root")),
    "progress": (
        "from nbcontainer.progress import State\n"
        "from nbcontainer.notebook.display.progress_bar import listener\n"
        "listener(get_ipython())(State('pull image', 1000, 1000, 2, 2, seconds=10, finished=True))",
        ("pull image", "2/2 layers"),
    ),
    "error": ("%%container busybox\ntrue\nno-such-program", ("CellFailed : exit code 127 at line 2: no-such-program",)),
    "hint": ("%container diff no-such", ("no such container", "list containers with")),
}
"""By the kind of display: a cell, and what its output must have in the page."""


@pytest.fixture(scope="module")
def page(store_path: Path, tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> str:
    """The notebook of CELLS, executed by nbclient and exported as HTML."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    require("pillow", available=importlib.util.find_spec("PIL") is not None)
    from PIL import Image

    folder = tmp_path_factory.mktemp("printed")
    Image.new("RGB", (40, 20), "teal").save(folder / "picture.png")
    (folder / "table.csv").write_text("city,rain\nLa Paz,15\n")
    codes = ["%load_ext nbcontainer", *(code for code, _ in CELLS.values()), "%container rm dev"]
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(code) for code in codes]  # type: ignore[no-untyped-call]
    )
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=120, resources=resources)
    client.execute(env={**os.environ, "NBCONTAINER_HOME": str(store_path)})
    made, _ = HTMLExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    return str(made)


def output_of(page: str, kind: str) -> str:
    """The HTML of the output of the cell of that kind."""
    cells: Any = page.split('class="jp-Cell jp-CodeCell')
    found: str = cells[2 + list(CELLS).index(kind)]
    return found.partition('class="jp-Cell-outputWrapper')[2]


@pytest.mark.parametrize("kind", CELLS)
def test_each_display_is_in_the_html_of_nbconvert(page: str, kind: str) -> None:
    """The texts of each kind of display are in the page, and pictures are in it, not beside it."""
    shown = output_of(page, kind)
    for text in CELLS[kind][1]:
        assert text in (shown if text.startswith("<") else words_of(shown))


def test_nothing_of_a_display_is_loaded_or_runs(page: str) -> None:
    """The outputs have no script and no picture from elsewhere: the page is the same on paper and without a network."""
    for kind in CELLS:
        shown = output_of(page, kind).partition("</main>")[0]
        assert "<script" not in shown
        assert 'src="http' not in shown
