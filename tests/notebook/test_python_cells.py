"""`--python`, and `display` in the cells of the magics: rich results of a container, made inert."""

from __future__ import annotations

import sysconfig
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Kernel

PYTHON = "%%container host --python\n"


def shown(kernel: Kernel, code: str) -> list[dict[str, Any]]:
    """The data of what a cell displays, in order."""
    cell = kernel.run(code).good()
    return [message["data"] for message in cell.messages if message["type"] == "display_data"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("x = 1\nx + 1", "2\n"),
        ("x = 1\nx + 1;", ""),
        ("x = 1; x  # not hidden; here", "1\n"),
        ("x = 1", ""),
        ("None", ""),
        ("", ""),
        ("print('out')\n'value'", "out\n'value'\n"),
        ("import asyncio\nawait asyncio.sleep(0, 'later')", "'later'\n"),
        ("display(1, 'two')", "1\n'two'\n"),
        ("class C: pass\nimport pickle\npickle.loads(pickle.dumps(C())).__class__ is C", "True\n"),
        ("def f():\n    return __name__\nf()", "'__main__'\n"),
        ("'\\udc80'", "'\\udc80'\n"),
        (
            "class Bad:\n    def _repr_html_(self): raise ValueError\n    def __repr__(self): return 'bad'\nBad()",
            "bad\n",
        ),
    ],
)
def test_the_last_value_is_shown(notebook: Notebook, body: str, text: str) -> None:
    """The value of a last expression without a semicolon is shown after the output; None is not."""
    assert notebook.good(PYTHON + "# a cell\n" + body) == text


def test_a_traceback_has_the_cells_own_lines(notebook: Notebook) -> None:
    """The traceback of an error has the body's line numbers and its text, and nothing of the driver."""
    ran = notebook.run(PYTHON + "\n\ndef f():\n    1/0\n\nf()")
    assert str(ran.error).startswith("exit code 1")
    lines = [line for line in ran.stderr.splitlines() if "^" not in line and "~" not in line]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "/dev/cell", line 6, in <module>',
        "    f()",
        '  File "/dev/cell", line 4, in f',
        "    1/0",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("import sys; sys.exit('why')", 1, "why\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, ""),
    ],
)
def test_a_cell_exits_with_its_status(notebook: Notebook, body: str, code: int, text: str) -> None:
    """`sys.exit` and signals give the cell's exit code, without a traceback."""
    ran = notebook.run(PYTHON + body)
    assert ran.error is not None
    assert ran.error.outcome.exit_code == code  # type: ignore[attr-defined]
    assert ran.stderr == text


def test_the_body_has_arguments_and_a_program(notebook: Notebook) -> None:
    """`-s` gives arguments, and a first line `#!` names the Python that runs the body."""
    assert notebook.good("%%container host --python -s a b\nimport sys\nsys.argv[1:]") == "['a', 'b']\n"
    assert notebook.good(PYTHON + "#!/usr/bin/env python3\n2 + 2") == "4\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("%%container busybox --python\n1", "SetupFailed: cannot run"),
        ("%%container busybox --python cat\n1", "UsageError: --python runs the cell's body"),
        ("%container run busybox --python", "UsageError: --python runs the cell's body"),
    ],
)
def test_a_wrong_request_is_refused(notebook: Notebook, line: str, error: str) -> None:
    """An image without Python, and a request without a body, fail in one line."""
    assert notebook.fails(line).startswith(error)


def test_the_driver_is_in_no_layer(notebook: Notebook) -> None:
    """A Python cell leaves nothing of the driver in the container's files."""
    notebook.good(PYTHON + "1")
    assert "nbcontainer" not in str(notebook.run("%container diff").value)


def test_a_value_has_its_forms(shared_kernel: Kernel) -> None:
    """Objects are shown by IPython's display methods; HTML is sanitized, and the text is the object's own."""
    body = "class T:\n    def _repr_html_(self): return '<b onclick=x()>t</b><script>1</script>'\n"
    body += "    def __repr__(self): return 'text'\nT()"
    assert shown(shared_kernel, PYTHON + body) == [{"text/html": "<b>t</b>", "text/plain": "text"}]


def test_figures_are_shown(shared_kernel: Kernel) -> None:
    """Every open figure of matplotlib is shown as a picture: at `show`, and at the end of the cell."""
    pytest.importorskip("matplotlib")
    packages = sysconfig.get_path("purelib")
    line = (
        f"%%container host --python --quiet -v {packages}:/packages:ro -e PYTHONPATH=/packages -e MPLCONFIGDIR=/tmp\n"
    )
    body = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('between')\nplt.plot([2, 1]);"
    cell = shared_kernel.run(line + body).good()
    kinds = [message["type"] for message in cell.messages if message["type"] in ("display_data", "stream")]
    assert kinds == ["display_data", "stream", "display_data"], cell.messages
    for message in cell.messages:
        if message["type"] == "display_data":
            assert message["data"]["image/png"].startswith("iVBOR")
            assert "Figure" in message["data"]["text/plain"]


def test_display_shows_data_in_order(notebook: Notebook) -> None:
    """The program `display` works in an ordinary cell, also in a script that it runs, in the order of output."""
    body = "echo before; echo '[1]' >a.json; echo 'display a.json' >s; sh s; echo after; display --clear"
    assert notebook.good(f"%%container busybox\n{body}").startswith("before\n<application/json, 4 bytes>\nafter\n")


@pytest.mark.parametrize("options", ["-u 1000", "--read-only", "--network host"])
def test_display_works_for_other_cells(notebook: Notebook, engine: Engine, options: str) -> None:
    """A cell of another user, on a read-only root, or on the host's network shows data, too."""
    if "1000" in options and engine.single_id:
        pytest.skip("a single id has one user")
    assert "<application/json, 4 bytes>" in notebook.good(
        f"%%container busybox {options}\necho '[1]' | display -t json"
    )


def test_what_could_run_code_is_refused(notebook: Notebook) -> None:
    """A script is refused with one line, unless the cell trusts its output."""
    ran = notebook.run("%%container busybox\necho 'alert(1)' | display -t application/javascript; echo after")
    assert (ran.stdout, ran.error) == ("after\n", None)
    assert ran.stderr.startswith("nbcontainer: display: application/javascript is not shown")
    trusted = "%%container busybox --trust-output\necho 'alert(1)' | display -t application/javascript"
    assert notebook.run(trusted).stderr == ""


def test_without_a_notebook_display_fails(notebook: Notebook) -> None:
    """Where nothing can be shown, `display` fails with a message, and does not wait."""
    script = "/dev/nbcontainer/bin/display -t json </dev/null"
    notebook.good(f"import nbcontainer\nran = nbcontainer.run('busybox', script='{script}', check=False)")
    assert notebook["ran"].stderr == b"display: this run has no notebook to show it in\n"
    assert notebook["ran"].exit_code == 1
