"""What a process writes about its running cells, for other processes and other versions."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.active import ActiveCell, running_containers, stop_running, with_noted_end
from nbcontainer.errors import StoreError
from nbcontainer.linux.procfs import birth
from nbcontainer.outcome import Outcome, Reason

if TYPE_CHECKING:
    from nbcontainer.store.layout import Store

WRITTEN_BEFORE = Path(__file__).parent / "written_before"
CELL = ActiveCell(
    pid=os.getpid(),
    birth=birth(os.getpid()),
    image="busybox",
    image_digest="sha256:" + "0" * 64,
    started="2026-11-24T20:00:00Z",
    command="sleep 1",
    upper="ab.1",
    lowers=("ab.2", "ab.3"),
    kernel="busybox --name x",
    network="private",
    ports=("127.0.0.1:80:80/tcp",),
    stop_signal=2,
    parts=("/usr",),
    storage=1 << 20,
    confinement={"network": "private"},
)


def test_a_cell_is_read_as_it_was_written() -> None:
    """All facts of a running cell survive the way through JSON."""
    assert ActiveCell.from_json(json.loads(json.dumps(CELL.to_json()))) == CELL


def test_a_session_of_the_version_before_is_read() -> None:
    """A session's file that the version before wrote gives the same facts under the same keys."""
    values = json.loads((WRITTEN_BEFORE / "session.json").read_text())["running"]["dev"]
    cell = ActiveCell.from_json(values)
    assert cell is not None
    assert (cell.image, cell.command, cell.lowers) == ("busybox", "sleep 1.5", tuple(values["lowers"]))
    assert cell.to_json() == {**values, "labels": {}, "mount_points": []}


def test_a_session_of_another_version_is_read() -> None:
    """Unknown keys are ignored, and missing ones have their default."""
    values = CELL.to_json()
    for key in ("kernel", "network", "ports", "stop", "parts", "storage", "confinement"):
        del values[key]
    cell = ActiveCell.from_json({**values, "new": [1]})
    assert cell is not None
    defaults = {"kernel": "", "network": "none", "ports": (), "parts": (), "storage": None, "confinement": None}
    assert cell == replace(CELL, stop_signal=15, **defaults)  # type: ignore[arg-type]


NONSENSE: list[Any] = [
    None,
    [],
    "x",
    {},
    *({key: value for key, value in CELL.to_json().items() if key != missing} for missing in ("pid", "born", "lowers")),
    *(
        {**CELL.to_json(), key: value}
        for key, value in (
            ("pid", "1"),
            ("pid", -1),
            ("born", 5),
            ("image", None),
            ("lowers", "ab"),
            ("lowers", []),
            ("lowers", ["../x"]),
            ("upper", "../../x"),
            ("ports", [1]),
            ("stop", 999),
            ("stop", []),
            ("storage", "1g"),
            ("confinement", []),
        )
    ),
]


@pytest.mark.parametrize("values", NONSENSE)
def test_nonsense_is_not_a_cell(values: Any) -> None:
    """Values that no version writes give None, and no exception."""
    assert ActiveCell.from_json(values) is None


@pytest.mark.parametrize(
    "session", [[], "x", 5, {"running": 5}, {"running": {"a": 1}}, {"running": {"a": {"pid": []}}}]
)
def test_a_damaged_session_hides_no_other(store: Store, session: Any) -> None:
    """A session's file with nonsense is skipped; the cells of the others are listed."""
    (store.path / "sessions" / "0").write_text(json.dumps(session))
    store.sessions.publish({"pid": os.getpid(), "running": {"dev": CELL.to_json()}})
    assert running_containers(store) == {"dev": CELL}


def test_a_later_process_with_the_same_pid_is_not_the_cell(store: Store) -> None:
    """A cell whose init has ended does not run, even if its pid belongs to another process now."""
    store.sessions.publish({"pid": os.getpid(), "running": {"dev": {**CELL.to_json(), "born": "1"}}})
    assert running_containers(store) == {}
    assert not stop_running(store, "dev")


def test_sessions_that_cannot_be_read_are_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's reason, when it has no memory to list them, is an error of the store's."""

    def refuse() -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(store.sessions, "states", refuse)
    with pytest.raises(StoreError, match=r"cannot read the sessions at .*: Cannot allocate memory"):
        running_containers(store)


KILLED = Outcome(Reason.KILLED, 137, 9)


@pytest.mark.parametrize("note", [None, "", " ", "stopped", "1 no such reason", "x stopped", "\xff 1"])
def test_an_end_without_a_whole_note_came_from_outside(store: Store, note: str | None) -> None:
    """Where no process of this package noted that it kills a cell, the outcome is as it was."""
    path = store.path / "tmp" / f"{CELL.upper}.end"
    if note is not None:
        path.write_text(note)
    assert with_noted_end(store, CELL.upper, KILLED) == KILLED
    path.unlink(missing_ok=True)


def test_a_noted_end_is_that_of_a_killed_cell_alone(store: Store) -> None:
    """The note gives the reason once; the outcome of a cell that ended by itself stays."""
    path = store.path / "tmp" / f"{CELL.upper}.end"
    path.write_text("2.0 stopped")
    ended = Outcome(Reason.EXITED, 3)
    assert with_noted_end(store, CELL.upper, ended) == ended
    assert with_noted_end(store, CELL.upper, KILLED) == Outcome(Reason.STOPPED, 137, 9, grace=2.0)
    assert not path.exists()
