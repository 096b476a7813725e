"""A process that does one thing to a container and kills itself meanwhile: `STORE NAME EVENT KIND [WORD...]`.

It counts the interpreter's audit events (files that are opened, made, renamed and removed, processes that are started)
from the moment when the store is open, and sends itself SIGKILL at number EVENT. So the moment does not depend on time.
Above 400, it is a time: a sandbox that works for the process makes no events here.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import attaching, volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history import flats, flatten
from nbcontainer.errors import NbcontainerError
from tests.linux.cell_python import python_volumes
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.container import Container
    from nbcontainer.sandbox.spec import Volume


LAST_EVENT = 400
_TICK = 0.0005  # seconds


def kill_at(event: int) -> None:
    """Send this process SIGKILL at an audit event."""
    if event > LAST_EVENT:
        threading.Timer((event - LAST_EVENT) * _TICK, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        return
    counter = itertools.count(1)

    def count(name: str, _: object) -> None:
        if name.partition(".")[0] in ("os", "open", "subprocess", "socket", "fcntl") and next(counter) == event:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def main(store: str, name: str, event: str, kind: str, *words: str) -> None:
    """Do it, and end with 1 if it is refused."""
    for module in (flats, flatten):
        vars(module)["WIDTH"] = 3
    vars(attaching)["MOST_LAYERS"] = 3
    engine = Engine(Path(store))
    made = containers.get(engine, name)
    kill_at(int(event))
    ACTS.get(kind, _cell)(made, *words)
    engine.background.wait()


def _checkout(made: Container, name: str, number: str = "") -> None:
    made.checkout(made.state(int(number)) if number else made.record.head, name)


def _flatten(made: Container) -> None:
    engine = _engine(made)
    flatten.Flattening(engine.store, engine.states, engine, made.record.base).all(made.record.head)


def _cell(made: Container, script: str, directory: str = "") -> None:
    volumes = (cast("Volume", parse_volume(f"{directory}:/w:cow")), *python_volumes()) if directory else ()
    run_script(_engine(made), script, name=made.name, volumes=volumes)


def _engine(made: Container) -> Engine:
    return cast("Engine", made.workspace)


ACTS: dict[str, Callable[..., object]] = {
    "apply": volume_changes.apply,
    "checkout": _checkout,
    "commit": commit,
    "discard": volume_changes.discard,
    "flatten": _flatten,
    "prune": lambda made: prune(made.workspace),
    "redo": lambda made: made.redo(),
    "remove": lambda made, name: containers.get(made.workspace, name).remove(),
    "restore": lambda made, number, path: restore(made, int(number), [path]),
    "undo": lambda made: made.undo(),
}
"""What is done to the container, by its name; anything else is a cell."""


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except NbcontainerError as error:
        sys.exit(str(error))
