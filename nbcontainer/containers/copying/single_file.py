"""One file out of a container, or into it: by a process whose root is the container's tree."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, UsageError, ValueUnavailable
from nbcontainer.images import sandboxed
from nbcontainer.store.errors import path_advice

if TYPE_CHECKING:
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.copying.trees import Caller

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


def write_file(caller: Caller, path: str, source: int, mode: int, own: str = "") -> None:
    """Write what the descriptor `source` reads to the absolute `path` in a container, whole or not at all.

    `caller` calls a function on the container's side (`nbcontainer.containers.copying.trees`). Directories on the way
    are made. A file there is replaced; a link with that name is, too, and not followed. The file belongs to the user
    of that side: root, or the user of the running container. `own` is the source's name, for a directory at the path,
    or a path that ends with a slash. Raises `ValueUnavailable`, `ImageError`, and as `caller`.
    """
    _check(f"{path}{own}" if path.endswith("/") else path)
    try:
        caller(sandboxed.write_file, [source], path=path, mode=mode & 0o777, own=own)
    except OSError as error:
        problem = f"cannot write {path} in the container: {error.strerror or error}"
        raise ImageError(problem, hint=path_advice(error)) from error


def _check(path: str) -> None:
    parts = path.split("/")
    if not path.startswith("/") or "\0" in path or parts[-1] in ("", ".", "..") or ".." in parts:
        hint = (
            "name a file in it, as in /srv/file" if path.startswith("/") else "write an absolute path, as in /srv/file"
        )
        raise UsageError(f"invalid path in the container: {path!r}", hint=hint)


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
