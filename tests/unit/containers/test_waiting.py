"""Which running cells another cell waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.containers import run
from nbcontainer.containers.active import ActiveCell
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.errors import ContainerBusy

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVE = ActiveCell(7, "1", "busybox", "sha256:0", "2026-01-01T00:00:00Z", "live from here", "u.1", ("l.1",))


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[ActiveCell], list[str]]:
    """Returns the notices of a cell whose container runs another one."""

    def waits(active: ActiveCell) -> list[str]:
        found: list[str] = []
        monkeypatch.setattr(run, "running_containers", lambda _: {"dev": active})
        place = cast("Any", SimpleNamespace(store=None, name="dev"))
        run._announce_wait(place, place, Streams(lambda _: None, lambda _: None, on_wait=found.append))
        return found

    return waits


def test_a_cell_waits_for_a_cell_whatever_its_text_is(wait: Callable[[ActiveCell], list[str]]) -> None:
    """A cell that happens to begin with `live` ends by itself, so another one waits for it."""
    assert wait(ACTIVE)[0].startswith("waiting for the cell that runs in container 'dev'")


def test_a_cell_does_not_wait_for_a_live_container(wait: Callable[[ActiveCell], list[str]]) -> None:
    """A live container ends when it is stopped: the error says how. Other processes read that from its JSON values."""
    live = ActiveCell.from_json({**ACTIVE.to_json(), "live": True})
    assert live is not None
    with pytest.raises(ContainerBusy, match="stop it first: `%container stop dev`"):
        wait(live)
