"""Progress in a notebook that is executed: one display, in its last state."""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient

CODE = """
from nbcontainer.progress import State
from nbcontainer.notebook.display.progress_bar import listener

show = listener(get_ipython())
for done in range(0, 1001):
    show(State("pull <x>", done, 1000, done // 500, 2, seconds=done / 100))
show(State("pull <x>", 1000, 1000, 2, 2, seconds=10, finished=True))
"""


def test_one_display_in_its_last_state() -> None:
    """A thousand states are one output, which says how it ended, for a page and as text."""
    cell = nbformat.v4.new_code_cell(CODE)  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert output.data["text/plain"] == "pull <x>  2/2 layers  1.0 kB of 1.0 kB  100%  10.0 s"
    assert "&lt;x&gt;" in output.data["text/html"]
    assert "<progress" not in output.data["text/html"]
