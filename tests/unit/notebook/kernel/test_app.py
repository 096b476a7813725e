"""The standard streams of the kernel's own process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ipykernel.iostream import IOPubThread
from jupyter_client.session import Session

from nbcontainer.notebook.kernel.app import ContainerKernelApp, KernelStream


class Publisher(IOPubThread):
    """Stands for the thread that publishes: does at once what it is asked to do, and counts that."""

    def __init__(self) -> None:
        self.asked = 0
        self.thread: Any = SimpleNamespace(is_alive=lambda: True, ident=0)
        self.io_loop: Any = SimpleNamespace(call_later=lambda seconds, function: None)

    def schedule(self, f: Any) -> None:
        """Call it."""
        self.asked += 1
        f()


class Sent(Session):
    """Keeps the text of messages instead of sending them."""

    def send(self, stream: Any, msg_or_type: Any, *_: Any, **__: Any) -> None:
        """Keep it."""
        stream.texts = [*getattr(stream, "texts", ()), msg_or_type["content"]["text"]]


def make_stream(publisher: Publisher) -> KernelStream:
    """Return a standard output that is published there."""
    return KernelStream(Sent(key=b"key"), publisher, "stdout", watchfd=False)  # type: ignore[no-untyped-call]


def test_a_flush_of_nothing_waits_for_no_thread() -> None:
    """ipykernel flushes four times for a cell, and nothing was written."""
    publisher = Publisher()
    make_stream(publisher).flush()
    assert publisher.asked == 0


def test_a_flush_sends_what_was_written() -> None:
    """It is sent when `flush` returns, and the next flush has nothing to do."""
    publisher = Publisher()
    stream = make_stream(publisher)
    stream.write("a warning\n")
    stream.flush()
    assert publisher.texts == ["a warning\n"]  # type: ignore[attr-defined]
    asked = publisher.asked
    stream.flush()
    assert publisher.asked == asked


def test_the_kernel_uses_these_streams() -> None:
    """By their name, as ipykernel imports them."""
    found = ContainerKernelApp().outstream_class  # type: ignore[no-untyped-call]
    assert found == f"{KernelStream.__module__}.{KernelStream.__qualname__}"
