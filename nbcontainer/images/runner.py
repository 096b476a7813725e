"""What this package needs from the packages above it: a place to run functions on untrusted files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Runner(Protocol):
    """Runs functions of `nbcontainer.images.sandboxed` in sandboxes (implemented by `nbcontainer.containers`)."""

    @property
    def single_id(self) -> bool:
        """Whether only one user id exists in the sandbox, so that owners cannot be kept."""
        ...

    def later(self, task: Callable[[], object], /) -> None:
        """Run a task in the background; its errors are ignored."""
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
        """Call `function(files, progress, **arguments)` with the store's directory `path` (relative) as its root.

        `files` are descriptors of the caller's, which the function gets. Return what the function returns. Raises what
        it raises.
        """
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
        """Do the same with the merged, read-only view of layers (ids, the topmost first) as the root."""
        ...
