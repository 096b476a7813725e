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
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import attaching, volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history import flats, flatten
from nbcontainer.errors import NbcontainerError
from tests.running import run_script

if TYPE_CHECKING:
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
    if kind == "restore":
        restore(made, int(words[0]), words[1:])
    elif kind == "undo":
        made.undo()
    elif kind == "redo":
        made.redo()
    elif kind == "checkout":
        made.checkout(made.record.head, words[0])
    elif kind in ("apply", "discard"):
        vars(volume_changes)[kind](made)
    elif kind == "cow":
        volume = cast("Volume", parse_volume(f"{words[1]}:/w:cow"))
        run_script(engine, words[0], name=name, volumes=(volume,))
    elif kind == "prune":
        prune(engine)
    elif kind == "flatten":
        flatten.Flattening(engine.store, engine.states, engine, made.record.base).all(made.record.head)
    else:
        run_script(engine, words[0], name=name)
    engine.background.wait()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except NbcontainerError as error:
        sys.exit(str(error))
