"""What a spare goes through before there is a cell, so that the cell need not wait for it.

After a fork, the first touch of a page of the interpreter's costs a fault and a copy, and the start of a cell touches
four hundred. And overlay looks a file up in its layers when it is first asked for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, cast

from nbcontainer.linux.seccomp import SECCOMP_MODE_FILTER
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.spec import DEFAULT_PATH, Overlay, Program, Spec
from nbcontainer.sandbox.steps.devices import SCRIPT
from nbcontainer.sandbox.steps.rootfs import PivotRoot, open_in_root
from nbcontainer.sandbox.userns.idmap import host_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps.base import Step

_PLAIN = plan.build(
    Spec(Overlay(("layer",)), Program(("/bin/sh", SCRIPT), (f"PATH={DEFAULT_PATH}", "TERM=dumb")), script=3), host_map()
)


def _request(done: int) -> bytes:
    setup, enter = _PLAIN.setup[done:], _PLAIN.enter[max(0, done - len(_PLAIN.setup)) :]
    return protocol.encode({"setup": plan.encode(setup), "enter": plan.encode(enter)})


_WHOLE, _REST = _request(0), _request(len(plan.ahead(_PLAIN)) - len(_PLAIN.prepare))

_LIKELY = ("/bin/sh", "/etc/passwd", "/etc/group")


class _Idle:
    """See `idle_kernel`."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_, **__: 0

    def prctl(self, *_: int) -> int:
        return SECCOMP_MODE_FILTER

    def getrlimit(self, _: int) -> tuple[int, int]:
        return 0, 0

    def fstat(self, _: int) -> os.stat_result:
        return os.stat_result([0] * 10)


def idle_kernel() -> Kernel:
    """A kernel that does nothing, and says that all went well."""
    return cast("Kernel", _Idle())


@contextlib.contextmanager
def plain_request(done: Sequence[Step]) -> Iterator[socket.socket]:
    """A channel that holds the request for a plain cell after `done`, with descriptors of nothing."""
    request = _REST if _switched(done) else _WHOLE
    ours, theirs = protocol.pair()
    with ours, theirs, open(os.devnull, "rb") as nothing:  # noqa: PTH123 - the host's, and nothing of the store's
        socket.send_fds(theirs, [request], [nothing.fileno()] * 4)
        yield ours


def look_up_likely(kernel: Kernel, done: Sequence[Step]) -> None:
    """Looks up, in the root that is there after `done`, what nearly every cell will."""
    for path in _LIKELY:
        with contextlib.suppress(OSError):
            if _switched(done):
                kernel.close(kernel.open(path, os.O_PATH | os.O_CLOEXEC))
            else:
                kernel.close(open_in_root(kernel, path, os.O_PATH))


def _switched(done: Sequence[Step]) -> bool:
    return any(isinstance(step, PivotRoot) for step in done)
