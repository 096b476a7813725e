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
    from nbcontainer.containers.live.session import ShellSession
    from nbcontainer.progress import Listener

_MAGIC = re.compile(r"%(?=[a-z%])")

_ON_FILES = ("commit", "diff", "export")
"""Verbs that read the container's files: they get a frozen copy."""

_ALONE = ("commit", "undo")
"""Verbs that are also magics of their own."""

_HELP = ("-h", "--help", "help")


def first_magics(code: str) -> tuple[list[str], str]:
    """Return the magics a cell begins with, each without its `%`, and the rest of the cell."""
    magics: list[str] = []
    lines = [f"{line}\n" for line in code.split("\n")]
    while lines and (_MAGIC.match(lines[0]) or (not lines[0].strip() and magics)):
        line = lines.pop(0).strip()
        if line:
            magics.append(line[1:])
    return magics, "".join(lines).removesuffix("\n")


def run_magic(line: str, shell: ShellSession, listener: Listener | None = None) -> Any:
    """Run a magic; return a view to show, or text. Raises this package's errors."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot parse %{line}: {error}", hint="check its quotes") from None
    if words[0] == "container" and (len(words) == 1 or words[1] in _HELP):
        return containers.overview("%container ")
    name, rest, prefix = _verb(words)
    if rest[:1] and rest[0] in _HELP:
        return containers.VERBS[name].command.describe(prefix)
    return _do(name, rest, shell, listener)


def magic_help(name: str) -> str:
    """Return the help text for `%container?` and `%commit?`; empty for a name that is not a magic's."""
    if not name.startswith("%"):
        return ""
    word = name.lstrip("%")
    if word == "container":
        return containers.overview("%container ")
    return containers.VERBS[word].command.describe("%") if word in _ALONE else ""


def _verb(words: list[str]) -> tuple[str, list[str], str]:
    """Return the verb's name, its arguments, and the prefix it is written with."""
    name, *rest = words
    if name in _ALONE and name in containers.VERBS:
        return name, rest, "%"
    if name.startswith("%"):
        raise UsageError(f"%{name} works only in IPython notebooks", hint="start the cell with #! and an interpreter")
    if name != "container":
        raise UsageError(f"unknown magic %{name}", hint="use %commit or %container; see `%container --help`")
    name, *rest = rest
    if name == "run":
        raise UsageError(
            "%container run: this notebook already runs in a container", hint="write the command in a cell"
        )
    if name not in containers.VERBS:
        raise containers.unknown(name, verbs=containers.VERBS)
    return name, rest, "%container "


def _do(name: str, words: list[str], shell: ShellSession, listener: Listener | None) -> Any:
    shell.choose(listener)
    engine, container = shell.engine, shell.container
    assert container is not None
    if engine.last is None:  # no cell has run yet
        engine.last = container
    verb = containers.VERBS[name]
    if name not in _ON_FILES:
        return verb.answer(Invocation(engine, parse(verb.command, words), listener))
    with snapshot(container, shell.init, shell.cells_text) as copy:
        words = [copy.name if word == container.name else word for word in words]
        engine.last = copy
        try:
            return verb.answer(Invocation(engine, parse(verb.command, words), listener))
        finally:
            engine.last = container
