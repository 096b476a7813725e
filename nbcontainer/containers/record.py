"""The directory of a container on disk: its name, its lock, and its record.

The record is the image, and the state that the container is in. `container.json` has what never changes. The name of
the directory is the container's, so that a rename is one step. The cells are states in the container's journal
(`nbcontainer.containers.history`). The newest state of the journal is the container's, unless the link `head` names
another one: after an undo, or in a container that was checked out. A new state makes the link void, so that one write
adds a cell.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.history.marking import mark
from nbcontainer.containers.history.state import CellRecord, State, StateId, check_texts, following, moved_to
from nbcontainer.containers.history.states import States
from nbcontainer.errors import ContainerBusy, ContainerDamaged, ContainerExists, ContainerNotFound, UsageError
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.atomic_files import replace_file
from nbcontainer.store.cache_entries import Cache
from nbcontainer.store.errors import store_error
from nbcontainer.store.locks import lock_in_place, release
from nbcontainer.store.modes import keep_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.history.volume_states import VolumeState
    from nbcontainer.store.layout import Store
    from nbcontainer.store.locks import Wait

__all__ = ["CellRecord", "Record"]

RECORD = "container.json"
"""The record's file in the container's directory."""

HEAD = "head"
"""The link in the container's directory that names its state, if that is not the newest one of its journal."""

APPLYING = "applying"
"""The link in the container's directory that says which changes are written to the host at the moment."""

FILES = (RECORD, "lock", HEAD, "isolation.json", "output.log", APPLYING)
"""All files that a container's directory can have."""

_LOST = stat.S_ISVTX
"""In the mode of a record's file: one more cell was lost than the journal lists."""

_NO_STATE = "-"
_JOURNAL = re.compile(r"[\w-][\w.-]*")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def check_name(name: str) -> str:
    """Return `name` if it is valid as a container's name, a file name and a host name. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        hint = "use up to 63 letters, digits, '_', '.' and '-', and start with a letter or digit"
        raise UsageError(f"invalid container name {name!r}", hint=hint)
    return name


@dataclass(frozen=True)
class Record:
    """The record of a container.

    `base` are its image's layers, from the bottom up. `session` is the session of an anonymous container, empty for a
    named one. `labels` are the container's own; its commits get them. `journal` has its states; it is empty in the
    record of an older version, until the container is used.

    `head` is the state that the next cell sees, None for the image; `tip` is the one to which redo leads. `newest` is
    the highest number that a state has had. `carried` are the last states up to `head` that are not in a journal yet.
    """

    name: str
    image: str
    image_digest: str
    base: tuple[str, ...]
    created: str
    session: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    journal: str = ""
    head: State | None = None
    tip: State | None = None
    newest: int = 0
    carried: tuple[State, ...] = ()

    @property
    def lost(self) -> int:
        """How many cells changed something that is lost."""
        return 0 if self.head is None else self.head.losses

    @property
    def last(self) -> CellRecord | None:
        """The last cell, None if there is none."""
        return None if self.head is None else self.head.cell

    @property
    def count(self) -> int:
        """The number of cells."""
        return 0 if self.head is None else self.head.height

    def but(self, **changed: Any) -> Record:
        """Return the record with these fields changed: in a fifth of the time that `dataclasses.replace` takes."""
        made = object.__new__(Record)
        vars(made).update(vars(self), **changed)
        return made

    def to_json(self) -> dict[str, Any]:
        """Return the facts of the file as JSON values."""
        names = ("name", "image", "image_digest", "base", "created", "session", "labels", "journal")
        return {name: getattr(self, name) for name in names}

    @property
    def volumes(self) -> tuple[VolumeState, ...]:
        """The copy-on-write volumes that its cells have had, with the changes that are not applied."""
        return () if self.head is None else self.head.volumes

    @property
    def has_unapplied_changes(self) -> bool:
        """Whether its cells have changed copy-on-write volumes, and the changes are not applied."""
        return any(volume.layers for volume in self.volumes)

    def after(self, *cells: CellRecord, volumes: tuple[VolumeState, ...] | None = None) -> Record:
        """Return the record with more cells, which are in no journal yet. What redo led to is left behind.

        `volumes` are those after each of them; None for those that are there.
        """
        found = self
        for cell in cells:
            number = found.newest + 1
            state = following(found.head, StateId(self.journal, number), cell, volumes)
            found = found.but(head=state, tip=state, newest=number, carried=(*found.carried, state))
        return found

    def moved_to(self, journal: str) -> Record:
        """Return the record of the same history with another journal, in which the carried states will be."""
        carried = tuple(moved_to(self.carried, journal))
        by_old = {old.id: new for old, new in zip(self.carried, carried, strict=True)}
        head, tip = (None if one is None else by_old.get(one.id, one) for one in (self.head, self.tip))
        return replace(self, journal=journal, head=head, tip=tip, carried=carried)


def read_record(path: Path | str, states: States | None = None) -> Record:
    """Return the record in a container's directory (host). `states` are those of its store, if they are open.

    Raises `ContainerDamaged` if it cannot be read, and `FileNotFoundError` if there is none. A cell calls it twice, and
    a joined `Path` costs as much as opening the file: paths are texts here.
    """
    folder, name = os.path.split(path)
    place = f"{folder}/{name}"
    try:
        with open(f"{place}/{RECORD}", "rb", buffering=0) as file:  # noqa: PTH123
            values = _named(json.loads(file.read()), name)
            marked = os.fstat(file.fileno()).st_mode & _LOST
        states = states or States(Path(folder).parent)
        record = _of_old_format(values) if "cells" in values else _with_states(_facts(values), place, states)
        return _with_lost_cell(record) if marked else record
    except ContainerDamaged as error:
        raise _damaged(name, error.message) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(name, error) from error


def _named(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the values of a record with the name of its directory."""
    return {**values, "name": name} if isinstance(values["name"], str) else values


def _damaged(name: str, error: Exception | str) -> ContainerDamaged:
    problem = f"cannot read the record of container '{name}': {error}"
    return ContainerDamaged(problem, hint=f"remove it with `%container rm {name}`")


def _facts(values: dict[str, Any]) -> Record:
    if not isinstance(values["journal"], str) or not _JOURNAL.fullmatch(values["journal"]):
        raise ValueError("it names no journal")
    if unknown := values.keys() - {"name", "image", "image_digest", "base", "created", "session", "labels", "journal"}:
        raise ValueError(f"unknown field {min(unknown)!r}")
    return _checked(Record(**{**values, "base": tuple(values["base"])}))


def _checked(record: Record) -> Record:
    """Return the record. Raises `TypeError` if one of its texts is something else."""
    own = (record.name, record.image, record.image_digest, record.created, record.session)
    check_texts(*own, *record.base, *record.labels, *record.labels.values())
    return record


def _of_old_format(values: dict[str, Any]) -> Record:
    """Return the record that a version without journals wrote: all its states are carried."""
    left = dict(values)
    cells = [CellRecord.from_json(cell) for cell in left.pop("cells")]
    left.pop("confinement", None)
    return _checked(Record(**{**left, "base": tuple(left["base"])})).after(*cells)


def _with_states(record: Record, place: str, states: States) -> Record:
    last = states.last(record.journal)
    newest = last.number if last is not None else 0
    pin = _read_pin(place)
    if pin is None or newest > pin[2]:
        return record.but(head=last, tip=last, newest=newest)
    head, tip, number = pin
    return record.but(
        head=None if head is None else states.get(head),
        tip=None if tip is None else states.get(tip),
        newest=number,
    )


def _read_pin(place: str) -> tuple[StateId | None, StateId | None, int] | None:
    """Return what the link `head` says: the head, the tip, and the number up to which it is valid; None without it."""
    try:
        text = os.readlink(f"{place}/{HEAD}")  # noqa: PTH115
    except FileNotFoundError:
        return None
    try:
        head, tip, number = text.split(" ")
        return _parsed(head), _parsed(tip), int(number)
    except ValueError as error:
        raise ValueError("its link `head` names no state") from error


def _parsed(text: str) -> StateId | None:
    return None if text == _NO_STATE else StateId.parse(text)


def save_pin(store: Store, record: Record) -> None:
    """Make a record's head and tip those of the container, in one step. Raises `StoreError`.

    It is a link because a short one needs no space but a name (symlink(7), ext4's fast links). If the disk has no inode
    left, the reserve has: `prune` frees what an undo leaves.
    """
    head, tip = (_NO_STATE if one is None else str(one.id) for one in (record.head, record.tip))
    temporary = store.path / "tmp" / store.unique()
    place = store.path / "containers" / record.name
    try:
        store.freeing(lambda: temporary.symlink_to(f"{head} {tip} {record.newest}"))
        try:
            temporary.replace(place / HEAD)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as error:
        raise store_error(f"save the state of container '{record.name}'", store.path, error) from error


def _with_lost_cell(record: Record) -> Record:
    """Return a record with one more cell: the lost one that did not fit into the journal."""
    outcome = Outcome(Reason.EXITED, 0)
    return record.after(CellRecord("", "(the record was not saved either)", record.created, outcome, lost=True))


def mark_lost(store: Store, record: Record) -> None:
    """Mark a record on disk as one that has lost a cell, which needs no space."""
    path = store.path / "containers" / record.name / RECORD
    with contextlib.suppress(OSError):
        path.chmod(path.stat().st_mode | _LOST)


def save_states(store: Store, states: States, record: Record) -> Record:
    """Write the states that a record carries to its journal, all or none; return the record without them.

    The container's directory is made if it does not exist. Raises `StoreError`.
    """
    try:
        if record.carried:
            states.add(record.carried)
            _unmark(store, record)
    except OSError as error:
        raise store_error(f"save the record of container '{record.name}'", store.path, error) from error
    return record.but(carried=())


def _unmark(store: Store, record: Record) -> None:
    path = f"{store.path}/containers/{record.name}/{RECORD}"
    if (mode := os.stat(path).st_mode) & _LOST:  # noqa: PTH116
        Path(path).chmod(mode & ~_LOST)


def save_record(store: Store, record: Record) -> None:
    """Write a container's record to its directory, which is made if it does not exist.

    The old or the new record is there if this process dies. A named container's record is on disk when this returns;
    an anonymous one's need not survive a crash of the machine. Raises `StoreError`.
    """
    place = store.path / "containers" / record.name
    # `dumps` and not `dump`, which is slower by far: it encodes in Python.
    data = json.dumps(record.to_json()).encode()
    try:
        keep_open(place)
        (place / "lock").touch(mode=0o600)
        replace_file(place / RECORD, store.path / "tmp" / store.unique(), data, sync=not record.session)
    except OSError as error:
        forget_unrecorded(place)
        raise store_error(f"save the record of container '{record.name}'", store.path, error) from error


def save_new_record(store: Store, record: Record) -> None:
    """Write the record of a container that is not on disk, and first the link to its state if that is another's.

    So it is never there in the state of its image instead. Raises `StoreError`.
    """
    place = store.path / "containers" / record.name
    if not record.session:
        forget_unrecorded(place)  # a process that was killed may have left the link of another container
    if record.head is not None and record.head.id.journal not in ("", record.journal):
        try:
            keep_open(place)
        except OSError as error:
            raise store_error(f"save the record of container '{record.name}'", store.path, error) from error
        save_pin(store, record)
    save_record(store, record)


def forget_unrecorded(place: Path) -> None:
    """Remove a container's new directory if its first record could not be written."""
    with contextlib.suppress(OSError):
        if not (place / RECORD).exists():
            for name in FILES:
                (place / name).unlink(missing_ok=True)
            place.rmdir()


def records(store: Store) -> list[Record]:
    """Return the records of all containers on disk. Raises `ContainerDamaged`."""
    found = []
    states = States(store.path)
    for path in (store.path / "containers").iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it has just been removed
            found.append(read_record(path, states))
    return found


def journals_and_layers_in_use(store: Store, kept: list[Record] | None = None) -> tuple[set[str], set[str]]:
    """Return the journals and the layers of all containers on disk, with the layers of cached results.

    `kept` are their records, if they have been read. Raises `ContainerDamaged`: the layers of a damaged record are not
    known.
    """
    kept, states = records(store) if kept is None else kept, States(store.path)
    own = {record.journal for record in kept if record.journal}
    others = {state.id.journal for record in kept for state in (record.head, record.tip) if state is not None}
    journals, layers = mark(states, own | others - {""})
    layers |= Cache(store.path).layers()
    for record in kept:
        layers.update(record.base)
        layers.update(layer for state in record.carried for layer in state.layers)
    return journals, layers


def layers_in_use(store: Store) -> set[str]:
    """Return the layers of all containers on disk. Raises `ContainerDamaged`."""
    return journals_and_layers_in_use(store)[1]


def check_free(store: Store, name: str) -> None:
    """Raise `ContainerExists` if a container has that name. The store is locked."""
    if (store.path / "containers" / name / RECORD).exists():
        ways = f"`--name {name}` and no image, or in Python `nbcontainer.get({name!r})`"
        hint = f"use it with {ways}; `%container rm {name}` removes it"
        raise ContainerExists(f"container '{name}' already exists", hint=hint)


def not_found(name: str) -> ContainerNotFound:
    """Return the error for a name that no container has."""
    return ContainerNotFound(f"no such container: '{name}'", hint="list containers with `%container ps`")


@contextlib.contextmanager
def locked(path: Path | str, wait: Wait | None = None) -> Iterator[None]:
    """Hold the lock in a container's directory (host). Raises `ContainerBusy`, `ContainerNotFound`.

    With `wait`, call that if another process or thread holds it, and wait until it is free, as `lock_in_place` does.
    """
    try:
        fd = lock_in_place(f"{path}/lock", wait)
    except (FileNotFoundError, NotADirectoryError):
        raise not_found(Path(path).name) from None
    except BlockingIOError:
        name = Path(path).name
        problem = f"container '{name}' is running, here or in another notebook"
        hint = f"wait for it, or stop it first: `%container stop {name}`"
        raise ContainerBusy(problem, hint=hint) from None
    try:
        yield
    finally:
        release(fd)
