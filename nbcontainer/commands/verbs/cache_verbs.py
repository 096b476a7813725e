"""`%container cache export|import`: results of cached cells (`--cache`) for other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count
from nbcontainer.commands.grammar import Command, parse
from nbcontainer.commands.views import Note
from nbcontainer.errors import UsageError
from nbcontainer.oci.reference import host_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.commands.grammar import Words


def _export(call: Invocation, words: Words) -> View:
    from nbcontainer.containers.cached.transfer import export_results

    target = words.operands[0]
    found = export_results(call.engine, host_path(target))
    lines = [f"{target}  {count(found.count, 'result')}"]
    if found.with_values:
        lines.append(f"{count(found.with_values, 'result')} with values (-e, --in) can be used only in this store")
    return Note("\n".join(lines))


def _import(call: Invocation, words: Words) -> View:
    from nbcontainer.containers.cached.transfer import import_results

    found = import_results(call.engine, host_path(words.operands[0]))
    return Note(f"imported {count(found.count, 'result')}")


_VERBS: dict[str, tuple[Command, Callable[[Invocation, Words], View]]] = {
    command.name.split()[1]: (command, function)
    for command, function in (
        (Command("cache export", "FILE", "Write all results of cached cells to a file.", least=1, most=1), _export),
        (Command("cache import", "FILE", "Add the results of such a file to the store.", least=1, most=1), _import),
    )
}


def _cache(call: Invocation) -> View:
    name, *rest = call.words.tail or ["--help"]
    if name in ("--help", "help"):
        return Note("\n".join(f"{command.usage}  {command.help}" for command, _ in _VERBS.values()))
    if name not in _VERBS:
        raise UsageError(f"unknown verb 'cache {name}'", hint=f"choose one of {', '.join(_VERBS)}")
    command, function = _VERBS[name]
    words = parse(command, rest)
    if words.has("help"):
        return Note(command.describe(""))
    return function(call, words)


CACHE = Verb(
    Command("cache", f"{'|'.join(_VERBS)} FILE", "Exchange results of cached cells (--cache) with others.", tail=True),
    _cache,
)
