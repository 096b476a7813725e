"""`--python`: a cell whose body runs in the image's Python, which shows values and figures."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.commands.grammar import Option
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request

OPTION = Option(
    ("--python",), "", "run the body in the image's Python; show the last value, and the figures of matplotlib"
)


def in_python(request: Request) -> Request:
    """Return the request with its body run by the image's `python3`, or by the program in its first line.

    Raises `UsageError` for a request without a body, or with a command.
    """
    from nbcontainer.containers.live.contents import driver
    from nbcontainer.sandbox.steps.exchange.display import DRIVER

    if request.script is None or request.command:
        hint = "write the Python code below `%%container`, without a command"
        raise UsageError("--python runs the cell's body", hint=hint)
    return replace(request, interpreter=(*_program(request.script), DRIVER, "cell"), driver=driver())


def _program(script: str) -> tuple[str, ...]:
    """Return the program of the first line, `#!PROGRAM [ARG]`, or else python3."""
    line = script.partition("\n")[0]
    try:
        words = shlex.split(line[2:]) if line.startswith("#!") else []
    except ValueError:
        words = []
    return tuple(words) or ("python3",)
