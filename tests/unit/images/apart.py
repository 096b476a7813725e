"""A runner without a sandbox, each piece of work in a process of its own: for work that goes on in several threads."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from nbcontainer import errors
from nbcontainer.errors import NbcontainerError
from tests.unit.images.in_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

# Its processes are forked from one that has no threads and has all loaded.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["nbcontainer.images.sandboxed", __name__])


class _File:
    """A descriptor that another process gets."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        return _detach, (reduction.DupFd(self.fd),)


def _detach(travelling: Any) -> _File:
    return _File(travelling.detach())


def _do(
    answer: Connection, module: str, function: str, root: str, files: list[_File], arguments: dict[str, Any]
) -> None:
    from nbcontainer.images import sandboxed

    sandboxed._root = lambda: os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    fds = [file.fd for file in files]
    try:
        done = getattr(importlib.import_module(module), function)(fds, lambda _: None, **arguments)
        answer.send(("result", done))
    except NbcontainerError as error:
        answer.send((type(error).__name__, error.message))
    except OSError as error:
        answer.send(("errno", error.errno))


class Apart:
    """`nbcontainer.images.runner.Runner` on the directories of `store`."""

    def __init__(self, store: Path) -> None:
        self.store = store

    @property
    def single_id(self) -> bool:
        """Owners are kept where root runs the tests."""
        return not ROOT

    def later(self, chore: Callable[[], object]) -> None:
        """Does it now."""
        chore()

    def on_directory(
        self,
        function: Callable[..., Any],
        path: str,
        files: Sequence[int] = (),
        *,
        read_only: bool = False,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Calls the function in another process, with the store's directory in place of the root."""
        receiving, sending = _PROCESSES.Pipe(duplex=False)
        words = (function.__module__, function.__name__, str(self.store / path), [_File(fd) for fd in files], arguments)
        process = _PROCESSES.Process(target=_do, args=(sending, *words))
        process.start()
        sending.close()
        kind, value = receiving.recv()
        process.join()
        process.close()
        receiving.close()
        if kind == "errno":
            raise OSError(value, os.strerror(value))
        if kind != "result":
            raise getattr(errors, kind)(value)
        return value

    def on_layers(
        self,
        function: Callable[..., Any],
        lowers: Sequence[str],
        files: Sequence[int] = (),
        *,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Nothing here mounts layers."""
        raise NotImplementedError
