"""The observer of a cell that does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.sandbox.supervisor import Supervisor


class SilentObserver:
    """A `CellObserver` that does nothing: the base of observers that need only some of the events."""

    def on_start(self, supervisor: Supervisor) -> None:
        """Do nothing."""

    def on_output(self, descriptor: int, data: bytes) -> None:
        """Do nothing."""

    def on_terminal(self, terminal: int) -> None:
        """Do nothing."""

    def on_control_directory(self, directory: int, terminal: int) -> Iterable[int]:
        """Return no descriptors."""
        return ()

    def on_display(self, directory: int, supervisor: Supervisor) -> Iterable[int]:
        """Return no descriptors."""
        return ()

    def on_values(self, values: Sequence[int]) -> None:
        """Close the descriptors."""
        protocol.close(values)

    def on_lasting(self) -> None:
        """Do nothing."""

    def on_began(self) -> None:
        """Do nothing."""

    def on_explained(self, notes: str) -> None:
        """Do nothing."""

    def on_alarm(self) -> None:
        """Do nothing."""

    def on_glance(self) -> None:
        """Do nothing."""
