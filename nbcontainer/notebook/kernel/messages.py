"""Messages from the kernel to frontends."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.progress_line import PATIENCE
from nbcontainer.notebook.display.progress_bar import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipykernel.kernelbase import Kernel

    from nbcontainer.progress import State


class FrontendMessages:
    """The frontends of a kernel. See `nbcontainer.notebook.kernel.output.Frontends`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel: Any = kernel

    @property
    def parent(self) -> dict[str, Any]:
        """The request that is being answered on the shell channel."""
        found: dict[str, Any] = self._kernel.get_parent("shell")
        return found

    def publish(self, kind: str, content: dict[str, Any], parent: dict[str, Any]) -> None:
        """Send a message to all of them. From any thread."""
        kernel = self._kernel
        if kernel.session:
            kernel.session.send(kernel.iopub_socket, kind, content, parent=parent, ident=kernel._topic(kind))

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function later, in the thread that publishes."""
        loop = self._kernel.iopub_thread.io_loop
        loop.add_callback(loop.call_later, seconds, function)


class ProgressDisplay:
    """A listener that keeps one display of the request's up to date, if the work takes long enough."""

    _ids = itertools.count(1)

    def __init__(self, frontends: FrontendMessages) -> None:
        self._frontends = frontends
        self._parent = frontends.parent
        self._id = ""

    def __call__(self, state: State) -> None:
        """Show a state."""
        kind = "update_display_data" if self._id else "display_data"
        if not self._id:
            if state.seconds < PATIENCE:
                return
            self._id = f"nbcontainer-progress-{next(self._ids)}"
        bar = Bar(state)
        data = {"text/plain": repr(bar), "text/html": bar._repr_html_()}
        content = {"data": data, "metadata": {}, "transient": {"display_id": self._id}}
        self._frontends.publish(kind, content, self._parent)
