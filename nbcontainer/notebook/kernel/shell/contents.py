"""What the kernel puts into a container: the shell's own scripts, and the commands that talk to the notebook."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

from nbcontainer.sandbox.spec import ControlDirectory

CONTROL, INPUT, CHANNEL = "control", "input", "channel"
"""The pipes: what to do, the shell's own commands, and what came of it."""

CELL, QUESTION, ANSWER, SHOWN = "cell", "question", "answer", "shown"
"""The files of a cell, of a question and of its answer, and the directory of what is to be shown."""

ENVIRONMENT = (
    "TERM=xterm-256color",  # what a notebook shows of it is colour
    "PAGER=cat",
    "GIT_PAGER=cat",
    "MANPAGER=cat",
    "PYTHONUNBUFFERED=1",  # output to a pipe would come in blocks
)
"""Variables of the shell, before the image's and the person's."""


@functools.cache
def control_directory() -> ControlDirectory:
    """The directory that a shell and the kernel share."""
    return ControlDirectory(
        files=(
            *((name, 0o444, _script(name)) for name in ("common", "ash", "bash", "go")),
            *((f"bin/{name}", 0o555, _script(name)) for name in ("display",)),
            (CELL, 0o755, ""),
            (QUESTION, 0o644, ""),
            (ANSWER, 0o666, ""),
        ),
        pipes=(CONTROL, INPUT, CHANNEL),
        directories=(("bin", 0o755), (SHOWN, 0o1777)),
    )


def _script(name: str) -> str:
    return (Path(__file__).parent / "scripts" / f"{name}.sh").read_text()


TURN = (
    '_nb_restore "$?"; {{ _nb_begin {number} "$-"; }} 2>/dev/null; while _nb_next; do case $_nb_how in '
    'program) "$_nb_dir/cell" <"$_nb_input" ;; *) _nb_was; command . "$_nb_dir/$_nb_what" <"$_nb_input" ;; esac; '
    '{{ _nb_ended "$?" "$-"; }} 2>/dev/null; done\n'
)
"""A line for `input`: the loop of the shell, by a number. It is read by the shell itself, from its first input: in a
function, what a cell declares would be local to that, and in a file that is read from another one, ash does not come
back from an error in a subshell."""


def turn(number: int) -> str:
    """The loop once more, from its beginning."""
    return TURN.format(number=number)


def boot(shell: str = "") -> str:
    """The script that becomes the shell: `shell` by name or path (container), bash where there is one, or /bin/sh."""
    return f"#!/bin/sh\n_nb_shell={shlex.quote(shell)}\n{_script('boot')}"
