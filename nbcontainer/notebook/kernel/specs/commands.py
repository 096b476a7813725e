"""`nbcontainer kernel install|freeze|list|remove`: the verbs for kernelspecs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.grammar import Command, parse
from nbcontainer.commands.several import raise_first, tried
from nbcontainer.commands.views import Note, Table
from nbcontainer.errors import UsageError
from nbcontainer.notebook.kernel.specs import kernelspec
from nbcontainer.notebook.kernel.specs.freeze import FREEZE, freeze
from nbcontainer.notebook.kernel.specs.install import INSTALL, install

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.engine import Engine
    from nbcontainer.progress import Listener

LIST = Command("kernel list", "", "List the kernels of nbcontainer that Jupyter finds.")
REMOVE = Command("kernel remove", "NAME...", "Remove kernels; images and containers stay.", least=1, most=999)


@dataclass(frozen=True)
class KernelInvocation:
    """One use of a verb. `engine` opens the store: some verbs need none. `listener` gets the progress of long work."""

    engine: Callable[[], Engine]
    words: Words
    listener: Listener | None = None


def _install(call: KernelInvocation) -> Any:
    return install(call.engine, call.words, call.listener)


def _list(_: KernelInvocation) -> Any:
    rows = tuple((spec.name, spec.display_name, spec.run, str(spec.path)) for spec in kernelspec.installed())
    return Table(("kernel", "shown as", "runs", "where"), rows, "no kernels")


def _remove(call: KernelInvocation) -> Any:
    done, errors = tried(call.words.operands, kernelspec.remove)
    lines = [f"removed {path}" for _, path in done]
    raise_first(errors, ", ".join(lines))
    return Note("\n".join(lines))


def _freeze(call: KernelInvocation) -> Any:
    return freeze(call.engine(), call.words, call.listener)


VERBS = {
    "install": (INSTALL, _install),
    "freeze": (FREEZE, _freeze),
    "list": (LIST, _list),
    "remove": (REMOVE, _remove),
}

_ALIASES = {"ls": "list", "rm": "remove", "uninstall": "remove"}
"""Docker's names, and that of `jupyter kernelspec`."""


def overview() -> str:
    """Return the verbs, one a line."""
    return "\n".join(f"  {command.usage}  {command.help}" for command, _ in VERBS.values())


def run(words: Sequence[str], engine: Callable[[], Engine], listener: Listener | None = None) -> Any:
    """Run the command line after `kernel`; return its view. Raises this package's errors."""
    name = words[0] if words else ""
    name = _ALIASES.get(name, name)
    if name not in VERBS:
        if name in ("", "-h", "--help"):
            return Note(f"usage: nbcontainer kernel VERB ...\n\nverbs:\n{overview()}")
        raise UsageError(f"kernel: unknown verb {shlex.quote(name)}", hint=f"choose one of {' '.join(VERBS)}")
    command, do = VERBS[name]
    parsed = parse(command, words[1:])
    if parsed.has("help"):
        return Note(command.describe("nbcontainer "))
    return do(KernelInvocation(engine, parsed, listener))
