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
from nbcontainer.sandbox import plan, wire
from nbcontainer.sandbox.idmap import host_map
from nbcontainer.sandbox.process import SCRIPT
from nbcontainer.sandbox.rootfs import open_in_root
from nbcontainer.sandbox.spec import DEFAULT_PATH, Overlay, Program, Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.linux.kernel import Kernel

_PLAIN = plan.build(
    Spec(Overlay(("layer",)), Program(("/bin/sh", SCRIPT), (f"PATH={DEFAULT_PATH}", "TERM=dumb")), script=3), host_map()
)
_REQUEST = wire.encode({"setup": plan.encode(_PLAIN.setup), "enter": plan.encode(_PLAIN.enter)})

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
def plain_request() -> Iterator[socket.socket]:
    """A channel that holds the request for a plain cell, with descriptors of nothing."""
    ours, theirs = wire.pair()
    with ours, theirs, open(os.devnull, "rb") as nothing:  # noqa: PTH123 - the host's, and nothing of the store's
        socket.send_fds(theirs, [_REQUEST], [nothing.fileno()] * 4)
        yield ours


def look_up_likely(kernel: Kernel) -> None:
    """Looks up, in the root that is mounted if one is, what nearly every cell will."""
    for path in _LIKELY:
        with contextlib.suppress(OSError):
            kernel.close(open_in_root(kernel, path, os.O_PATH))
