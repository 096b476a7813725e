"""`nbcontainer demo`: the quick start, executed for real in a kernel of its own, its outputs shown as they come."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import NbcontainerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbclient import NotebookClient

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def quickstart() -> Path:
    """The notebook (host): in the installed package, or in the checkout it is run from."""
    here = Path(__file__).parent
    installed = here / "quickstart.ipynb"
    return installed if installed.exists() else here.parent / "notebooks" / "quickstart.ipynb"


def show() -> int:
    """Executes the quick start cell by cell and prints what each says; 0 if none failed."""
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        hint = "pip install 'nbcontainer[demo]'"
        raise NbcontainerError(f"the demo executes a notebook, which needs {error.name}", hint=hint) from None
    notebook: Any = nbformat.read(quickstart(), as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=300, allow_errors=True)
    with tempfile.TemporaryDirectory(prefix="nbcontainer-") as folder:
        manager = client.create_kernel_manager()
        manager.transport = "ipc"  # nobody else on the machine can listen
        manager.connection_file = f"{folder}/kernel.json"  # its sockets are beside it: short, and not where people work
        return int(_execute(client))


def _execute(client: NotebookClient) -> bool:
    """Executes the notebook, cell by cell; whether one failed."""
    failed = False
    with client.setup_kernel():
        for index, cell in enumerate(client.nb.cells):
            print(_source(cell), flush=True)
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
                for text in _outputs(cell):
                    print(text.rstrip("\n"), flush=True)
                failed = failed or any(output.output_type == "error" for output in cell.outputs)
            print(flush=True)
    return failed


def _source(cell: Any) -> str:
    mark = "" if cell.cell_type == "markdown" else "    "
    return "\n".join(mark + line for line in cell.source.splitlines()) + "\n"


def _outputs(cell: Any) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield _ANSI.sub("", "\n".join(output.traceback))
        else:
            yield output.data.get("text/plain", "")
