"""`nbcontainer demo`: execute the quick start in a new kernel, and print its outputs as they come."""

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
    """Return the notebook's path (host): in the installed package, or in the checkout."""
    here = Path(__file__).parent
    installed = here / "quickstart.ipynb"
    return installed if installed.exists() else here.parent / "notebooks" / "quickstart.ipynb"


def show() -> int:
    """Execute the quick start cell by cell, and print the outputs; return 0 if no cell failed.

    Raises `NbcontainerError` if the packages for it are not installed.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        hint = "install it with `pip install 'nbcontainer[demo]'`"
        raise NbcontainerError(f"cannot run the demo: package '{error.name}' is not installed", hint=hint) from None
    notebook: Any = nbformat.read(quickstart(), as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=300, allow_errors=True)
    with tempfile.TemporaryDirectory(prefix="nbcontainer-") as folder:
        manager = client.create_kernel_manager()
        manager.transport = "ipc"  # other users of the machine cannot connect
        manager.connection_file = f"{folder}/kernel.json"  # its sockets are beside it, at short paths
        return int(_execute(client))


def _execute(client: NotebookClient) -> bool:
    """Execute the notebook cell by cell; return whether a cell failed."""
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
