"""The verbs `top` and `stats`: what runs in containers, and what it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.verbs.targets import not_running
from nbcontainer.commands.views.usage_views import LiveTable, ProcessRow, UsageRow, process_list, usage_list
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.jobs.usage import processes_of, usage_of

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.engine import Engine
    from nbcontainer.rendering.table import Table


def _top(call: Invocation) -> View:
    (name,) = call.words.operands
    (init,) = _inits(call.engine, [name]).values()
    rows = [
        ProcessRow(one.pid, one.state, one.seconds, one.memory, one.tasks, one.command) for one in processes_of(init)
    ]
    return process_list(rows)


def _stats(call: Invocation) -> View:
    engine, names = call.engine, call.words.operands
    _inits(engine, names)  # raises for a name that does not run
    if call.words.has("no-stream") or call.words.has("json"):
        return _table(engine, names)
    return LiveTable(lambda: _table(engine, names))


def _table(engine: Engine, names: list[str]) -> Table:
    running = running_containers(engine.store)
    inits = {name: cell.pid for name, cell in running.items() if not names or name in names}
    used = usage_of(inits) if inits else {}
    rows = [UsageRow(name, one.processors, one.seconds, one.memory, one.tasks) for name, one in sorted(used.items())]
    return usage_list(rows)


def _inits(engine: Engine, names: list[str]) -> dict[str, int]:
    """Return the host pids of the inits of containers. Raises `ContainerNotFound` for one that does not run."""
    running = running_containers(engine.store)
    for name in names:
        if name not in running:
            raise not_running(engine, name)
    return {name: running[name].pid for name in names}


USAGE_VERBS = (
    Verb(Command("top", "CONTAINER", "List the processes in a running container.", least=1, most=1), _top),
    Verb(
        Command(
            "stats",
            "[CONTAINER...]",
            "Show the CPU use, the memory and the tasks of running containers; in a notebook, update each second.",
            (Option(("--no-stream",), "", "show one moment alone"),),
            most=999,
        ),
        _stats,
    ),
)
