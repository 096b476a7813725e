"""The one tree of errors. Each says in one line what failed, where, why, and what to do next.

NbcontainerError
├── UsageError            the words of a command or of an option are wrong
├── LinkRefused           a host path leads through a link that a container could have made
├── StoreError            the store cannot be used (permissions, space, another version)
├── ImageError            an image cannot be found, read or written
│   ├── ImageNotFound
│   ├── RegistryError     a registry cannot be reached, refuses, or does not keep to the protocol
│   └── HostileArchive    an archive that breaks the rules, or is cut off
├── SandboxError          this machine cannot set a container up
│   ├── LauncherError     the fork server cannot start or has gone
│   │   └── ContainerLost it, or a container that waited, was killed before the cell began
│   ├── LimitUnavailable  a limit that was asked for cannot be enforced
│   ├── NetworkUnavailable  a network that was asked for cannot be made
│   └── SetupFailed       one step of the plan failed
├── ContainerError        a container cannot be handled
│   ├── ContainerNotFound
│   ├── ContainerExists
│   ├── ContainerBusy     it runs in another notebook
│   └── ContainerDamaged  what is written down of it cannot be read
└── CellFailed            the cell ran, and ended badly; carries its outcome
"""

from __future__ import annotations


def visible(text: str) -> str:
    """`text` with whatever is not just shown written out, as `\\x1b`: a terminal obeys what an image has in a name."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class NbcontainerError(Exception):
    """Base of everything this package raises on purpose.

    `hint` is the next step for a person, without a full stop; it follows the message after a semicolon.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(visible(f"{message}; {hint}" if hint else message))
        self.message = message
        self.hint = hint

    def _render_traceback_(self) -> list[str]:
        """One line where IPython would print a traceback (IPython.core.interactiveshell.showtraceback)."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(NbcontainerError):
    """The words of a command, an option or a reference are wrong."""


class LinkRefused(NbcontainerError):
    """A path on the host leads through a symbolic link that a container could have made."""


class StoreError(NbcontainerError):
    """The store cannot be opened, read or written."""


class ImageError(NbcontainerError):
    """An image cannot be read or written."""


class ImageNotFound(ImageError):
    """No image of that name is in the store or can be made."""


class RegistryError(ImageError):
    """A registry cannot be reached, refuses what was asked of it, or answers something else."""


class HostileArchive(ImageError):
    """An archive that breaks the format's rules, tries to leave its root, passes a limit, or is cut off."""


class SandboxError(NbcontainerError):
    """This machine cannot set a container up."""


class LauncherError(SandboxError):
    """The fork server cannot start, or has gone."""


class ContainerLost(LauncherError):
    """A container was killed before its cell began, alone or with its launcher: nothing of the cell has run."""


class LimitUnavailable(SandboxError):
    """A limit cannot be enforced here, so what it was for is not begun."""


class NetworkUnavailable(SandboxError):
    """A network, or a port of this machine's for it, cannot be had here, so what it was for is not begun."""


class SetupFailed(SandboxError):
    """One step of a container's plan failed.

    `step` is the step's name, `errno` the kernel's answer (0 where there is none), `path` what it was about.
    """

    def __init__(self, message: str, *, step: str, errno: int = 0, path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno
        self.path = path


class ContainerError(NbcontainerError):
    """A container cannot be handled."""


class ContainerNotFound(ContainerError):
    """No container of that name is in the store."""


class ContainerExists(ContainerError):
    """The name is taken."""


class ContainerBusy(ContainerError):
    """The container is running, here or in another notebook."""


class ContainerDamaged(ContainerError):
    """What is written down of the container cannot be read."""


class CellFailed(NbcontainerError):
    """The cell ran and ended badly; `outcome` says how (an `nbcontainer.sandbox.outcome.Outcome`)."""

    def __init__(self, message: str, *, outcome: object, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.outcome = outcome
