"""Containers as notebook cells, with no daemon.

In a notebook, load the magics, then run a cell in a container:

    %load_ext nbcontainer

    %%container busybox -v ~/data:/data:ro
    ls /data

From Python, `run` does the same. Each run has a fresh file system, and no network by default:

>>> import nbcontainer
>>> result = nbcontainer.run("busybox", ["echo", "hello"])
>>> result.text
'hello\\n'

A shell script instead of a command:

>>> nbcontainer.run("busybox", script="cd /etc; ls -d passwd").text
'passwd\\n'

A run that fails raises an error, which holds its outcome:

>>> try:
...     nbcontainer.run("busybox", script="exit 3")
... except nbcontainer.CellFailed as error:
...     print(error, error.outcome.exit_code)
exit code 3 3

A named container keeps its files from run to run, and becomes an image:

>>> box = nbcontainer.create("busybox", "box")
>>> result = nbcontainer.run(name="box", script="echo kept > /srv/file")
>>> image = nbcontainer.commit(box, "kept")
>>> nbcontainer.run("kept", ["cat", "/srv/file"]).text
'kept\\n'
>>> nbcontainer.get("box").remove()

Every error that this package raises on purpose is an `NbcontainerError` with a `message` and a `hint`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer._version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbcontainer.api import Result, commit, create, get, run
    from nbcontainer.containers.container import Container
    from nbcontainer.errors import (
        CellFailed,
        ContainerBusy,
        ContainerDamaged,
        ContainerError,
        ContainerExists,
        ContainerIncomplete,
        ContainerLost,
        ContainerNotFound,
        DirectoryRefused,
        HostileArchive,
        ImageError,
        ImageNotFound,
        LauncherError,
        LimitUnavailable,
        LinkRefused,
        NbcontainerError,
        NetworkUnavailable,
        RegistryError,
        SandboxError,
        SetupFailed,
        StoreError,
        UsageError,
        ValueUnavailable,
        VolumeBusy,
        VolumeError,
        VolumeNotFound,
    )
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome

__all__ = [
    "CellFailed",
    "Container",
    "ContainerBusy",
    "ContainerDamaged",
    "ContainerError",
    "ContainerExists",
    "ContainerIncomplete",
    "ContainerLost",
    "ContainerNotFound",
    "DirectoryRefused",
    "HostileArchive",
    "Image",
    "ImageError",
    "ImageNotFound",
    "LauncherError",
    "LimitUnavailable",
    "LinkRefused",
    "NbcontainerError",
    "NetworkUnavailable",
    "Outcome",
    "RegistryError",
    "Result",
    "SandboxError",
    "SetupFailed",
    "StoreError",
    "UsageError",
    "ValueUnavailable",
    "VolumeBusy",
    "VolumeError",
    "VolumeNotFound",
    "__version__",
    "commit",
    "create",
    "get",
    "run",
]

_MODULES = {
    "CellFailed": "errors",
    "Container": "containers.container",
    "Image": "oci.documents",
    "Outcome": "outcome",
    "Result": "api",
    "commit": "api",
    "create": "api",
    "get": "api",
    "run": "api",
}
"""The modules of the public names; those that are missing here are in `errors`."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the launcher imports this package and must stay small."""
    if name not in __all__:
        raise AttributeError(f"module 'nbcontainer' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"nbcontainer.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Load the magics (`%load_ext nbcontainer`)."""
    from nbcontainer.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics (`%unload_ext nbcontainer`)."""
    from nbcontainer.notebook.extension import unload

    unload(shell)
