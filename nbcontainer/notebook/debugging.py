"""`%container debug`: a shell in the state in which the last cell failed, in a notebook."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.output import OUTPUT_LIMIT, FloodGate, TextSink
from nbcontainer.commands.verbs.debugging import session
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.notebook.notices import write
from nbcontainer.outcome import Reason
from nbcontainer.rendering.inert_text import InertText

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome


def debug(engine: Engine, words: Words, shell: Any) -> None:
    """Run a shell that the notebook's frontend types into, or a command, and show what it puts out.

    Raises `ContainerNotFound`, `ContainerError`, and `UsageError` if no frontend answers.
    """
    interactive = not words.tail
    with session(engine, words, terminal=interactive) as found, contextlib.ExitStack() as stack:
        write(found.title)
        gate = FloodGate(OUTPUT_LIMIT, lambda: engine.store.path / "tmp" / engine.store.unique())
        texts = [TextSink(stream, flush=interactive) for stream in (sys.stdout, sys.stderr)]
        for text in texts:
            stack.callback(text.finish)
        shown, errors = map(InertText, texts) if found.request.options.untrusted else texts
        stack.callback(gate.finish, shown)
        streams = Streams(gate.through(shown), gate.through(errors), on_notice=write)
        if interactive:
            from nbcontainer.notebook.prompts import cell_input

            launcher = engine.launcher_for(found.request.options.privileges.userns)
            words.options |= {"interactive": [""], "tty": [""]}
            stack.enter_context(cell_input.connected(words, streams, shell, launcher))
        outcome = found.run(streams)
    _report(outcome)


def _report(outcome: Outcome) -> None:
    """Say how the shell ended, if it did not end by itself. A command that fails in it does not fail the cell."""
    if outcome.reason != Reason.EXITED:
        write(outcome.describe())
