"""The grammar of `nbcontainer exec`, and the request that its arguments make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.docker_answers import OPTION_ANSWERS
from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.options.option_fields import fields_of_words
from nbcontainer.commands.options.table import EXEC_OPTIONS
from nbcontainer.containers.live.exec_client import ExecRequest
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Words

PROGRAM_EXEC = Command(
    "exec",
    "CONTAINER COMMAND [ARG...]",
    "Run a command in a container that a notebook of yours runs: a job (--bg), or one with --live.",
    (
        Option(("-i", "--interactive"), "", "pass standard input on to the command"),
        Option(("-t", "--tty"), "", "give the command a terminal"),
        *EXEC_OPTIONS,
    ),
    least=1,
    most=1,
    tail=True,
    answers=OPTION_ANSWERS["exec"],
    examples=EXAMPLES["exec"],
)


def exec_request(words: Words) -> tuple[ExecRequest, float | None]:
    """Return the request of the arguments of `exec`, and its time limit in seconds. Raises `UsageError`."""
    (name,) = words.operands
    if not words.tail:
        raise UsageError("exec: missing command", hint=f"write `nbcontainer exec {name} COMMAND`")
    fields = fields_of_words(words)
    request = ExecRequest(
        name,
        tuple(words.tail),
        fields.get("env", ()),
        fields.get("workdir", ""),
        fields.get("user", ""),
        3 if words.has("tty") else 0,
    )
    return request, fields.get("timeout")
