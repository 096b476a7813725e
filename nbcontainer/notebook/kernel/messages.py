"""Messages from the kernel to frontends, and input requests."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import zmq

from nbcontainer.commands.progress_line import PATIENCE
from nbcontainer.notebook.progress_display import Bar

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

    def ask(self, secret: bool) -> None:
        """Send an `input_request` to the frontend of the current request. Answers to earlier ones are dropped."""
        while self.answer() is not None:
            pass
        kernel = self._kernel
        content = {"prompt": "", "password": secret}
        kernel.session.send(
            kernel.stdin_socket, "input_request", content, self.parent, ident=kernel._parent_ident["shell"]
        )

    def answer(self) -> dict[str, Any] | None:
        """Return the content of an `input_reply`; None if none has come."""
        try:
            _, message = self._kernel.session.recv(self._kernel.stdin_socket, mode=zmq.NOBLOCK)
        except ValueError:
            return None  # its signature is wrong
        return None if message is None else message["content"]


class InputRequests:
    """Asks the frontend that sent the cell for lines, without waiting for them.

    Implements `nbcontainer.notebook.kernel.shell.cell_watch.Keyboard`.

    `flush` sends the output so far, so that it appears before the question.
    """

    def __init__(self, frontends: FrontendMessages, flush: Callable[[], None]) -> None:
        self._frontends = frontends
        self._flush = flush

    def ask(self, secret: bool) -> None:
        """Ask for a line."""
        self._flush()
        self._frontends.ask(secret)

    def answer(self) -> str | None:
        """Return the line; None if it has not come."""
        content = self._frontends.answer()
        return None if content is None else str(content.get("value", ""))


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
