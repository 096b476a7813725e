"""Magics in the kernel's cells: `%commit` and `%container VERB`, on the container that the cells run in."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from nbcontainer.commands import containers
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.snapshot import snapshot
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from nbcontainer.notebook.kernel.shell.session import ShellSession
    from nbcontainer.progress import Listener

_MAGIC = re.compile(r"%(?=[a-z%])")

_ON_FILES = ("commit", "diff", "export")
"""Verbs that look at the container's files: they get those of now."""

_ALONE = ("commit", "undo")
"""Verbs that are magics themselves."""

_HELP = ("-h", "--help", "help")


def first_magics(code: str) -> tuple[list[str], str]:
    """The magics a cell begins with, each without its `%`, and the rest of it."""
    magics: list[str] = []
    lines = code.splitlines(keepends=True)
    while lines and (_MAGIC.match(lines[0]) or (not lines[0].strip() and magics)):
        line = lines.pop(0).strip()
        if line:
            magics.append(line[1:])
    return magics, "".join(lines)


def run_magic(line: str, shell: ShellSession, listener: Listener | None = None) -> Any:
    """Does what a magic says: a view to show, or text. Raises this package's errors."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read %{line}: {error}", hint="check its quotes") from None
    if words[0] == "container" and (len(words) == 1 or words[1] in _HELP):
        return containers.overview("%container ")
    name, rest, prefix = _verb(words)
    if rest[:1] and rest[0] in _HELP:
        return containers.VERBS[name].command.describe(prefix)
    return _do(name, rest, shell, listener)


def _verb(words: list[str]) -> tuple[str, list[str], str]:
    """The verb that words mean, its own words, and how it is written."""
    name, *rest = words
    if name in _ALONE and name in containers.VERBS:
        return name, rest, "%"
    if name.startswith("%"):
        raise UsageError(f"%{name} is for IPython's notebooks", hint="begin the cell with #! and an interpreter")
    if name != "container":
        raise UsageError(f"%{name} is no magic here", hint="there are %commit and %container; see %container --help")
    name, *rest = rest
    if name == "run":
        raise UsageError("%container run: this notebook has its container", hint="write the command in a cell")
    if name not in containers.VERBS:
        raise containers.unknown(name)
    return name, rest, "%container "


def _do(name: str, words: list[str], shell: ShellSession, listener: Listener | None) -> Any:
    shell.begin(listener)
    engine, container = shell.engine, shell.container
    assert container is not None
    verb = containers.VERBS[name]
    if name not in _ON_FILES:
        return verb.run(Invocation(engine, parse(verb.command, words), listener))
    with snapshot(container, shell.init, shell.told) as copy:
        words = [copy.name if word == container.name else word for word in words]
        engine.last = copy
        try:
            return verb.run(Invocation(engine, parse(verb.command, words), listener))
        finally:
            engine.last = container
