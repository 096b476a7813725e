"""What people write in cells out of habit from IPython: `!command`, and `?` after a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Cell, Kernel
    from tests.notebook.shell_kernels import ShellKernel


def page(kernel: Kernel, code: str) -> str:
    """The text that a cell shows in the frontend's pager."""
    reply: dict[str, Any] = kernel.client.execute(code, reply=True, timeout=60)
    return str(reply["content"]["payload"][0]["data"]["text/plain"])


def test_a_command_with_a_bang_is_run_by_the_shell(shell_kernel: ShellKernel) -> None:
    """It changes the shell, as a line without it does; in a text it stays, and `! command` is the shell's negation."""
    assert shell_kernel.run("!ls / | grep -x etc").good().stdout == "etc\n"
    assert shell_kernel.run("!x=1\n!cd /etc\ncat <<END\n!text\nEND\n!echo $x $PWD").good().stdout == "!text\n1 /etc\n"
    assert shell_kernel.run("! false").good().stdout == ""


def shown(cell: Cell) -> list[str]:
    """The texts of a cell's displays."""
    return [message["data"]["text/plain"] for message in cell.messages if message["type"] == "display_data"]


def test_a_failed_cell_of_a_shell_has_hints(shell_kernel: ShellKernel) -> None:
    """On a negation, and on a network that the container does not have: each once, as a display of its own."""
    cell = shell_kernel.run("! echo shown")
    assert cell.error is not None
    assert cell.stdout == "shown\n"
    (text,) = shown(cell)
    assert text.startswith("hint: `! command` is the shell's negation: write `!command`")
    assert shown(shell_kernel.run("! true")) == []
    assert shown(shell_kernel.run("wget -q http://192.0.2.1/; true").good()) == []
    (text,) = shown(shell_kernel.run("wget -q http://192.0.2.1/"))
    assert "`kernel install --network private`" in text


def test_a_question_about_a_magic_shows_its_verbs(shell_kernel: ShellKernel) -> None:
    """`%container?` in the kernel shows what `%container --help` shows."""
    for code in ("%container?", "?%container", "%%container??"):
        assert "List the images in the store" in page(shell_kernel, code)
    assert "--change" in page(shell_kernel, "%commit?")
    assert "no information" in page(shell_kernel, "%nosuch?")


def test_an_assignment_that_ends_with_a_question_mark_is_the_shells(shell_kernel: ShellKernel) -> None:
    """`status=$?` keeps the last exit status, and asks for no documentation."""
    shell_kernel.run("(exit 7)")
    shell_kernel.run("status=$?").good()
    shell_kernel.run("other=${status}?").good()
    assert shell_kernel.run("echo $status $other").good().stdout == "7 7?\n"
    assert "/root" in page(shell_kernel, "$HOME?")


@pytest.mark.parametrize("code", ["%%container?", "%container?"])
def test_a_question_about_the_magic_shows_its_options(notebook: Notebook, code: str) -> None:
    """`%%container?` and `%container?` show all that `%%container --help` shows, as `%%bash?` does."""
    shown = notebook.good(code)
    for line in notebook.good("%%container --help\ntrue").splitlines():
        assert line in shown
    assert "--network none|host|private" in shown


def test_a_question_about_commit_shows_its_options(notebook: Notebook) -> None:
    """`%commit?` shows the options of `%commit --help`."""
    assert "--change INSTRUCTION" in notebook.good("%commit?")
