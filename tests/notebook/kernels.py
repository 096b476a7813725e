"""A real kernel, driven as a notebook's front end does it: over its sockets, message by message."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

from tests.running import DEADLINE, all_dead, descendants, pidfds

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_client.blocking.client import BlockingKernelClient


class Kernel:
    """An ipykernel of its own process, in a session of one store. A context manager: it ends with the test.

    `folder` must have a short path: its sockets are there (unix(7): 107 characters).
    """

    def __init__(self, folder: Path, store: Path, **env: str) -> None:
        self.env = {
            **os.environ,
            "NBCONTAINER_HOME": str(store),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder),
            **env,
        }
        self.manager = KernelManager(
            kernel_name="python3",
            transport="ipc",
            connection_file=str(folder / f"{os.urandom(4).hex()}.json"),
            shutdown_wait_time=DEADLINE,
        )
        self.client: BlockingKernelClient

    def __enter__(self) -> Kernel:
        self.manager.start_kernel(env=self.env)
        self.connect()
        return self

    def connect(self) -> None:
        """Opens the channels, and waits until the kernel answers."""
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    @property
    def pid(self) -> int:
        """The kernel's host pid."""
        assert self.manager.provisioner is not None
        return int(self.manager.provisioner.pid)  # type: ignore[attr-defined]

    def send(self, code: str) -> Cell:
        """Sends a cell; what comes back is read from what this returns."""
        return Cell(self.client, self.client.execute(code))

    def run(self, code: str) -> Cell:
        """Runs a cell to its end."""
        return self.send(code).end()

    def value(self, expression: str) -> str:
        """The repr of an expression in the kernel. Fails where it raises."""
        return self.run(f"print(repr({expression}), end='')").good().stdout

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """What the restart button does."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self.connect()

    def kill(self) -> None:
        """SIGKILL, to the kernel's process alone; returns when it is dead."""
        pidfd = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert all_dead([pidfd])

    @contextlib.contextmanager
    def watched(self) -> Any:
        """All processes below the kernel, as they are now, must be dead by the end of the block and a little after."""
        watched = pidfds(descendants(self.pid))
        yield
        assert all_dead(watched)


class Cell:
    """One cell's messages, in the order they came."""

    def __init__(self, client: BlockingKernelClient, request: str) -> None:
        self._client = client
        self._request = request
        self.messages: list[dict[str, Any]] = []
        self.ended = False

    def _next(self, deadline: float) -> None:
        """Takes the next message; those of other cells are passed over."""
        left = deadline - time.monotonic()
        try:
            message = self._client.get_iopub_msg(timeout=max(0.0, left))
        except Empty:
            raise AssertionError(f"nothing more came in time; so far: {self.messages}") from None
        if message["parent_header"].get("msg_id") == self._request:
            kind, content = message["msg_type"], message["content"]
            self.messages.append({"type": kind, **content})
            self.ended = kind == "status" and content["execution_state"] == "idle"

    def until(self, text: str, stream: str = "stdout", *, seconds: float = DEADLINE) -> Cell:
        """Waits until `text` has come. The cell need not have ended."""
        deadline = time.monotonic() + seconds
        while text not in self._text(stream):
            assert not self.ended, f"the cell ended without {text!r}: {self.messages}"
            self._next(deadline)
        return self

    def end(self, *, seconds: float = 3 * DEADLINE) -> Cell:
        """Waits until the kernel is idle again, and has answered."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            self._next(deadline)
        while True:
            reply = self._client.get_shell_msg(timeout=max(0.0, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == self._request:
                self.status = str(reply["content"]["status"])
                return self

    def good(self) -> Cell:
        """The cell itself, if nothing in it failed."""
        assert self.ended
        assert self.error is None, self.error
        return self

    def _text(self, stream: str) -> str:
        return "".join(m["text"] for m in self.messages if m["type"] == "stream" and m["name"] == stream)

    @property
    def stdout(self) -> str:
        """What came on standard output so far."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """What came on standard error so far."""
        return self._text("stderr")

    @property
    def streams(self) -> list[tuple[str, str]]:
        """(stream, text), as they came, with neighbours of one stream joined."""
        joined: list[tuple[str, str]] = []
        for message in self.messages:
            if message["type"] == "stream":
                if joined and joined[-1][0] == message["name"]:
                    joined[-1] = (message["name"], joined[-1][1] + message["text"])
                else:
                    joined.append((message["name"], message["text"]))
        return joined

    @property
    def error(self) -> dict[str, Any] | None:
        """The cell's error, with `ename`, `evalue` and `traceback`; None where it has none."""
        errors = [message for message in self.messages if message["type"] == "error"]
        assert len(errors) <= 1
        return errors[0] if errors else None

    @property
    def result(self) -> str:
        """The plain text of what the cell's last line was worth."""
        return next((m["data"]["text/plain"] for m in self.messages if m["type"] == "execute_result"), "")
