"""What notebooks show beside the output of cells: footers and errors."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from nbcontainer.commands.output import MESSAGE_LIMIT
from nbcontainer.notebook.magics import ContainerMagics

if TYPE_CHECKING:
    import pytest

    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Cell, Kernel
    from tests.notebook.shell_kernels import ShellKernel

FOOTER = "nbcontainer.notebook.display.footer"
NOT_FOUND = "echo one\n\nno-such-program --now"


def footers(cell: Cell) -> list[str]:
    """The texts of the displays of a cell that are not hints."""
    shown = [message["data"] for message in cell.messages if message["type"] == "display_data"]
    assert all("<script" not in data["text/html"] for data in shown)
    return [data["text/plain"] for data in shown if not data["text/plain"].startswith("hint: ")]


def test_a_footer_shows_where_a_cell_ran_and_what_it_used(shared_kernel: Kernel) -> None:
    """Image, exit code, time, peak memory and changed files, in a display of its own, also for a cell that failed."""
    good = shared_kernel.run(
        "%%container busybox --footer\necho a > /one; mkdir /dir; echo b > /dir/two; rm /bin/vi"
    ).good()
    (line,) = footers(good)
    assert re.fullmatch(r"busybox · ✓ exit code 0 · [\d.]+ m?s · [\d.]+ [kM]B of memory · 3 files changed", line)
    assert good.stdout == ""
    bad = shared_kernel.run("%%container busybox --footer --name footed\necho > /x; exit 3")
    assert bad.error is not None
    assert re.fullmatch(r"footed \(busybox\) · ✗ exit code 3 · .* · 1 file changed", footers(bad)[0])


def test_a_footer_costs_nothing_when_it_is_off(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default no footer is made, and its module is not even imported; the trait turns it on for a notebook."""
    monkeypatch.delitem(sys.modules, FOOTER, raising=False)
    notebook.good("%%container busybox\necho > /x")
    assert FOOTER not in sys.modules
    notebook.good("%config ContainerMagics.footer = True")
    notebook.good("%%container busybox\necho > /x")
    assert FOOTER in sys.modules


def test_a_removed_container_has_a_footer_without_files(shared_kernel: Kernel) -> None:
    """With `--rm` the layer is gone when the footer is made: the other facts are there."""
    cell = shared_kernel.run("%%container busybox --footer --rm\necho > /x").good()
    assert footers(cell)[0].startswith("busybox · ✓ exit code 0")


def test_an_error_shows_the_line_that_the_shell_reported(shared_kernel: Kernel) -> None:
    """A cell that fails at a line of its script has this line in its error: one coloured line, without a traceback."""
    cell = shared_kernel.run(f"%%container busybox\n{NOT_FOUND}")
    assert cell.error is not None
    assert cell.error["evalue"] == "exit code 127 at line 3: no-such-program --now"
    assert cell.error["traceback"] == [f"\x1b[31mCellFailed\x1b[0m: {cell.error['evalue']}"]


def test_an_error_in_the_shell_kernel_shows_the_line(shell_kernel: ShellKernel) -> None:
    """The same in a kernel whose cells are a shell's."""
    cell = shell_kernel.run(NOT_FOUND)
    assert cell.error is not None
    assert cell.error["evalue"] == "exit code 127 at line 3: no-such-program --now"


def test_a_hint_is_bold(shared_kernel: Kernel) -> None:
    """The type is red; the hint has the colour of text, which is readable where errors are shown, in each theme."""
    cell = shared_kernel.run("%container diff no-such-container")
    assert cell.error is not None
    (line,) = cell.error["traceback"]
    assert line.startswith("\x1b[31mContainerNotFound\x1b[0m: no such container: 'no-such-container'; \x1b[1mlist")
    assert re.sub(r"\x1b\[\d+m", "", line) == f"{cell.error['ename']}: {cell.error['evalue']}"


def test_an_error_is_plain_where_colours_are_off(notebook: Notebook) -> None:
    """With `%colors nocolor`, the line has no escape sequences."""
    assert "\x1b" not in notebook.fails(f"%%container busybox\n{NOT_FOUND}")


def test_the_limit_of_output_is_below_that_of_jupyter() -> None:
    """Above 3 MB in 3 seconds, Jupyter Server drops output: the default is less, and so are the messages of it."""
    default = ContainerMagics.class_traits()["output_limit"].default_value
    assert default < MESSAGE_LIMIT < 3_000_000


def test_a_footer_says_how_a_cell_ran_in_a_live_container(shared_kernel: Kernel) -> None:
    """In a container that still runs, a cell is its shell's, or a new process: the footer says which."""
    shell = shared_kernel.run("%%container busybox --name alive --live --footer\ntrue").good()
    assert footers(shell)[0].startswith("alive (busybox), in its shell · ✓ exit code 0")
    process = shared_kernel.run("%%container --name alive --footer\ntrue").good()
    assert footers(process)[0].startswith("alive (busybox), by a new process in it · ✓ exit code 0")
    shared_kernel.run("%container stop alive").good()
