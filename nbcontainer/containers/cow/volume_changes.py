"""What cells changed in copy-on-write volumes: listing it, writing it to the host, and discarding it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.cow import directories, interrupted
from nbcontainer.containers.cow.attaching import note_moved_back, read_moved_back, read_notes
from nbcontainer.containers.diff import Change
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.errors import ChangesRefused, NbcontainerError
from nbcontainer.images.comparison.unified_diffs import unified
from nbcontainer.images.cow import volume_jobs
from nbcontainer.oci import timestamps
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store import writable
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.history.volume_states import VolumeState

_SHOWN = 3  # paths in one line


@dataclass(frozen=True)
class Conflict:
    """A path in the container that `apply` cannot write, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class VolumeChanges:
    """The changes of all copy-on-write volumes of a container that are not applied, sorted by path.

    `conflicts` are the paths that prevent `apply`.
    """

    changes: tuple[Change, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True)
class Applied:
    """The result of `apply`: how many paths were written to which directories (host), and how many attributes not."""

    written: int
    directories: tuple[str, ...]
    lost: int = 0


def list_changes(container: Container) -> VolumeChanges:
    """Return the changes that are not applied. Raises `ContainerBusy`, `ChangesRefused`, and what a sandbox raises."""
    changes: list[Change] = []
    conflicts: list[Conflict] = []
    with _used(container) as states:
        for state in states:
            found = _run(container, state, volume_jobs.changes, facts=_facts(container, state))
            changes += [Change(kind, _inside(state, path), size) for kind, path, size in found["changes"]]
            conflicts += [Conflict(_inside(state, path), reason) for path, reason in found["conflicts"]]
    return VolumeChanges(tuple(sorted(changes, key=lambda change: change.path)), tuple(conflicts))


def unified_diffs(container: Container, changes: VolumeChanges) -> Iterator[str]:
    """Yield the lines of unified diffs of the small text files among the changes. Raises as `list_changes`."""
    paths = [change.path for change in changes.changes if change.size is not None]
    with _used(container) as states:
        for state in states:
            top = state.target.rstrip("/") + "/"
            inside = [path.removeprefix(top) for path in paths if path.startswith(top)]
            for path, old, new in _run(container, state, volume_jobs.contents, paths=inside):
                where = os.path.join(state.source, path)  # noqa: PTH118 - a text
                lines = unified(old, new)
                if lines is None:
                    lines = ["(too many lines differ to show them)"]
                if lines:  # else something but its text has changed
                    yield from (f"--- {where}", f"+++ {_inside(state, path)}", *lines)


def apply(container: Container, *, force: bool = False) -> Applied:
    """Write the changes to the host's directories; with `force`, also over the host's own changes.

    Nothing is written if there is a conflict in any directory. If a later directory fails, the error names those that
    are written. Raises `ContainerBusy`, `ChangesRefused`, `StoreError`, and what a sandbox raises.
    """
    with _used(container, applies=True) as states:
        if not states:
            raise _nothing(container, "apply")
        _check(container, states, force=force)
        written = lost = 0
        for number, state in enumerate(states):
            with _naming(states[:number]), _marked(container, state):
                found = _write(container, state, force=force)
                _refuse_conflicts(container, state, found["conflicts"])
                _settle(container, "apply", (state,))
            written, lost = written + found["written"], lost + found["lost"]
        return Applied(written, tuple(state.source for state in states), lost)


@contextlib.contextmanager
def _naming(written: tuple[VolumeState, ...]) -> Iterator[None]:
    """Add to an error which directories have been written before it."""
    try:
        yield
    except ChangesRefused as error:
        if not written:
            raise
        places = ", ".join(state.source for state in written)
        raise ChangesRefused(f"{error.message}; what was changed in {places} is written", hint=error.hint) from error


def discard(container: Container) -> int:
    """Drop the changes that are not applied; return in how many volumes. What `apply` left half done is moved back.

    `undo` brings the changes back. Raises `ContainerBusy`, `ChangesRefused` if there are none, `StoreError`.
    """
    with _used(container) as states:
        if not states:
            raise _nothing(container, "discard")
        for state in states:
            try:
                interrupted.recover(container, state)
            except interrupted.NotMovedBack:
                raise
            except ChangesRefused:
                pass  # the directory is gone
        _settle(container, "discard", states)
        return len(states)


def _nothing(container: Container, verb: str) -> ChangesRefused:
    """Return the error of a verb for a container without changes to apply: it has no such volume, or they are gone."""
    name = container.name
    if not any(state.volumes or state.moved for state in container.history.chain()):
        problem = f"nothing to {verb}: container '{name}' has had no copy-on-write volume"
        return ChangesRefused(problem, hint="run its next cell with -v DIR:/data:cow")
    problem = f"nothing to {verb}: container '{name}' has no changes to copy-on-write volumes"
    return ChangesRefused(problem, hint=f"see `%container history {name}` for earlier uses of `apply` and `discard`")


@contextlib.contextmanager
def _used(container: Container, *, applies: bool = False) -> Iterator[tuple[VolumeState, ...]]:
    """Yield the volumes with changes, while the container's lock is held. Raises `ContainerBusy`, `NotMovedBack`.

    What an interrupted `apply` left is finished first: if that fails for whatever reason, nothing new `applies`.
    """
    container.check_not_running()
    with container.use():
        if container.applying:
            try:
                interrupted.finish(container)
            except (NbcontainerError, OSError) as error:
                if applies or isinstance(error, interrupted.NotMovedBack):
                    raise
        yield tuple(state for state in container.record.volumes if state.layers)


@contextlib.contextmanager
def _marked(container: Container, state: VolumeState) -> Iterator[None]:
    """Write the changes of a volume inside the block. If it fails, what is on the host already is moved back."""
    with directories.opened(container.workspace, state):  # if it is missing, nothing begins
        interrupted.mark(container, state)
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(NbcontainerError, OSError):  # the next use of the container tries again
            interrupted.finish(container)
        if container.applying and isinstance(error, Exception):
            raise _left_over(state, error) from error
        raise
    with contextlib.suppress(NbcontainerError, OSError):
        interrupted.finish(container)


def _check(container: Container, states: tuple[VolumeState, ...], *, force: bool) -> None:
    """Raise `ChangesRefused` for conflicts in any of several volumes, before the first is written."""
    if len(states) > 1:
        for state in states:
            found = _run(container, state, volume_jobs.check, force=force, facts=_facts(container, state))
            _refuse_conflicts(container, state, found)


def _write(container: Container, state: VolumeState, *, force: bool) -> dict[str, Any]:
    workspace = container.workspace
    with directories.opened(workspace, state) as (tree, node):
        with store_errors(f"apply changes to '{state.source}'", workspace.store.path):
            writable.remember(workspace.store, node)  # it gets links that a container made
        try:
            arguments = {
                "facts": _facts(container, state),
                "token": interrupted.token(container, state),
                "force": force,
            }
            found: dict[str, Any] = directories.run(workspace, volume_jobs.apply, tree, state.layers, **arguments)
        except OSError as error:
            raise _failed(state, error.errno or 0, error.filename) from error
    if found["moved_back"]:
        with contextlib.suppress(OSError):  # then `--force` is needed
            note_moved_back(workspace, state.layers[-1], found["moved_back"])
    if found["failed"] is not None:
        raise _failed(state, *found["failed"])
    return found


def _failed(state: VolumeState, number: int, path: str | None) -> ChangesRefused:
    where = f" at '{path}'" if path else ""
    problem = f"cannot apply the changes to {state.source}{where}: {os.strerror(number)}"
    hint = "nothing was changed there; check its free space and its permissions, and try again"
    return ChangesRefused(problem, hint=hint)


def _left_over(state: VolumeState, error: Exception) -> ChangesRefused:
    problem = f"`apply` failed, and what it has written to {state.source} cannot be moved back now: {error}"
    hint = "the next use of the container, or the next notebook, moves it back from the directory .nbcontainer-apply-*"
    return ChangesRefused(problem, hint=hint)


def _refuse_conflicts(container: Container, state: VolumeState, conflicts: list[list[str]]) -> None:
    if not conflicts:
        return
    shown = [f"{os.path.join(state.source, path)!r} ({reason})" for path, reason in conflicts[:_SHOWN]]  # noqa: PTH118
    more = f" and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
    name = container.name
    hint = f"see `%container changes {name} --text`; `apply {name} --force` overwrites what the host changed"
    raise ChangesRefused(f"nothing was applied to {state.source}: {', '.join(shown)}{more}", hint=hint)


def _settle(container: Container, verb: str, states: tuple[VolumeState, ...]) -> None:
    """Add a state without the changes of some volumes. Raises `StoreError`."""
    gone = {state.target for state in states}
    left = tuple(state for state in container.record.volumes if state.target not in gone)
    now = timestamps.timestamp(time.time())
    with container.workspace.store.lock(shared=True):
        text = f"{verb} {', '.join(sorted(gone))}"
        container.add_cell(CellRecord("", text, now, Outcome(Reason.EXITED, 0)), left)


def _run(container: Container, state: VolumeState, job: Any, **arguments: Any) -> Any:
    with directories.opened(container.workspace, state) as (tree, _):
        return directories.run(container.workspace, job, tree, state.layers, **arguments)


def _facts(container: Container, state: VolumeState) -> volume_jobs.HostFacts:
    top = state.source.rstrip("/") + "/"
    mounts = [place.removeprefix(top) for place in directories.mounted_in(state.source)]
    workspace = container.workspace
    return {
        "notes": read_notes(workspace, state.layers),
        "began": state.began,
        "mounts": mounts,
        "moved_back": read_moved_back(workspace, state.layers),
    }


def _inside(state: VolumeState, path: str) -> str:
    return f"{state.target.rstrip('/')}/{path}".rstrip("/")
