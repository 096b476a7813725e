"""The verb `diff`: what the cells of a container changed, or what differs between two states or images."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.verbs.targets import present, tree_of
from nbcontainer.commands.views.changes import Changes
from nbcontainer.commands.views.text_changes import TextChanges
from nbcontainer.containers.comparing.text_diffs import text_diffs
from nbcontainer.containers.comparing.two_trees import differences, outermost
from nbcontainer.containers.comparing.volume_differences import volume_differences, volume_text_diffs
from nbcontainer.containers.diff import diff
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.comparing.two_trees import Tree
    from nbcontainer.containers.comparing.volume_differences import Found


def _diff(call: Invocation) -> View:
    operands = call.words.operands
    if len(operands) < 2 and not call.words.has("text") and not any("@" in text for text in operands):
        with present(call.engine, *operands) as container:
            return Changes(tuple(diff(container)), every=call.words.has("all"))
    return _between(call, *_two(call, operands))


def _two(call: Invocation, operands: list[str]) -> tuple[str, str]:
    """Return the two operands; one alone is compared with the image of its container."""
    if len(operands) == 2:
        return operands[0], operands[1]
    after = operands[0] if operands else call.engine.last.name if call.engine.last is not None else ""
    return f"{after.partition('@')[0]}@0", after


def _between(call: Invocation, one: str, other: str) -> View:
    try:
        with contextlib.ExitStack() as stack:
            before, after = (stack.enter_context(tree_of(call.engine, text)) for text in (one, other))
            found = differences(call.engine, before, after)
            inside = _in_volumes(call, before, after)
            if call.words.has("text"):
                texts = [*text_diffs(call.engine, before, after, found), *volume_text_diffs(call.engine, inside)]
                return TextChanges(tuple(sorted(texts, key=lambda one: one.difference.path)))
    except OSError as error:
        raise store_error(f"compare '{one}' and '{other}'", call.engine.store.path, error) from error
    changes = [one.change for part in (found, *(found for _, found in inside)) for one in outermost(part)]
    return Changes(tuple(sorted(changes, key=lambda change: change.path)), every=call.words.has("all"))


def _in_volumes(call: Invocation, before: Tree, after: Tree) -> Found:
    """Return what differs in copy-on-write volumes; nothing for a container without a state: `changes` lists that."""
    operands = call.words.operands
    if len(operands) < 2 and not any("@" in text for text in operands):
        return []
    return volume_differences(call.engine, before, after)


DIFF = Verb(
    Command(
        "diff",
        "[CONTAINER[@N]...]",
        "List what cells changed, or how the second of two states (dev@2) or images differs from the first.",
        (
            Option(("--all",), "", "list every file; large directories are one line each without it"),
            Option(("--text",), "", "show the lines of small text files that differ"),
        ),
        most=2,
    ),
    _diff,
)
