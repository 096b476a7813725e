"""A container as it is now, while something runs in it: a copy to commit, compare or export."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.container import Container, get
from nbcontainer.containers.copying import copied
from nbcontainer.containers.record import CellRecord, Record, read_record
from nbcontainer.containers.running import running_containers
from nbcontainer.containers.storage import LimitedWritten
from nbcontainer.containers.upper import Written
from nbcontainer.errors import ContainerBusy
from nbcontainer.images import times
from nbcontainer.images.store import cannot
from nbcontainer.linux.proc import STANDING, descendants, state
from nbcontainer.sandbox.outcome import EXITED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbcontainer.containers.engine import Engine

_PATIENCE = 1.0  # seconds


@contextlib.contextmanager
def as_it_is(engine: Engine, name: str) -> Iterator[Container]:
    """A copy of what runs by this name, in whichever process; the container itself where nothing does.

    Raises `ContainerNotFound`, `StoreError`, `ImageError`.
    """
    facts = running_containers(engine.store).get(name)
    if facts is None:
        yield get(engine, name)
        return
    if facts.get("storage") and name not in engine.running:
        hint = "do it there, or when the cell has ended"
        raise ContainerBusy(f"what {name} writes is in memory of another notebook (--storage)", hint=hint)
    lowers = tuple(facts["lowers"])
    try:
        record = read_record(engine.store.path / "containers" / name)
    except (FileNotFoundError, NotADirectoryError):  # an anonymous one, which is written down when it has a layer
        record = Record(name, facts["image"], facts["digest"], lowers[::-1], facts["started"])
    parts = tuple(facts["parts"])
    if facts.get("storage"):
        upper: Written = LimitedWritten(engine, facts["upper"], lowers, parts)
    else:
        upper = Written(engine.store, facts["upper"], lowers, parts)
    with snapshot(Container(engine, record), facts["pid"], facts["command"], upper) as copy:
        yield copy


@contextlib.contextmanager
def snapshot(container: Container, init: int, command: str, upper: Written | None = None) -> Iterator[Container]:
    """An anonymous container with the files that `container` has now; it is gone afterwards, and its image is not.

    What runs in it, below the host pid `init`, stands still while what it changed, in `upper`, is copied. `command` is
    what the history says of it. Raises `StoreError`, `ImageError`.
    """
    engine, store, upper = container.engine, container.engine.store, upper or container.upper
    record = replace(container.record, name=secrets.token_hex(6), session=store.session)
    copy = Container(engine, record)
    try:
        if upper is not None and upper.changed():
            try:
                _add_copy(engine, copy, upper, init, command)
            except OSError as error:
                raise cannot("copy what the container changed", store.path, error) from error
        yield copy
    finally:
        copy.remove()


def _add_copy(engine: Engine, copy: Container, upper: Written, init: int, command: str) -> None:
    """Adds the upper directory as it is now to `copy`, as a layer of its own."""
    with copied(engine, upper, paused(init)) as place, engine.store.lock(shared=True):
        place.rename(engine.store.path / "layers" / place.name)
        copy.add_cell(CellRecord(place.name, command, times.timestamp(), EXITED, 0))


@contextlib.contextmanager
def paused(init: int) -> Iterator[None]:
    """Stops the processes below a container's init, and lets them go on (SIGSTOP and SIGCONT, signal(7)).

    One that was stopped already stays so.
    """
    seen: dict[int, int] = {}
    try:
        while found := [pid for pid in descendants(init) if pid not in seen]:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    seen[pid] = os.pidfd_open(pid)
            inside = set(descendants(init))  # by now a number may be that of a process outside
            for pid in seen.keys() & set(found):
                if pid not in inside:
                    os.close(seen.pop(pid))
                elif state(pid) not in STANDING:
                    _send(seen[pid], signal.SIGSTOP)
                else:
                    os.close(seen[pid])
                    seen[pid] = -1
            _wait_until_still([pid for pid in found if seen.get(pid, -1) >= 0])
        yield
    finally:
        for pidfd in seen.values():
            if pidfd >= 0:
                _send(pidfd, signal.SIGCONT)
                os.close(pidfd)


def _wait_until_still(pids: Sequence[int]) -> None:
    """Waits until these have taken the signal: one that is not running yet, or in a call, has more to do before.

    One that the kernel does not let go of, a parent in vfork(2), say, is not waited for beyond `_PATIENCE`.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and not all(state(pid) in STANDING for pid in pids):
        time.sleep(0.001)


def _send(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)
