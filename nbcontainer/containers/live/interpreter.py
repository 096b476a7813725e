"""What runs the cells of a live container: the image's shell, or its Python."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.containers.live import contents
from nbcontainer.sandbox.steps.exchange.display import DRIVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.sandbox.spec import ControlDirectory


@dataclass(frozen=True)
class Interpreter:
    """One kind of interpreter: its name in `--live=NAME`, its name in messages, and its control directory.

    With `turns`, it reads its own commands from a pipe (`contents.TURN`). With `inline`, it takes a short cell in the
    line that starts it, as JSON. `command` are the program and the arguments before the script, empty for a script that
    has its own.
    """

    name: str
    noun: str
    directory: Callable[[], ControlDirectory]
    turns: bool = False
    inline: bool = False
    command: tuple[str, ...] = ()

    def starting(self, request: Request, script: str = "") -> Request:
        """Return the request that starts it in a container of `request`, by `script`, to run cells until it is stopped.

        It ends at SIGHUP, which an interactive shell does not ignore, unless the request names another signal.
        """
        process = request.options.process
        stop = process.stop_signal or signal.SIGHUP
        process = replace(process, env=(*contents.ENVIRONMENT, *process.env), stop_signal=stop)
        options = replace(request.options, process=process, timeout=None)
        return replace(request, script=script, command=(), options=options, interpreter=self.command)


SHELL = Interpreter("shell", "shell", contents.shell_directory, turns=True)
PYTHON = Interpreter("python", "Python", contents.python_directory, inline=True, command=("python3", DRIVER, "live"))

INTERPRETERS = {one.name: one for one in (SHELL, PYTHON)}
"""By the name in `--live=NAME`."""
