"""A process that does one thing to a container and kills itself meanwhile: `STORE NAME EVENT KIND [WORD...]`.

It counts the interpreter's audit events (files that are opened, made, renamed and removed, processes that are started)
from the moment when the store is open, and sends itself SIGKILL at number EVENT. So the moment does not depend on time.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history import flats, flatten
from nbcontainer.errors import NbcontainerError
from tests.running import run_script


def kill_at(event: int) -> None:
    """Send this process SIGKILL at an audit event."""
    counter = itertools.count(1)

    def count(name: str, _: object) -> None:
        if name.partition(".")[0] in ("os", "open", "subprocess", "socket", "fcntl") and next(counter) == event:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def main(store: str, name: str, event: str, kind: str, *words: str) -> None:
    """Do it, and end with 1 if it is refused."""
    for module in (flats, flatten):
        vars(module)["WIDTH"] = 3
    engine = Engine(Path(store))
    made = containers.get(engine, name)
    kill_at(int(event))
    if kind == "restore":
        restore(made, int(words[0]), words[1:])
    elif kind == "undo":
        made.undo()
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
