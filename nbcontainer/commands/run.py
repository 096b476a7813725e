"""The command `run`, and the request that its arguments or a Python caller's keywords make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.commands.docker_answers import RUN_ANSWERS
from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.options.option_fields import fields_of_keywords, fields_of_words
from nbcontainer.commands.options.standard_input import parse_stdin
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.options import run_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.options import StandardInput

INPUT_OPTIONS = (
    Option(("-i", "--interactive"), "", "ask you, in an input box or a terminal, when a program reads input"),
    Option(("-t", "--tty"), "", "give the container a terminal, with a size and colours"),
    Option(
        ("--stdin",),
        "TEXT|@FILE",
        "standard input: a text, which gets a new line at its end, or a file of the host; @@ for an @ in a text",
        mark="@",
    ),
)
"""The options for a run's input; Python's `run` has `input`."""

RUN = Command(
    "run",
    "IMAGE [COMMAND [ARG...]]",
    "Run a command in a fresh container, or in the one named by --name.",
    (*INPUT_OPTIONS, *RUN_OPTIONS),
    most=1,
    tail=True,
    answers=RUN_ANSWERS,
    examples=EXAMPLES["run"],
)

ARGUMENTS = "s"
"""The name of the option with the arguments of a cell's body."""


def request_of(
    words: Words,
    *,
    script: str | None = None,
    prompts: bool = False,
    unset_env: tuple[str, ...] = (),
) -> Request:
    """Return the request of parsed arguments, with a cell's body or without.

    `unset_env` are NAME=value strings for names that nothing else sets. With `prompts`, the input of `-i` is a
    terminal, else the caller's. Raises `UsageError`, `ContainerError`.
    """
    fields = fields_of_words(words)
    if unset_env:
        fields["unset_env"] = unset_env
    if words.has("tty"):
        fields["terminal"] = True
    elif prompts and words.has("interactive"):
        fields["terminal_input"] = True
    image = words.operands[0] if words.operands else ""
    stdin = parse_stdin(words.one("stdin")) if words.has("stdin") else None
    return _request(image, tuple(words.tail), script, fields, tuple(words.all(ARGUMENTS)), stdin)


def request_of_keywords(
    image: str,
    command: tuple[str, ...],
    script: str | None,
    keywords: Mapping[str, Any],
    unset_env: tuple[str, ...] = (),
) -> Request:
    """Return the request of a Python caller's keywords. `unset_env` is as in `request_of`.

    Raises `TypeError`, `UsageError`, `ContainerError`.
    """
    fields = fields_of_keywords(keywords)
    if unset_env:
        fields["unset_env"] = unset_env
    return _request(image, command, script, fields)


def _request(
    image: str,
    command: tuple[str, ...],
    script: str | None,
    fields: dict[str, Any],
    arguments: tuple[str, ...] = (),
    stdin: StandardInput | None = None,
) -> Request:
    name, remove = fields.pop("name", ""), fields.pop("remove", False)
    return Request(image, name, command, script, remove, run_options(fields), arguments=arguments, stdin=stdin)
