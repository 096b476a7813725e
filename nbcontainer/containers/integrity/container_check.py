"""Reading the records and journals of all named containers again, and looking for the layers that they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.containers.history.chain import History
from nbcontainer.containers.history.states import States
from nbcontainer.containers.record import read_record
from nbcontainer.errors import ContainerDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nbcontainer.containers.history.state import State, StateId
    from nbcontainer.containers.record import Record
    from nbcontainer.store.layout import Store


@dataclass(frozen=True)
class ContainerProblem:
    """A problem of a container, in one line."""

    container: str
    what: str


def check_containers(store: Store) -> list[ContainerProblem]:
    """Return the problems of all named containers, by name. Containers are not changed, and may be used meanwhile."""
    problems = []
    for path in sorted((store.path / "containers").iterdir()):
        with store.lock(shared=True):  # a prune in between would remove layers of states that were read
            problems += [ContainerProblem(path.name, what) for what in _problems(store, path)]
    return problems


def _problems(store: Store, path: Path) -> Iterator[str]:
    states = States(store.path)  # what other objects have in memory is not what is on disk
    try:
        record = read_record(path, states)
        if record.session:
            return  # an anonymous container: its process may be removing it
        yield from _of_record(store, record)
        yield from _of_states(store, states, record)
    except ContainerDamaged as error:
        yield error.message
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield f"cannot be read: {error.strerror}"


def _of_record(store: Store, record: Record) -> Iterator[str]:
    if not store.blobs.path(record.image_digest).exists():
        yield f"its image {record.image_digest} is missing"
    yield from _missing(store, "layer {} of its image", record.base)


def _of_states(store: Store, states: States, record: Record) -> Iterator[str]:
    own = states.all(record.journal) if record.journal else []
    numbers = [state.number for state in own]
    if numbers != sorted(set(numbers)):
        yield f"the numbers in its journal {record.journal} do not ascend"
    reached = _reached(History(states, None, record.carried), (*own, record.head, record.tip))
    for state in sorted(reached.values(), key=lambda state: state.number):
        yield from _missing(store, f"layer {{}} of its state {state.number}", state.layers)
    for journal in sorted({state.id.journal for state in reached.values()}):
        yield from _missing(store, "flattened layer {}", (flat.layer for flat in states.flats.all(journal)))


def _reached(history: History, ends: Iterable[State | None]) -> dict[StateId, State]:
    """Return all states that `ends` follow from, these too. Raises `ContainerDamaged`, `OSError`."""
    found: dict[StateId, State] = {}
    for end in ends:
        state = end
        while state is not None and state.id not in found:
            found[state.id] = state
            state = None if state.parent is None else history.get(state.parent)
    return found


def _missing(store: Store, what: str, layers: Iterable[str]) -> Iterator[str]:
    for layer in layers:
        if not (store.path / "layers" / layer / "diff").exists():
            yield f"{what.format(layer)} is missing"
