"""Examples and groups of verbs in help texts."""

from __future__ import annotations

import shlex

import pytest

from nbcontainer.commands.containers import NEXT, VERBS, in_groups
from nbcontainer.commands.examples import EXAMPLES, MORE, grouped
from nbcontainer.commands.grammar import Command, parse
from nbcontainer.commands.run import RUN
from nbcontainer.commands.verbs.debugging import DEBUG
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC
from nbcontainer.notebook.defaults import USE
from nbcontainer.notebook.magics import ContainerMagics

COMMANDS: dict[str, Command] = {verb.command.name: verb.command for verb in VERBS.values()} | {
    "run": RUN,
    "use": USE,
    "debug": DEBUG,
    "exec": PROGRAM_EXEC,
}
CELL = "%%container"


@pytest.mark.parametrize(
    ("name", "example"), [(name, one) for name, found in EXAMPLES.items() for one in found if name != CELL]
)
def test_every_example_is_what_the_grammar_takes(name: str, example: str) -> None:
    """No example has an option that does not exist, or too few arguments."""
    verb, *words = shlex.split(example)
    assert verb == name
    parse(COMMANDS[name], words)


def test_every_verb_has_an_example() -> None:
    """The help of a verb shows how it is used."""
    assert [name for name in (*COMMANDS, CELL) if not EXAMPLES.get(name)] == []


def test_help_texts_show_examples() -> None:
    """With the program's or the magic's name."""
    assert "examples:\n  %container pull python:3.12-slim" in VERBS["pull"].command.describe("%container ")
    assert "  nbcontainer pull python:3.12-slim" in VERBS["pull"].command.describe("nbcontainer ")
    assert "  %%container busybox -v" in (ContainerMagics.container.__doc__ or "")


def test_verbs_are_in_groups() -> None:
    """Each verb has one line in one group, and the last line says what to do next."""
    text = in_groups("%container ", RUN, USE, DEBUG, PROGRAM_EXEC)
    lines = text.splitlines()
    assert [line for line in lines if line.endswith(":")][:5] == [
        "run:",
        "jobs:",
        "images:",
        "inspect:",
        "clean up:",
    ]
    for name in COMMANDS:
        assert len([line for line in lines if line.startswith(f"  %container {name} ")]) == 1
    assert lines[-1] == NEXT


def test_a_verb_without_a_group_is_shown_too() -> None:
    """No verb is lost that a later version adds."""
    assert grouped(["ps", "later"]) == {"run": ["ps"], MORE: ["later"]}
