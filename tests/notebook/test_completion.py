"""Completion of the magics in IPython and in a real ipykernel."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.completer import provisionalcompleter

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Kernel


def proposed(notebook: Notebook, code: str) -> list[str]:
    """What IPython proposes at the end of a cell, each with the text before it: as the line would be."""
    assert notebook.shell.Completer is not None
    with provisionalcompleter():
        found = list(notebook.shell.Completer.completions(code, len(code)))
    return [code[: one.start] + one.text for one in found]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("%%container busy", "%%container busybox"),
        ("%%container --netw", "%%container --network"),
        ("%%container --network pri", "%%container --network private"),
        ("%%container busybox /et", "%%container busybox /etc/"),
        ("%%container -w /et busybox", None),
        ("%%container busybox --netw", "%%container busybox --network"),
        ("%%container busybox --name kept", "%%container busybox --name kept-one"),
        ("%%container --in fra", "%%container --in frame_of_mine"),
        ("%%container --in x,fra", "%%container --in x,frame_of_mine"),
        ("%%container -v {fra", "%%container -v {frame_of_mine"),
        ("%container hist", "%container history"),
        ("%container ru", "%container run"),
        ("%container us", "%container use"),
        ("%container use --he", "%container use --here"),
        ("x = %container run bus", "x = %container run busybox"),
        ("%container history kept", "%container history kept-one"),
        ("%commit kept", "%commit kept-one"),
    ],
)
def test_the_line_is_completed(notebook: Notebook, engine: Engine, code: str, line: str | None) -> None:
    """Images, options, choices, paths, variables, verbs and containers."""
    notebook["frame_of_mine"] = 1
    notebook.good("%%container busybox --name kept-one\ntrue")
    try:
        found = proposed(notebook, code)
        if line is not None:
            assert line in found
            assert not [text for text in found if not text.startswith(line[: len(code)])]
    finally:
        notebook.good("%container rm kept-one")


def test_other_lines_are_pythons(notebook: Notebook) -> None:
    """A body, and a line that is none of ours, are completed as before."""
    notebook["frame_of_mine"] = 1
    assert "frame_of_mine" in proposed(notebook, "frame_of")
    assert not [text for text in proposed(notebook, "%%container busybox\n--netw") if "--network" in text]


def answered(kernel: Kernel, code: str) -> dict[str, Any]:
    """A kernel's reply to the message that JupyterLab and the console send for completion at the end of `code`."""
    content: dict[str, Any] = kernel.client.complete(code, len(code), reply=True, timeout=60)["content"]
    return content


def types(kernel: Kernel, code: str) -> dict[str, str]:
    """The types that JupyterLab shows beside the proposals (`_jupyter_types_experimental`)."""
    return {one["text"]: one["type"] for one in answered(kernel, code)["metadata"]["_jupyter_types_experimental"]}


def test_a_kernel_answers_a_frontend(kernel: Kernel) -> None:
    """The message that JupyterLab and the console send has the completions, and where they begin."""
    kernel.run("%load_ext nbcontainer").good()
    code = "%%container --network pri"
    content = answered(kernel, code)
    assert "private" in content["matches"]
    assert code[content["cursor_start"] : content["cursor_end"]] == "pri"


VARIABLES = """
    import functools, io
    mine_number, mine_class, mine_module = 1, io.StringIO, io
    def mine_function(): pass
    mine_builtin, mine_method, mine_partial = len, [].append, functools.partial(len)
    mine_cached = functools.lru_cache(mine_function)
    %config Completer.jedi_compute_type_timeout = 60000
"""


def test_a_frontend_shows_what_a_proposal_is(kernel: Kernel, tmp_path: Path) -> None:
    """Paths of the host and of images have the type `path`, and variables the types that IPython gives them."""
    kernel.run("%load_ext nbcontainer").good()
    kernel.run(textwrap.dedent(VARIABLES)).good()
    (tmp_path / "folder").mkdir()
    assert types(kernel, f"%%container busybox -v {tmp_path}/fo") == {f"{tmp_path}/folder/": "path"}
    assert types(kernel, f"%container load {tmp_path}/fo") == {f"{tmp_path}/folder/": "path"}
    assert types(kernel, "%%container busybox /et") == {"/etc/": "path"}
    assert types(kernel, "%%container --network pri") == {"private": "magic"}
    of_python = types(kernel, "mine_")
    assert set(of_python.values()) == {"instance", "class", "module", "function"}
    for start in ("%%container busybox --in ", "%%container busybox --in x,", "%%container busybox -v {"):
        assert types(kernel, f"{start}mine_") == of_python, start
