"""The input box of the frontend that sent a cell, by `input_request` messages of Jupyter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipykernel.kernelbase import Kernel


class InputRequests:
    """Asks the frontend that sent the current cell for lines, without waiting for them. Main thread only.

    Implements `nbcontainer.sandbox.prompts.asking.Keyboard`. `flush` sends the output so far, so that it appears before
    the question.
    """

    def __init__(self, kernel: Kernel, flush: Callable[[], None]) -> None:
        self._kernel: Any = kernel
        self._flush = flush

    def ask(self, secret: bool) -> None:
        """Ask for a line. Answers to earlier questions are dropped."""
        self._flush()
        while self._reply() is not None:
            pass
        kernel = self._kernel
        content = {"prompt": "", "password": secret}
        ident = kernel._parent_ident["shell"]
        kernel.session.send(kernel.stdin_socket, "input_request", content, kernel.get_parent("shell"), ident=ident)

    def answer(self) -> str | None:
        """Return the line; None if it has not come."""
        content = self._reply()
        return None if content is None else str(content.get("value", ""))

    def _reply(self) -> dict[str, Any] | None:
        """Return the content of an `input_reply`; None if none has come."""
        try:
            _, message = self._kernel.session.recv(self._kernel.stdin_socket, mode=zmq.NOBLOCK)
        except ValueError:
            return None  # its signature is wrong
        return None if message is None else message["content"]
