"""The verbs about changes to copy-on-write volumes: listing them, writing them to the host, dropping them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.verbs.targets import container_of
from nbcontainer.commands.views import Note
from nbcontainer.commands.views.pending_changes import PendingChanges

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View


def _changes(call: Invocation) -> View:
    from nbcontainer.containers.cow import volume_changes

    container = container_of(call.engine, *call.words.operands)
    found = volume_changes.list_changes(container)
    lines = tuple(volume_changes.unified_diffs(container, found)) if call.words.has("text") else ()
    conflicts = tuple((one.path, one.reason) for one in found.conflicts)
    return PendingChanges(found.changes, every=call.words.has("all"), conflicts=conflicts, lines=lines)


def _apply(call: Invocation) -> View:
    from nbcontainer.containers.cow import volume_changes

    container = container_of(call.engine, *call.words.operands)
    applied = volume_changes.apply(container, force=call.words.has("force"))
    text = f"wrote {count(applied.written, 'path')} to {', '.join(applied.directories)}"
    lost = f"; its file system does not keep {count(applied.lost, 'attribute')}" if applied.lost else ""
    return Note(text + lost)


def _discard(call: Invocation) -> View:
    from nbcontainer.containers.cow import volume_changes

    container = container_of(call.engine, *call.words.operands)
    number = volume_changes.discard(container)
    return Note(f"discarded the changes to {count(number, 'volume')}; `undo` brings them back")


VOLUME_CHANGE_VERBS = (
    Verb(
        Command(
            "changes",
            "[CONTAINER]",
            "List what cells changed in copy-on-write volumes (-v DIR:/data:cow) and is not applied.",
            (
                Option(("--text",), "", "show the changes of small text files line by line"),
                Option(("--all",), "", "list every file"),
            ),
            most=1,
        ),
        _changes,
    ),
    Verb(
        Command(
            "apply",
            "[CONTAINER]",
            "Write the changes to copy-on-write volumes to the host's directories: all of them, or none.",
            (Option(("-f", "--force"), "", "overwrite files that the host changed meanwhile"),),
            most=1,
        ),
        _apply,
    ),
    Verb(
        Command("discard", "[CONTAINER]", "Drop the changes to copy-on-write volumes.", most=1),
        _discard,
    ),
)
