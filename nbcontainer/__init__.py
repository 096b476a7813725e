"""Containers as notebook cells, with no daemon: `%load_ext nbcontainer`, then `%%container busybox`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer._version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbcontainer.api import Result, commit, create, get, run
    from nbcontainer.containers.container import Container
    from nbcontainer.sandbox.outcome import Outcome

__all__ = ["Container", "Outcome", "Result", "__version__", "commit", "create", "get", "run"]

_WHERE = {
    "Container": "nbcontainer.containers.container",
    "Outcome": "nbcontainer.sandbox.outcome",
    "Result": "nbcontainer.api",
    "commit": "nbcontainer.api",
    "create": "nbcontainer.api",
    "get": "nbcontainer.api",
    "run": "nbcontainer.api",
}


def __getattr__(name: str) -> Any:
    """Loads the Python API when it is asked for: the launcher imports this package and must stay small."""
    if name not in _WHERE:
        raise AttributeError(f"module 'nbcontainer' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext nbcontainer`."""
    from nbcontainer.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext nbcontainer`."""
    from nbcontainer.notebook.extension import unload

    unload(shell)
