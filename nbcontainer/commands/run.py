"""The command `run`, and the request that its words or a Python caller's keywords make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.commands.docker_answers import RUN_ANSWERS
from nbcontainer.commands.grammar import Command
from nbcontainer.commands.options.table import RUN_OPTIONS, fields_of_keywords, fields_of_words
from nbcontainer.containers.cell import Request
from nbcontainer.containers.options import run_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbcontainer.commands.grammar import Words

RUN = Command(
    "run",
    "IMAGE [COMMAND [ARG...]]",
    "Run a command in a fresh container, or in the one named by --name.",
    RUN_OPTIONS,
    most=1,
    tail=True,
    answers=RUN_ANSWERS,
)

ARGUMENTS = "s"
"""The name of the option with the arguments of a cell's body."""


def request_of(
    words: Words, *, script: str | None = None, terminal: bool = False, unset_env: tuple[str, ...] = ()
) -> Request:
    """Return the request of parsed words, with a cell's body or without.

    `unset_env` are NAME=value strings for names that nothing else sets. Raises `UsageError`, `ContainerError`.
    """
    fields = fields_of_words(words)
    if unset_env:
        fields["unset_env"] = unset_env
    if terminal:
        fields["terminal"] = True
    image = words.operands[0] if words.operands else ""
    return _request(image, tuple(words.tail), script, fields, tuple(words.all(ARGUMENTS)))


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
) -> Request:
    name, remove = fields.pop("name", ""), fields.pop("remove", False)
    return Request(image, name, command, script, remove, run_options(fields), arguments=arguments)
