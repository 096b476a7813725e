"""The control directory of a live container: its scripts, and the commands that talk to the notebook."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

from nbcontainer.sandbox.spec import ControlDirectory
from nbcontainer.sandbox.steps.exchange.display import DRIVER

CONTROL, INPUT = "control", "input"
"""The pipes: the notebook's requests, and the shell's own commands. Its replies go through the pipe of `display`."""

CELL, QUESTION, ANSWER = "cell", "question", "answer"
"""The files of a cell, and of a question and its answer."""

ENVIRONMENT = (
    "TERM=xterm-256color",  # notebooks show its colours
    "PAGER=cat",
    "GIT_PAGER=cat",
    "MANPAGER=cat",
    "PYTHONUNBUFFERED=1",  # otherwise output to a pipe comes in blocks
)
"""Environment of the shell. It overrides the image's; the request's variables override it."""


@functools.cache
def shell_directory() -> ControlDirectory:
    """Return the directory that a shell and the notebook share."""
    scripts = [(name, 0o444, _script(f"{name}.sh")) for name in ("common", "ash", "bash", "go")]
    return _directory((*scripts, (QUESTION, 0o644, ""), (ANSWER, 0o666, "")))


@functools.cache
def python_directory() -> ControlDirectory:
    """Return the directory that an image's Python and the notebook share."""
    return _directory(((DRIVER.rpartition("/")[2], 0o444, driver()),))


@functools.cache
def driver() -> str:
    """Return the text of the program that runs cells in the image's Python."""
    return _script("driver.py")


def _directory(files: tuple[tuple[str, int, str], ...]) -> ControlDirectory:
    return ControlDirectory(
        files=(*files, (CELL, 0o755, "")),
        pipes=(CONTROL, INPUT),
    )


def _script(name: str) -> str:
    return (Path(__file__).parent / "scripts" / name).read_text()


TURN = (
    '_nb_restore "$?"; {{ _nb_begin {number} "$-"; }} 2>/dev/null; while _nb_next; do case $_nb_how in '
    'program) "$_nb_dir/cell" <"$_nb_input" ;; *) _nb_was; command . "$_nb_dir/$_nb_what" <"$_nb_input" ;; esac; '
    '{{ _nb_ended "$?" "$-"; }} 2>/dev/null; done\n'
)
"""A line for the pipe `input`: the shell's loop, with a number. The shell reads it from its standard input, since in a
function a cell's declarations would be local, and in a sourced file ash does not return from an error in a subshell."""


def turn(number: int) -> str:
    """Return the line that runs the loop once more."""
    return TURN.format(number=number)


def boot(shell: str = "") -> str:
    """Return the script that becomes the shell: `shell` (name or path in the container), or else bash or /bin/sh."""
    return f"#!/bin/sh\n_nb_shell={shlex.quote(shell)}\n{_script('boot.sh')}"
