"""What a spare does before there is a cell, so that the cell does not have to wait for it.

After a fork, the first access to each page of the interpreter costs a page fault and a copy; the start of a cell
accesses four hundred pages. And overlayfs looks up a file in its layers at the first access.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.spec import DEFAULT_PATH, Overlay, Program, Spec
from nbcontainer.sandbox.steps.devices import SCRIPT
from nbcontainer.sandbox.steps.rootfs import PivotRoot, open_in_root
from nbcontainer.sandbox.userns.idmap import host_map

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps.base import Step

_PLAIN = plan.PlanTemplate(
    Spec(Program(("/bin/sh", SCRIPT), (f"PATH={DEFAULT_PATH}", "TERM=dumb")), script=3), host_map()
).on(Overlay(("layer",)))


def _request(done: int) -> bytes:
    setup, enter = _PLAIN.setup[done:], _PLAIN.enter[max(0, done - len(_PLAIN.setup)) :]
    return protocol.encode({"setup": plan.encode(setup), "enter": plan.encode(enter)})


_WHOLE, _REST = _request(0), _request(len(plan.ahead(_PLAIN)) - len(_PLAIN.prepare))

PREPARE = plan.encode(plan.ahead(_PLAIN)[1:])
"""What a plain cell's init does ahead, as it is sent to it: all but `CloneInit`, which the launcher does."""

_LIKELY = ("/bin/sh", "/etc/passwd", "/etc/group")


@contextlib.contextmanager
def plain_request(done: Sequence[Step]) -> Iterator[socket.socket]:
    """A socket that holds the request for a plain cell, without the steps `done`, with descriptors of /dev/null."""
    request = _REST if switched(done) else _WHOLE
    ours, theirs = protocol.pair()
    with ours, theirs, open(os.devnull, "rb") as null:  # noqa: PTH123 - a constant path of the host
        socket.send_fds(theirs, [request], [null.fileno()] * 4)
        yield ours


def look_up_likely(kernel: Kernel, done: Sequence[Step]) -> None:
    """Look up the files that nearly every cell uses, in the root that exists after the steps `done`."""
    for path in _LIKELY:
        with contextlib.suppress(OSError):
            if switched(done):
                kernel.close(kernel.open(path, os.O_PATH | os.O_CLOEXEC))
            else:
                kernel.close(open_in_root(kernel, path, os.O_PATH))


def switched(done: Sequence[Step]) -> bool:
    """Return whether these steps have made the container's root that of init."""
    return any(isinstance(step, PivotRoot) for step in done)
