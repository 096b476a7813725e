"""Executes notebooks with the tree's own code, and stores their outputs: `python -m tests.notebook.executing [PATH…]`.

Drawings are stored as pictures on white paper, which GitHub and printers show, in place of HTML for live notebooks.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RAISES, VARIES, MACHINE = "raises-exception", "varies", "machine"
"""Tags of cells that must fail, of cells whose output is another one at each run (it is not stored), and of cells
whose output depends on the machine."""

_COLOUR = re.compile(r"(?:var\(--[\w-]+, ?)+(?:currentColor|(#\w+))\)+")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_INK = "#1f2328"


def read(path: Path) -> Any:
    """Return a notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def execute(notebook: Any, folder: Path, env: Mapping[str, str]) -> None:
    """Execute a notebook in `folder`, with the kernel's sockets there. Raises for a failing cell that is not tagged."""
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    manager = client.create_kernel_manager()
    manager.transport = "ipc"
    manager.connection_file = str(folder / "kernel.json")
    client.execute(env=dict(env))


def outputs(cell: Any) -> list[dict[str, Any]]:
    """Return the outputs of a cell as they are stored."""
    if VARIES in cell.metadata.get("tags", ()):
        return []
    made: list[dict[str, Any]] = []
    for output in map(_stored, cell.get("outputs", ())):
        if made and output["output_type"] == "stream" and output.get("name") == made[-1].get("name"):
            made[-1]["text"] += output["text"]
        elif output.get("text") != "\n":
            made.append(output)
    return made


def _stored(output: Any) -> dict[str, Any]:
    made = {key: value for key, value in output.items() if key not in ("execution_count", "transient")}
    if output.output_type == "error":
        return {**made, "traceback": [_ANSI.sub("", line) for line in output.traceback]}
    if "data" in output:
        made = {**made, "data": _data(output.data)}
        if output.output_type == "execute_result":
            made["execution_count"] = None
    return made


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the forms of a value: its text, and its drawing if it has one."""
    found = re.search(r"<svg.*</svg>", data.get("text/html", ""), re.DOTALL)
    live = 'class="nbcontainer ' in data.get("text/html", "")
    kept = {kind: value for kind, value in data.items() if kind != "text/html" or not live}
    return {**kept, "image/svg+xml": _on_paper(found[0])} if found else kept


def _on_paper(drawing: str) -> str:
    """Return a drawing with its own colours, on white: it is shown as a picture, without the page's colours."""
    coloured = _COLOUR.sub(lambda found: found[1] or _INK, drawing)
    return coloured.replace("</title>", '</title><rect width="100%" height="100%" fill="#ffffff"/>', 1)


def store(path: Path, env: Mapping[str, str]) -> None:
    """Execute a notebook and write its outputs into it."""
    notebook = read(path)
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        execute(notebook, Path(folder), env)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(output) for output in outputs(cell)]  # type: ignore[no-untyped-call]
            cell.execution_count = None
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def main(paths: Iterable[Path]) -> None:
    """Store the outputs of notebooks, with a store of their own."""
    with tempfile.TemporaryDirectory(prefix="nb-") as home:
        for path in paths:
            store(path, {**os.environ, "NBCONTAINER_HOME": f"{home}/store", "IPYTHONDIR": f"{home}/ipython"})
            print(path)


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*/**/*.ipynb")))
