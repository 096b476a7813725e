"""Which spare a plan gets from the launcher's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.sandbox.launcher.client import Launcher

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.sandbox.steps.base import Plan
    from nbcontainer.sandbox.userns.idmap import IdMap


class _Spare:
    """A spare of which a step has failed, or not; it notes what is done to it."""

    def __init__(self, *, failed: bool) -> None:
        self.failed = failed
        self.done: list[str] = []

    def failed_ahead(self) -> bool:
        self.done.append("asked")
        return self.failed

    def kill(self) -> None:
        self.done.append("kill")

    def wait(self) -> None:
        self.done.append("wait")

    def __enter__(self) -> _Spare:
        return self

    def __exit__(self, *_: object) -> None:
        self.done.append("close")


class _Spares:
    """Gives the spares of a list, the last of which is a new one."""

    def __init__(self, found: list[_Spare]) -> None:
        self._found = found

    def take(self, _: object) -> tuple[int, _Spare, bool]:
        spare = self._found.pop(0)
        return len(self._found), spare, not self._found


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    made = Launcher(tmp_path, cast("IdMap", None))
    monkeypatch.setattr(made.connection, "ensure", lambda: None)
    return made


def _taken(launcher: Launcher, found: list[_Spare]) -> Any:
    launcher.spares = cast("Any", _Spares(list(found)))
    return launcher._take(cast("Plan", None))


def test_a_sound_spare_is_taken(launcher: Launcher) -> None:
    """The first one that fits."""
    found = [_Spare(failed=False), _Spare(failed=False)]
    assert _taken(launcher, found) == (1, found[0])


def test_spares_that_failed_ahead_are_ended_and_replaced(launcher: Launcher) -> None:
    """Nothing of them is left when the next one mounts the same directories."""
    found = [_Spare(failed=True), _Spare(failed=True), _Spare(failed=False)]
    assert _taken(launcher, found) == (0, found[2])
    assert [spare.done for spare in found] == [["asked", "kill", "wait", "close"]] * 2 + [[]]


def test_what_a_new_one_fails_with_is_the_cells(launcher: Launcher) -> None:
    """It is not made a second time."""
    found = [_Spare(failed=True), _Spare(failed=True)]
    assert _taken(launcher, found) == (0, found[1])
