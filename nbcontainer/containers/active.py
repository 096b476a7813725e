"""Active containers: the cells that run now, in any process that uses the store, and how to stop them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.containers.pause import wake
from nbcontainer.errors import StoreError
from nbcontainer.linux.procfs import birth
from nbcontainer.outcome import Reason
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.outcome import Outcome
    from nbcontainer.store.layout import Store

_LONGEST = (1 << 31) - 1  # milliseconds: the longest wait of poll(2)
_SETTLE_TRIES, _SETTLE_PAUSE = 500, 0.01  # checks whether a stopped container is free, and seconds between them


@dataclass(frozen=True)
class ActiveCell:
    """A cell that runs now, as its process describes it to other processes in its session's file.

    `pid` is init's on the host, and `birth` its start time (`nbcontainer.linux.procfs.birth`), which distinguishes it
    from a later process with the same pid. `image` and `image_digest` name the image, `command` is the beginning of the
    cell, and `kernel` the kernelspec's arguments, empty for a cell that is not a kernel's. `stop_signal` asks the cell
    to end. `upper` is the id of the write layer in the store's `tmp`, `lowers` are the layers below it, the topmost
    first, and `parts` the host's directories with a write layer of their own. `storage` is the limit of the write layer
    in bytes, None if it has none. `mount_points` are those of the write layer (`WriteView`). `confinement` and `labels`
    are as in `nbcontainer.containers.record.Record`. `notebook` is the file name of the notebook, if it is known.
    `log` is the log of a job, relative to the store; empty for a cell that is not a job. `door` is the socket through
    which other processes of the user run commands in the container, likewise; empty if they cannot.
    `live` is true for a program that runs one cell after another, until it is stopped. The output of an `untrusted` one
    must not control a terminal. The result of a `cached` one is kept if nothing acts on it from outside.
    """

    pid: int
    birth: str
    image: str
    image_digest: str
    started: str
    command: str
    upper: str
    lowers: tuple[str, ...]
    kernel: str = ""
    network: str = "none"
    ports: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    parts: tuple[str, ...] = ()
    storage: int | None = None
    confinement: dict[str, Any] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    mount_points: tuple[str, ...] = ()
    notebook: str = ""
    log: str = ""
    door: str = ""
    live: bool = False
    untrusted: bool = False
    cached: bool = False

    @property
    def alive(self) -> bool:
        """Whether its init is alive."""
        return bool(self.birth) and birth(self.pid) == self.birth

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON values. Other versions of this package read these keys: keep them."""
        return {
            "pid": self.pid,
            "born": self.birth,
            "image": self.image,
            "digest": self.image_digest,
            "started": self.started,
            "command": self.command,
            "kernel": self.kernel,
            "network": str(self.network),
            "ports": list(self.ports),
            "stop": int(self.stop_signal),
            "upper": self.upper,
            "lowers": list(self.lowers),
            "parts": list(self.parts),
            "storage": self.storage,
            "confinement": self.confinement,
            "labels": self.labels,
            "mount_points": list(self.mount_points),
            **({"notebook": self.notebook} if self.notebook else {}),
            **({"live": True} if self.live else {}),
            **({"untrusted": True} if self.untrusted else {}),
            **({"cached": True} if self.cached else {}),
            **({"log": self.log} if self.log else {}),
            **({"door": self.door} if self.door else {}),
        }

    @classmethod
    def from_json(cls, values: object) -> ActiveCell | None:
        """Return the cell that `to_json` of this or another version gave; None for anything else.

        Unknown keys are ignored. A key that is missing has its default, if it has one.
        """
        if not isinstance(values, dict):
            return None
        given = {name: values[key] for name, key in _KEYS.items() if key in values}
        if not given.keys() >= _REQUIRED or not all(_VALID[name](value) for name, value in given.items()):
            return None
        for name in ("lowers", "ports", "parts", "mount_points"):
            given[name] = tuple(given.get(name, ()))
        return cls(**given)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and "/" not in value and value not in ("", ".", "..")


def _is_inner_path(value: object) -> bool:
    return isinstance(value, str) and all(map(_is_file_name, value.split("/")))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


_VALID: dict[str, Callable[[Any], bool]] = {
    "pid": _is_count,
    "birth": _is_text,
    "image": _is_text,
    "image_digest": _is_text,
    "started": _is_text,
    "command": _is_text,
    "upper": _is_file_name,
    "lowers": lambda value: _is_texts(value) and bool(value) and all(map(_is_file_name, value)),
    "kernel": _is_text,
    "network": _is_text,
    "ports": _is_texts,
    "stop_signal": lambda value: isinstance(value, int) and value in signal.valid_signals(),
    "parts": _is_texts,
    "storage": lambda value: value is None or _is_count(value),
    "confinement": lambda value: value is None or isinstance(value, dict),
    "labels": lambda value: isinstance(value, dict) and _is_texts([*value, *value.values()]),
    "mount_points": lambda value: isinstance(value, list) and all(map(_is_file_name, value)),
    "notebook": _is_text,
    "live": lambda value: isinstance(value, bool),
    "untrusted": lambda value: isinstance(value, bool),
    "cached": lambda value: isinstance(value, bool),
    "log": _is_inner_path,
    "door": _is_inner_path,
}
_KEYS = {name: name for name in _VALID} | {"birth": "born", "image_digest": "digest", "stop_signal": "stop"}
_REQUIRED = {"pid", "birth", "image", "image_digest", "started", "command", "upper", "lowers"}


def notebook_name() -> str:
    """Return the file name of the notebook whose cells this process runs; empty if it is not known.

    Jupyter Server 2 and later gives it to kernels as JPY_SESSION_NAME. VS Code sets a variable in the notebook.
    """
    path = os.environ.get("JPY_SESSION_NAME") or vars(sys.modules["__main__"]).get("__vsc_ipynb_file__")
    return os.path.basename(path) if isinstance(path, str) else ""  # noqa: PTH119 - the path is not used


def running_containers(store: Store) -> dict[str, ActiveCell]:
    """Return the cells that run now, in any process that uses the store, by the names of their containers.

    Raises `StoreError`.
    """
    found: dict[str, ActiveCell] = {}
    try:
        states = store.sessions.states()
    except OSError as error:
        raise store_error("read the sessions", store.path, error) from error
    for session in states:
        running = session.get("running") if isinstance(session, dict) else None
        for name, values in running.items() if isinstance(running, dict) else ():
            cell = ActiveCell.from_json(values)
            if cell is not None and cell.alive:
                found[name] = cell
    return found


def stop_running(store: Store, name: str, grace: float = 2.0, *, settled: bool = True) -> bool:
    """End the cell that runs in a container; return False if none does.

    Its init gets the stop signal, and SIGKILL `grace` seconds later. When this returns, the process that ran the cell
    has saved its layer, so that the container can be used at once; unless `settled` is false, since the caller is what
    saves it. Raises `StoreError` if the container belongs to another user.
    """
    with _process_of(store, name) as found:
        if found is None:
            return False
        _note_signal(store, found.cell)
        _end(found, grace, lambda: _note_end(store, found.cell, Reason.STOPPED, grace))
    if settled:
        _wait_until_free(store.path / "containers" / name / "lock")
    return True


def signal_running(store: Store, name: str, number: int) -> bool:
    """Send a signal to the program of the cell that runs in a container; return False if none does.

    Init forwards it. SIGKILL ends init, and all of the container with it; then this returns as `stop_running` does.
    Raises `StoreError` if the container belongs to another user.
    """
    with _process_of(store, name) as found:
        if found is None:
            return False
        if number == signal.SIGKILL:
            _note_end(store, found.cell, Reason.ENDED_BY_KILL)
        _note_signal(store, found.cell)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(found.pidfd, number)
        if number != signal.SIGKILL:
            return True
        select.select((found.pidfd,), (), ())
    _wait_until_free(store.path / "containers" / name / "lock")
    return True


class _Process(NamedTuple):
    """A running cell, and a descriptor of its init."""

    cell: ActiveCell
    pidfd: int


@contextlib.contextmanager
def _process_of(store: Store, name: str) -> Iterator[_Process | None]:
    """Yield the cell that runs in a container, whose processes are awake; None if none runs. Raises `StoreError`."""
    cell = running_containers(store).get(name)
    try:
        pidfd = -1 if cell is None else os.pidfd_open(cell.pid)
    except ProcessLookupError:
        pidfd = -1
    try:
        if cell is None or pidfd < 0 or not cell.alive:  # the pid was another process's before the descriptor held it
            yield None
            return
        wake(store, cell.pid, cell.upper)  # stopped processes cannot end in order
        yield _Process(cell, pidfd)
    except PermissionError as error:
        problem = f"cannot stop container '{name}': it belongs to another user"
        raise StoreError(problem, hint="stop it as that user, or as root") from error
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _end(process: _Process, grace: float, before_kill: Callable[[], None]) -> None:
    """Send a cell its stop signal, and SIGKILL after `grace` seconds; wait until it has ended."""
    poll = select.poll()
    poll.register(process.pidfd, select.POLLIN)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, process.cell.stop_signal)
        if not poll.poll(min(grace * 1000, _LONGEST)):
            before_kill()
            signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            poll.poll()


def _note_path(store: Store, upper: str) -> Path:
    return store.path / "tmp" / f"{upper}.end"


def _note_end(store: Store, cell: ActiveCell, reason: Reason, grace: float = 0.0) -> None:
    """Note why this process is about to kill a cell, for the process that runs it and writes its outcome."""
    with contextlib.suppress(OSError):  # a full disk: the outcome is that it was killed from outside
        _note_path(store, cell.upper).write_text(f"{grace} {reason}")


def with_noted_end(store: Store, upper: str, outcome: Outcome) -> Outcome:
    """Return the outcome of a cell that wrote to this upper, with the reason that another process noted to kill it."""
    if outcome.reason is not Reason.KILLED:
        return outcome
    path = _note_path(store, upper)
    try:
        grace, _, reason = path.read_text().partition(" ")
        path.unlink()
        return replace(outcome, reason=Reason(reason), grace=float(grace))
    except (OSError, ValueError):
        return outcome


def _note_signal(store: Store, cell: ActiveCell) -> None:
    """Note that this process is about to send a cached cell a signal: its result is not that of the cell alone."""
    if cell.cached:
        with contextlib.suppress(OSError):  # a full disk, on which no result is kept either
            _signal_path(store, cell.upper).touch()


def _signal_path(store: Store, upper: str) -> Path:
    return store.path / "tmp" / f"{upper}.signalled"


def was_signalled(store: Store, upper: str) -> bool:
    """Return whether another process noted that it sent a signal to the cell that wrote to this upper."""
    try:
        _signal_path(store, upper).unlink()
    except OSError:
        return False
    return True


def _wait_until_free(lock: Path) -> None:
    """Wait until no process holds the container's lock, for some seconds at most.

    A blocking flock(2) would also wait for the end of the next cell in the container.
    """
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return  # an anonymous container without a record: only its own process uses it
    try:
        for _ in range(_SETTLE_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_SETTLE_PAUSE)
            else:
                return
    finally:
        os.close(fd)
