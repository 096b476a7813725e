"""What this room needs from above: somewhere to run its work on things that nobody trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Runner(Protocol):
    """Runs a function of `nbcontainer.images.sandboxed` where it can do no harm."""

    @property
    def single_id(self) -> bool:
        """Whether only one user id exists there, so that owners cannot be kept."""
        ...

    def later(self, chore: Callable[[], object]) -> None:
        """Does it in the background; its errors are nobody's."""
        ...

    def on_directory(
        self,
        function: Callable[..., Any],
        path: str,
        files: Sequence[int] = (),
        *,
        read_only: bool = False,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Calls `function(files, progress, **arguments)` with the store's directory `path` (relative) as its root."""
        ...

    def on_layers(
        self,
        function: Callable[..., Any],
        lowers: Sequence[str],
        files: Sequence[int] = (),
        *,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """The same, with the merged, read-only view of layers (ids, the topmost first) as its root."""
        ...
