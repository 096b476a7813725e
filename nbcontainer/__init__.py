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

From an event loop, `run_async` does the same, and `stream` iterates over the output while it comes:

>>> for event in nbcontainer.stream("busybox", script="echo first; echo second >&2"):
...     print(event.stream, event.text, end="")
stdout first
stderr second

A named container keeps its files from run to run, and becomes an image:

>>> box = nbcontainer.create("busybox", "box")
>>> result = nbcontainer.run(name="box", script="echo kept > /srv/file")
>>> image = nbcontainer.commit(box, "kept")
>>> nbcontainer.run("kept", ["cat", "/srv/file"]).text
'kept\\n'
>>> nbcontainer.get("box").remove()

`map` runs one command, or one function, over many inputs, on this machine or on a cluster (docs/map.md):

>>> [result.text for result in nbcontainer.map("busybox", ["wc", "-c"], ["one", "three"])]
['3\\n', '5\\n']

Every error that this package raises on purpose is an `NbcontainerError` with a `message` and a `hint`.
"""

from __future__ import annotations

from nbcontainer._version import __version__

TYPE_CHECKING = False  # without an import of typing: an interrupt of the program while it starts would be in that
if TYPE_CHECKING:
    from typing import Any

    from IPython.core.interactiveshell import InteractiveShell

    from nbcontainer.api import commit, create, get, list_containers, run, run_async, stream
    from nbcontainer.errors import (
        CellFailed,
        ChangesRefused,
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
        LaboratoryError,
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
        WorkerError,
        WorkerLost,
    )
    from nbcontainer.mapping.calling import map  # noqa: A004 - as in concurrent.futures
    from nbcontainer.mapping.health import doctor
    from nbcontainer.mapping.mapped import Mapped
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.runs.output_events import OutputEvent
    from nbcontainer.runs.output_stream import OutputStream
    from nbcontainer.runs.public_container import Container
    from nbcontainer.runs.results import Result
    from nbcontainer.runs.store_images import find_image, list_images, load, pull, remove_image, save

__all__ = [
    "CellFailed",
    "ChangesRefused",
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
    "LaboratoryError",
    "LauncherError",
    "LimitUnavailable",
    "LinkRefused",
    "Mapped",
    "NbcontainerError",
    "NetworkUnavailable",
    "Outcome",
    "OutputEvent",
    "OutputStream",
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
    "WorkerError",
    "WorkerLost",
    "__version__",
    "commit",
    "create",
    "doctor",
    "find_image",
    "get",
    "list_containers",
    "list_images",
    "load",
    "map",
    "pull",
    "remove_image",
    "run",
    "run_async",
    "save",
    "stream",
]

_MODULES = {
    "Container": "runs.public_container",
    "Image": "oci.documents",
    "Mapped": "mapping.mapped",
    "Outcome": "outcome",
    "OutputEvent": "runs.output_events",
    "OutputStream": "runs.output_stream",
    "Result": "runs.results",
    "commit": "api",
    "create": "api",
    "doctor": "mapping.health",
    "find_image": "runs.store_images",
    "get": "api",
    "list_containers": "api",
    "list_images": "runs.store_images",
    "load": "runs.store_images",
    "map": "mapping.calling",
    "pull": "runs.store_images",
    "remove_image": "runs.store_images",
    "run": "api",
    "run_async": "api",
    "save": "runs.store_images",
    "stream": "api",
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
    """List the public names, imported or not, and those of the language: what completion shows."""
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Load the magics (`%load_ext nbcontainer`)."""
    from nbcontainer.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics (`%unload_ext nbcontainer`)."""
    from nbcontainer.notebook.extension import unload

    unload(shell)
