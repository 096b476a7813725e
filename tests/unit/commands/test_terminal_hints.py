"""A hint of an error names the commands of the place where it is read: magics in a notebook, commands in a terminal."""

from __future__ import annotations

import ast
import re

import pytest

from nbcontainer.cli import in_terminal
from tests.documents import PACKAGE

_MAGIC = re.compile(r"`%{1,2}\w+[^`]*`")


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("list containers with `%container ps`", "list containers with `nbcontainer ps`"),
        ("see `%container ps` and `%container images`", "see `nbcontainer ps` and `nbcontainer images`"),
        ("remove it with `%container rm -f dev`", "remove it with `nbcontainer rm -f dev`"),
        ("list volumes with `%container volume ls`", "list volumes with `nbcontainer volume ls`"),
        ("run the command with `%container exec`", "run the command with `nbcontainer exec`"),
        ("write `%container run frob`", "write `nbcontainer run frob`"),
        ("`%container --help` lists the verbs", "`nbcontainer --help` lists the verbs"),
        ("use it directly: `%%container host`", "use it directly: `nbcontainer run host`"),
        ("run a cell with `%%container` first", "run a cell with `nbcontainer run` first"),
        ("name one, as in `%%container busybox`", "name one, as in `nbcontainer run busybox`"),
        ("keep it with `%commit dev mine`", "keep it with `nbcontainer commit dev mine`"),
        ("change to another one with `%cd`", "change to another one with `cd`"),
    ],
)
def test_a_terminal_has_commands(hint: str, shown: str) -> None:
    """Each magic in backquotes is the command of a terminal that does the same."""
    assert in_terminal(hint) == shown


@pytest.mark.parametrize(
    "hint",
    [
        "start it in a notebook, with `%%container --name db --bg`",
        "start it with `%%container IMAGE --name db --bg`, or with --live",
        "name one, as in `%container use host --here`",
        "start it again in its notebook: `%container restart db`",
        "to run an image, write %%container frob",
        "use `docker login`",
        "see %container ps",
        "",
    ],
)
def test_what_only_a_notebook_has_stays(hint: str) -> None:
    """A magic without a command of a terminal stays, and so does what is not in backquotes."""
    assert in_terminal(hint) == hint


def test_the_magics_of_the_package_are_commands_or_belong_to_notebooks() -> None:
    """Each magic with a verb in an error of the package outside the notebook's own part can be read in a terminal."""
    found = {
        magic
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] in ("containers", "images", "oci", "store", "sandbox")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "hint"
        for part in ast.walk(node.value)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
        for magic in _MAGIC.findall(part.value)
    }
    assert len(found) > 8
    assert {magic for magic in found if in_terminal(magic) == magic and "--bg" not in magic} == set()
