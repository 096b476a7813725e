"""All errors of this package. Each states in one line what failed, where, why, and what to do next.

NbcontainerError
├── UsageError            a command or an option is used in a wrong way
├── LinkRefused           a host path leads through a link that a container could have made
├── DirectoryRefused      the notebook's directory is not shown to a container
├── StoreError            the store cannot be used (permissions, space, another version)
├── ImageError            an image cannot be found, read or written
│   ├── ImageNotFound
│   ├── RegistryError     a registry cannot be reached, refuses, or violates the protocol
│   └── HostileArchive    an archive that violates its format or a limit, or is cut off
├── SandboxError          this machine cannot set up a container
│   ├── LauncherError     the launcher cannot start, or has ended
│   │   └── ContainerLost a container was killed before its cell began
│   ├── LimitUnavailable  a requested limit cannot be enforced
│   ├── NetworkUnavailable  a requested network or port is not available
│   └── SetupFailed       one step of the plan failed
├── ContainerError        an operation on a container failed
│   ├── ContainerNotFound
│   ├── ContainerExists
│   ├── ContainerBusy     it runs, here or in another notebook
│   └── ContainerDamaged  its record cannot be read
├── VolumeError           a volume of the store cannot be used
│   ├── VolumeNotFound
│   └── VolumeBusy        a cell uses it, here or in another notebook
├── ValueUnavailable      a value cannot be read from a cell's /out, or written to its /in
└── CellFailed            the cell ran and ended badly; it holds the outcome
"""

from __future__ import annotations

import errno
from typing import Any

from nbcontainer.outcome import Outcome  # noqa: TC001 - typing.get_type_hints reads it
from nbcontainer.rendering.text import visible

FREE_SPACE = "free some space: `%container prune` removes what nothing uses"

ERRNO_ADVICE = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files (ulimit -n)",
    errno.ENOMEM: "free some memory",
    errno.EROFS: "set NBCONTAINER_HOME to a directory on a writable file system",
}
"""By errno: the one thing to do, whatever failed. The store and the steps of a plan add their own."""


class NbcontainerError(Exception):
    """Base of all errors that this package raises on purpose.

    `hint` is the one thing to do, without a full stop. It follows the message after a semicolon.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(visible(f"{message}; {hint}" if hint else message))
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the attributes: `Exception` would call the class with the message alone, which fails for some.

        An error that cannot be unpickled makes `multiprocessing.Pool` wait forever.
        """
        return _restore, (type(self), self.args, dict(vars(self)))

    def _render_traceback_(self) -> list[str]:
        """Return one line for IPython to print instead of a traceback (IPython.core.interactiveshell.showtraceback)."""
        return [f"{type(self).__name__}: {self}"]


def _restore(kind: type[NbcontainerError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> NbcontainerError:
    """Return the error that was pickled."""
    error = kind.__new__(kind, *arguments)
    vars(error).update(attributes)
    return error


class UsageError(NbcontainerError):
    """A command, an option or a reference is wrong."""


class LinkRefused(NbcontainerError):
    """A path on the host leads through a symbolic link that a container could have made."""


class DirectoryRefused(NbcontainerError):
    """Containers do not see the notebook's directory, unless a volume names it."""

    @property
    def notice(self) -> str:
        """The reason and the way out in one line, for a container that starts without the directory."""
        return f"{self.message}: {self.hint}"


class StoreError(NbcontainerError):
    """The store cannot be opened, read or written."""


class ImageError(NbcontainerError):
    """An image cannot be read or written."""


class ImageNotFound(ImageError):
    """The store has no image of that name, and none can be made."""


class RegistryError(ImageError):
    """A registry cannot be reached, refuses a request, or violates the protocol."""


class HostileArchive(ImageError):
    """An archive violates its format, tries to leave its root, exceeds a limit, or is cut off."""


class SandboxError(NbcontainerError):
    """This machine cannot set up a container."""


class LauncherError(SandboxError):
    """The launcher cannot start, or has ended."""


class ContainerLost(LauncherError):
    """A container was killed before its cell began, alone or with its launcher. Nothing of the cell has run."""


class LimitUnavailable(SandboxError):
    """A limit cannot be enforced here, so the cell did not start."""


class NetworkUnavailable(SandboxError):
    """A network, or a port of this machine for it, is not available here, so the cell did not start."""


class SetupFailed(SandboxError):
    """One step of a container's plan failed.

    `step` is the step's name, `errno` the kernel's error (0 if there is none), `path` the path that it concerns.
    """

    def __init__(self, message: str, *, step: str, errno: int = 0, path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno
        self.path = path


class ContainerError(NbcontainerError):
    """An operation on a container failed."""


class ContainerNotFound(ContainerError):
    """The store has no container of that name."""


class ContainerExists(ContainerError):
    """A container of that name exists already."""


class ContainerBusy(ContainerError):
    """The container runs, here or in another notebook."""


class ContainerIncomplete(ContainerError):
    """Changes of a cell in the container did not fit on the disk and are lost."""


class ContainerDamaged(ContainerError):
    """What is written down of the container cannot be read."""


class VolumeError(NbcontainerError):
    """A volume of the store cannot be used."""


class VolumeNotFound(VolumeError):
    """The store has no volume of that name."""


class VolumeBusy(VolumeError):
    """A cell uses the volume, here or in another notebook."""


class ValueUnavailable(NbcontainerError):
    """A value cannot be read from a cell's `/out`, or written to its `/in`."""


class CellFailed(NbcontainerError):
    """The cell ran and ended badly. `outcome` says how."""

    outcome: Outcome

    def __init__(self, message: str, *, outcome: Outcome, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.outcome = outcome
