"""What an `apply` leaves on the host until it is over: a mark in the container, and how the next use cleans up.

The mark is a link in the container's directory, made before the first file of the host is moved. It names the state
with the changes, the highest number of a state at that time, and which volume is written. If a process dies meanwhile,
the next use of the container or the next cleanup finds the mark. If the container has a newer state, `apply` was done;
if not, everything is moved back.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from nbcontainer.containers.container import Container
from nbcontainer.containers.cow import directories
from nbcontainer.containers.cow.attaching import note_moved_back
from nbcontainer.containers.history.state import StateId
from nbcontainer.containers.record import APPLYING, read_record
from nbcontainer.errors import ChangesRefused, ContainerDamaged, NbcontainerError
from nbcontainer.images.cow import volume_jobs
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.history.volume_states import VolumeState
    from nbcontainer.containers.workspace import Workspace


_NEVER = 1 << 62
"""A number that no state reaches: it is known that `apply` was not done."""


def token(container: Container, state: VolumeState) -> str:
    """Return the name of the staging directory of these changes: the same one in each run, also under another name."""
    return hashlib.sha256(f"{container.record.journal}\0{state.target}\0{state.began}".encode()).hexdigest()[:16]


def mark(container: Container, state: VolumeState) -> None:
    """Note that the changes of one volume are about to be written. Raises `StoreError`."""
    record = container.record
    assert record.head is not None
    _write(container, f"{record.head.id} {record.newest} {record.head.volumes.index(state)}")


def _write(container: Container, text: str) -> None:
    store = container.workspace.store
    temporary = store.path / "tmp" / store.unique()
    try:
        temporary.symlink_to(text)
        try:
            temporary.replace(container.path / APPLYING)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as error:
        raise store_error(f"apply the changes of container '{container.name}'", store.path, error) from error


def finish(container: Container) -> None:
    """Remove what the marked `apply` left on the host; move everything back if it was not done. Then remove the mark.

    Call it while the container is in use. If the volume's directory is not there, the mark stays. Raises what a sandbox
    raises, `OSError`.
    """
    place = container.path / APPLYING
    try:
        state_id, newest, number = str(place.readlink()).split(" ")
        state = _volume(container, state_id, int(number))
        done = container.record.newest > int(newest)
    except FileNotFoundError:
        return
    except (ValueError, IndexError, ContainerDamaged):
        place.unlink()  # the state is gone: there is nothing to compare with
        return
    if not done:  # whatever states follow
        _write(container, f"{state_id} {_NEVER} {number}")
    recover(container, state, done=done)
    place.unlink()


class NotMovedBack(ChangesRefused):
    """Files of the host are in the staging directory of an `apply` that was interrupted, and cannot be moved back."""


def recover(container: Container, state: VolumeState, *, done: bool = False) -> None:
    """Remove what an `apply` of one volume left on the host; move everything back if it was not `done`.

    Raises `NotMovedBack`, and then nothing of the host's is removed; and what a sandbox raises, `OSError`.
    """
    workspace = container.workspace
    with directories.opened(workspace, state) as (tree, _):
        arguments = {"token": token(container, state), "done": done}
        found = directories.run(workspace, volume_jobs.recover, tree, state.layers, **arguments)
    if found["moved_back"]:
        with contextlib.suppress(OSError):  # then `--force` is needed
            note_moved_back(workspace, state.layers[-1], found["moved_back"])
    if found["left"]:
        path, staged = found["left"][0]
        raise _not_moved_back(state, path, staged, len(found["left"]) - 1)


def _not_moved_back(state: VolumeState, path: str, staged: str, more: int) -> NotMovedBack:
    kept, staging = repr(f"{state.source}/{staged}"), repr(f"{state.source}/{staged.rpartition('/')[0]}")
    others = f", like {more} more" if more else ""
    if not path:
        problem = f"an interrupted `apply` left {kept}, and its log is damaged"
        return NotMovedBack(problem, hint="move your files from there to their places, and remove it")
    problem = f"an interrupted `apply` cannot move {path!r} back to {state.source}: it is kept at {kept}{others}"
    return NotMovedBack(problem, hint=f"move it to its place, remove {staging}, and try again")


def _volume(container: Container, state_id: str, number: int) -> VolumeState:
    """Return the volume that the mark names. Raises `ValueError`, `IndexError`, `ContainerDamaged`."""
    wanted = StateId.parse(state_id)
    if wanted is None:
        raise ValueError("it names no state")
    return container.workspace.states.get(wanted).volumes[number]


def finish_all(workspace: Workspace, alive: set[str], *, last: bool = False) -> None:
    """Finish the `apply` of each container that no process uses; `alive` are the living sessions.

    What cannot be finished is tried again by the next call. If this is the `last` try, an anonymous container whose
    directory is missing is left alone from then on.
    """
    for path in (workspace.store.path / "containers").iterdir():
        if (path / APPLYING).is_symlink():
            try:
                _finish(workspace, path, alive)
            except ChangesRefused:
                if last:
                    (path / APPLYING).unlink(missing_ok=True)
            except (NbcontainerError, OSError):
                pass


def _finish(workspace: Workspace, path: Path, alive: set[str]) -> None:
    container = Container(workspace, read_record(path, workspace.states))
    if not container.anonymous:
        with container.use():
            return  # that finishes it
    if container.record.session not in alive:
        finish(container)
