"""The code blocks of the pages: cells and commands by this program's grammar, Python, shell and data by their own."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from nbcontainer import cli
from nbcontainer.commands import containers
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import request_of
from nbcontainer.commands.verbs.debugging import DEBUG
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC
from nbcontainer.errors import UsageError
from nbcontainer.notebook import defaults
from nbcontainer.notebook.cell_magic.grammars import CELL, RUN_LINE
from nbcontainer.notebook.cell_magic.parsed_lines import cell_arguments
from nbcontainer.notebook.interpolation import split_for_expansion
from nbcontainer.notebook.kernel.specs import commands as kernel_commands
from nbcontainer.notebook.live_cells import EXEC
from tests import documents
from tests.documents import PROJECT
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.commands.grammar import Command

READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}

_CELL = re.compile(r"%%container\b(?P<line>[^\n]*)\n?(?P<body>.*)", re.DOTALL)
_LINE = re.compile(r"(?:\w+ = )?%(?P<magic>container|commit|undo|redo)\b(?P<rest>.*)")
_PLACEHOLDER = re.compile(r"…|\.\.\.$")
_OF_THE_MAGIC = {
    "run": RUN_LINE,
    defaults.USE.name: defaults.USE,
    EXEC.name: EXEC,
    DEBUG.name: DEBUG,
}
_OF_THE_PROGRAM = {
    "run": cli._RUN,
    "demo": cli._DEMO,
    PROGRAM_EXEC.name: PROGRAM_EXEC,
    DEBUG.name: DEBUG,
    **{f"kernel {name}": command for name, (command, _) in kernel_commands.VERBS.items()},
}


def pages() -> list[Path]:
    """The pages that are there: an installed package has none."""
    return [page for page in documents.documents() if page.exists()]


def cells(page: Path) -> list[str]:
    """The cells of a page: its blocks for IPython, and other blocks that begin with a magic."""
    text = page.read_text()
    return [*documents.fences(text, "ipython"), *(block for block in _untagged(text) if block.startswith("%"))]


def _untagged(text: str) -> list[str]:
    return [block for _, language, block in documents._FENCE.findall(text) if not language]


def check_cell(cell: str) -> None:
    """Parse a cell as the magics do. Raises `UsageError`."""
    if found := _CELL.match(cell):
        line = found["line"]
        words = cell_arguments(line)
        request_of(parse(CELL, words, fill=lambda word: word), script=found["body"])
        return
    for line in cell.splitlines():
        if found := _LINE.match(line):
            check_line(found["magic"], split_for_expansion(found["rest"].partition("   ")[0]))


def check_line(magic: str, words: list[str]) -> None:
    """Parse the words of a line magic. Raises `UsageError`."""
    name = words.pop(0) if magic == "container" else magic
    check_verb(_OF_THE_MAGIC, name, words)


def check_verb(others: dict[str, Command], name: str, words: list[str]) -> None:
    """Parse the words of a verb: one of the table of all verbs, or one of `others`. Raises `UsageError`."""
    if name not in others and name not in containers.VERBS:
        raise UsageError(f"unknown verb {name!r}")
    parsed = parse(others[name] if name in others else containers.VERBS[name].command, words)
    if name == "run" and not parsed.has("help"):
        request_of(parsed)


def check_commands(block: str) -> None:
    """Parse a block of shell commands by bash(1), and those of this program by its grammar. Raises `UsageError`."""
    done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
    if done.returncode:
        raise UsageError(done.stderr)
    for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;|\|", line.partition(" #")[0]):
            words = shlex.split(part) if "$" not in part else []
            if words and words[0].rpartition("/")[2] == "nbcontainer":
                check_program(words[1:])


def check_program(words: list[str]) -> None:
    """Parse the words of this program. Raises `UsageError`."""
    words = [word for word in words if word != "--json"]
    name = f"kernel {words.pop(1)}" if words[0] == "kernel" else words[0]
    check_verb(_OF_THE_PROGRAM, name, words[1:])


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_cells_are_parsed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `%%container` cell and each line magic in a page's blocks has options and values that the magics take."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()  # a volume of a how-to page
    for cell in cells(page):
        if not _PLACEHOLDER.search(cell):
            check_cell(cell)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_are_parsed(page: Path) -> None:
    """Each shell block of a page is a script for bash, and each command of this program in it is parsed."""
    for block in documents.fences(page.read_text(), "sh"):
        check_commands(block)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_python_is_compiled(page: Path) -> None:
    """Each Python block of a page is compiled, with `await` at its top as in a notebook."""
    for block in documents.fences(page.read_text(), "python"):
        compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_data_is_read(page: Path) -> None:
    """Each block of JSON, TOML and YAML of a page is a document of its format."""
    text = page.read_text()
    for language, read in READERS.items():
        for block in documents.fences(text, language):
            assert read(block)


def test_there_are_blocks_to_check() -> None:
    """The blocks are found: a change of their form does not turn these checks off."""
    require("sources", available=(PROJECT / "docs" / "index.md").exists(), why="the project's pages are not around")
    assert sum(len(cells(page)) for page in pages()) > 40
    assert sum(len(documents.fences(page.read_text(), "sh")) for page in pages()) > 10


@pytest.mark.parametrize(
    "cell",
    [
        "%%container busybox --no-such-option\nls",
        "%%container busybox -m many\nls",
        "%%container busybox --network wired\nls",
        "%%container busybox -v .:data\nls",
        "%container nowhere",
        "%container rm --nowhere dev",
        "%container run --nowhere busybox true",
        "%commit",
    ],
)
def test_a_wrong_cell_is_found(cell: str) -> None:
    """A cell with an unknown option, verb or value is found, so that the test above can fail."""
    with pytest.raises(UsageError):
        check_cell(cell)


@pytest.mark.parametrize(
    "block", ["nbcontainer nowhere", "cd x && nbcontainer run -m many busybox", "nbcontainer kernel nowhere", "if true"]
)
def test_a_wrong_command_is_found(block: str) -> None:
    """A command with an unknown verb or value, and a script that bash does not parse, are found."""
    with pytest.raises(UsageError):
        check_commands(block)
