"""`%container cache export|import`: results of cached cells (`--cache`) for other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count, group
from nbcontainer.commands.grammar import Command
from nbcontainer.commands.views import Note
from nbcontainer.oci.reference import host_path

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View


def _export(call: Invocation) -> View:
    from nbcontainer.containers.cached.transfer import export_results

    target = call.words.operands[0]
    found = export_results(call.engine, host_path(target))
    lines = [f"{target}  {count(found.count, 'result')}"]
    if found.with_values:
        lines.append(f"{count(found.with_values, 'result')} with values (-e, --in) can be used only in this store")
    return Note("\n".join(lines))


def _import(call: Invocation) -> View:
    from nbcontainer.containers.cached.transfer import import_results

    found = import_results(call.engine, host_path(call.words.operands[0]))
    return Note(f"imported {count(found.count, 'result')}")


CACHE = group(
    "cache",
    "FILE",
    "Exchange results of cached cells (--cache) with others.",
    (
        Verb(Command("cache export", "FILE", "Write all results of cached cells to a file.", least=1, most=1), _export),
        Verb(Command("cache import", "FILE", "Add the results of such a file to the store.", least=1, most=1), _import),
    ),
)
