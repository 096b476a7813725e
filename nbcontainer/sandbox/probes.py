"""Parts of the real plan, tried one by one: which of a container's steps this machine can do.

A probe is steps picked from the plan that a container would have, so that nothing is tried but what a cell needs, and
its errors are those of a cell. Its last step is a function of this module, run where a cell's would be.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.files import keeps_attributes
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.spec import Overlay, ProcLevel, Program, Spec
from nbcontainer.sandbox.steps.base import Plan
from nbcontainer.sandbox.steps.devices import BindDevice, MountDev, MountDevDirectory, MountSys
from nbcontainer.sandbox.steps.namespaces import CloneInit, SetHostname
from nbcontainer.sandbox.steps.network import RaiseLoopback, StageHosts
from nbcontainer.sandbox.steps.overlay import FEW_CHANGES, MountOverlay
from nbcontainer.sandbox.steps.proc import MountProc
from nbcontainer.sandbox.steps.program import CallFunction
from nbcontainer.sandbox.steps.rootfs import STAGE, MountStage, PivotRoot, SlaveMounts, StoreAsHost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.steps.base import Step
    from nbcontainer.sandbox.userns.idmap import IdMap

    Progress = Callable[[int], None]

LOWER = "lower"
"""The id of the layer that a probe's root is made of; `make_lower` makes it."""

HOSTNAME = "nbcontainer-doctor"


def make_lower(layers: Path) -> list[Path]:
    """Make the layer in a directory of layers (host); return what was made, for its owner to be set."""
    top = layers / LOWER / "diff"
    made = [top.parent, top, top / "kept", top / "gone", top / "moved"]
    for folder in made:
        folder.mkdir(mode=0o755)
    for folder in made[2:]:
        made.append(folder / "file")
        made[-1].write_text("lower")
    return made


@dataclass(frozen=True)
class Trial:
    """Steps of these kinds, on the ground that each needs; `function` is what is done when they have been applied."""

    kinds: tuple[type[Step], ...]
    function: Callable[[Sequence[int], Progress], None]
    network: bool = False

    def plan(self, idmap: IdMap, upper: str, proc: ProcLevel = ProcLevel.OWN) -> Plan:
        """The part of a container's plan that this is. `upper` is the directory for the upper, seen from `layers`.

        `proc` is the launcher's (`Launcher.proc`).
        To be carried out with three descriptors for the standard streams.
        """
        root = Overlay((f"{LOWER}/diff",), f"{upper}/diff", f"{upper}/work")
        whole = plan.PlanTemplate(Spec(Program(("/bin/true",)), hostname=HOSTNAME), idmap, proc).on(root)
        call = CallFunction(__name__, self.function.__name__)
        if not self.kinds:
            return Plan(whole.prepare, whole.setup, (*whole.enter[:-1], call))
        clone, *rest = whole.prepare
        assert isinstance(clone, CloneInit)
        if not self.network:
            clone = CloneInit(tuple(name for name in clone.namespaces if name != "net"))
        ahead = tuple(step for step in rest if isinstance(step, self.kinds))
        return Plan((clone, *ahead), tuple(step for step in whole.setup if isinstance(step, self.kinds)), (call,))


def nothing(_files: Sequence[int], _: Progress) -> None:
    """The steps are all there is to try."""


def open_terminal(_files: Sequence[int], _: Progress) -> None:
    """Open a terminal of the staged devpts."""
    os.close(os.open(f"{STAGE}/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))


def tell_hostname(_files: Sequence[int], _: Progress) -> None:
    """Raise `OSError` where the host name is not the one that was set."""
    if os.uname().nodename != HOSTNAME:
        raise PermissionError(errno.EPERM, "the host name could not be changed")


def change_lower(_files: Sequence[int], _: Progress) -> None:
    """Write to, remove and rename what is in the lower layer, which is the root here. Raises `OSError`.

    Without `userxattr` the last two are EIO in a user namespace; ENOTSUP where the upper's file system cannot keep what
    they take. EXDEV is how overlay has a program copy a directory instead of renaming it
    (Documentation/filesystems/overlayfs.rst).
    """
    with Path("/kept/file").open("ab") as file:
        file.write(b"upper")
    gone = Path("/gone")
    (gone / "file").unlink()
    try:
        gone.rmdir()
    except OSError as error:
        if error.errno != errno.EIO or keeps_attributes("/kept"):
            raise
        raise OSError(errno.ENOTSUP, FEW_CHANGES, "/gone") from error
    gone.mkdir()
    if list(gone.iterdir()):
        raise OSError(errno.EIO, "a directory that was removed and made again is not empty", "/gone")
    try:
        Path("/moved").rename("/elsewhere")
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise


_GROUND = (SlaveMounts, StoreAsHost, MountStage)

TRIALS = {
    "namespaces": Trial((SlaveMounts,), nothing),
    "mounts": Trial(_GROUND, nothing),
    "/proc": Trial((*_GROUND, MountProc), nothing),
    "/sys": Trial((*_GROUND, MountSys), nothing, network=True),
    "/dev": Trial((*_GROUND, MountDev, BindDevice, MountDevDirectory), open_terminal),
    "network": Trial((SlaveMounts, RaiseLoopback), nothing, network=True),
    "host name": Trial((SlaveMounts, SetHostname), tell_hostname),
    "overlay": Trial((*_GROUND, StageHosts, MountOverlay, PivotRoot), change_lower),
    "container": Trial((), change_lower),
}
"""By name. The last one is a cell's whole plan but for its program, and finds what no other has tried."""


def discard(folder: Path) -> None:
    """Remove a directory of probes. Overlay leaves directories in it that no user may enter, their owner neither."""
    import shutil

    for top, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                Path(top, name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
