"""One file out of a container, or into it: in a sandbox whose root is the container's tree."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING

from nbcontainer.containers.record import CellRecord
from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import UsageError, ValueUnavailable
from nbcontainer.images import sandboxed, trash
from nbcontainer.oci import timestamps
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox import sandboxed_call

if TYPE_CHECKING:
    from nbcontainer.containers.container import Container

LIMIT = 1 << 30
"""Bytes of a file that is copied out: it is in memory."""


def read_file(container: Container, path: str) -> bytes:
    """Return the bytes of a regular file at the absolute `path` in a container. Links stay inside the container.

    Raises `ValueUnavailable` if there is none, or if it has more than `LIMIT` bytes.
    """
    _check(path)
    with tempfile.TemporaryFile() as file:
        files, missing = container.workspace.on_layers(
            sandboxed.copy_files, container.lowers, [file.fileno()], paths=[path], limit=LIMIT
        )
        if missing or [name for name, _ in files] != [path]:
            hint = "check the path: it must be a regular file"
            raise ValueUnavailable(f"container '{container.name}' has no file {path}", hint=hint)
        file.seek(0)
        return file.read()


def write_file(container: Container, path: str, source: int, mode: int) -> None:
    """Write what the descriptor `source` reads to the absolute `path` in a container, as a change like a cell's.

    Directories on the way are made. A file there is replaced; a link with that name is, too, and not followed. The
    file belongs to root in the container. Raises `ContainerBusy`, `ValueUnavailable`, `StoreError`, `SandboxError`.
    """
    _check(path)
    workspace, store = container.workspace, container.workspace.store
    with container.use():
        lowers = container.lowers
        upper = WriteLayer(store, workspace, lowers, view(store, workspace.launcher, lowers))
        upper.make()
        try:
            sandboxed_call.call(
                workspace.launcher, sandboxed.write_file, upper.root, [source], path=path, mode=mode & 0o777
            )
            with store.lock(shared=True):
                layer = upper.keep(workspace)
                now = timestamps.timestamp(time.time())
                try:
                    container.add_cell(CellRecord(layer, f"put {path}", now, Outcome(Reason.EXITED, 0)))
                except BaseException:
                    workspace.discard_later([store.path / "layers" / layer])
                    raise
        finally:
            if not upper.remove():
                trash.discard(store, workspace, upper.left)


def _check(path: str) -> None:
    parts = path.split("/")
    if not path.startswith("/") or "\0" in path or parts[-1] in ("", ".", "..") or ".." in parts:
        raise UsageError(f"invalid path in the container: {path!r}", hint="write an absolute path, as in /srv/file")


def copy_of(data: bytes) -> int:
    """Return a descriptor of a temporary file with these bytes, at its beginning; the caller closes it."""
    fd = os.memfd_create("put", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
