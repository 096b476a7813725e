"""What `get` and `put` of the Python API do: bytes, files and directories between this machine and a container."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nbcontainer.containers.copying import trees
from nbcontainer.containers.copying.single_file import LIMIT, copy_of, read_file, write_file
from nbcontainer.errors import ImageError, ImageNotFound, ValueUnavailable
from nbcontainer.images import sandboxed
from nbcontainer.images.single_files.receiving import TooLarge
from nbcontainer.oci.reference import host_path
from nbcontainer.runs import arguments
from nbcontainer.store.outputs import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.copying.trees import Caller
    from nbcontainer.store.layout import Store


def get(container: Container, path: str, target: str | None) -> bytes:
    """Return the content of a regular file; write it to `target` (host), too. A directory is only copied there.

    Raises `ValueUnavailable`, `UsageError`, `ImageError`.
    """
    store = container.workspace.store
    try:
        data = read_file(container, path)
    except ValueUnavailable:
        if target is None:
            raise
        trees.copy_out(trees.of_stopped(container), path, trees.HostPath.of(target), store)
        return b""
    if target is not None:
        _write(store, data, target, path)
    return data


def get_from_running(store: Store, caller: Caller, name: str, path: str, target: str | None) -> bytes:
    """Do what `get` does with the container `name` that runs: `caller` calls a function inside.

    The container may keep what it is given, so it is given a pipe, as by `cp`, and no file of the host. Raises as `get`
    and `caller`.
    """
    if caller(sandboxed.is_directory, [], path=trees.check(path)):
        if target is None:
            hint = "name a file, or give a target for the directory"
            raise ValueUnavailable(f"{path} in container '{name}' is a directory", hint=hint)
        trees.copy_out(caller, path, trees.HostPath.of(target), store)
        return b""
    place, what = store.path / "tmp" / store.unique(), f"{path} in container '{name}'"
    try:
        trees.copy_out(caller, path, trees.HostPath(place), store, follow=True, most=LIMIT)
        data = _content(place, what)
    except TooLarge:
        raise ValueUnavailable(f"{what} has more than {LIMIT >> 20} MiB", hint="use `cp` or a volume") from None
    finally:
        place.unlink(missing_ok=True)
    if target is not None:
        _write(store, data, target, path)
    return data


def _content(place: Path, what: str) -> bytes:
    """Return the content of a copy, which the copying has limited. Raises `ValueUnavailable` if that is not a file."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise ValueUnavailable(f"{what} is not a regular file", hint="check the path") from None
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _write(store: Store, data: bytes, target: str, path: str) -> None:
    """Write the content of the file `path` of a container to `target` (host), or into the directory that this is."""
    place = host_path(target)
    if target.endswith("/") or place.is_dir():
        place /= path.rstrip("/").rpartition("/")[2]
    with replacing(store, place) as fd, open(fd, "wb", closefd=False) as file:
        file.write(data)


def source_of(value: object) -> bytes | str:
    """Return the bytes, or the path on the host, that a Python caller puts into a container. Raises `TypeError`."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"source must be bytes or a path, not {type(value).__name__}")
    return arguments.path("source", value)


def put(store: Store, caller: Caller, source: bytes | str, path: str) -> None:
    """Write bytes, or a file or directory of the host by its path, to an absolute `path` in a container.

    `caller` calls a function on the container's side. Raises `ValueUnavailable`, `UsageError`, `ImageError`,
    `LinkRefused`, and as `caller`.
    """
    if isinstance(source, str) and os.path.isdir(host_path(source)):  # noqa: PTH112 - no errors
        trees.copy_in(caller, trees.HostPath.of(source), path, store)
        return
    name = host_path(source).name if isinstance(source, str) else ""
    fd, mode = _opened(store, source)
    try:
        write_file(caller, path, fd, mode, name)
    finally:
        os.close(fd)


def _opened(store: Store, source: bytes | str) -> tuple[int, int]:
    """Return a descriptor of bytes, or of a file of the host, and its mode. The caller closes it."""
    if isinstance(source, bytes):
        return copy_of(source), 0o644
    from nbcontainer.images.archives.loading import open_file

    try:
        fd = open_file(store, host_path(source))
    except ImageError as error:
        if isinstance(error, ImageNotFound) or getattr(error.__cause__, "errno", 0) == errno.ENAMETOOLONG:
            hint = "check the path; for a text, write put(text.encode(), path)"
            raise type(error)(error.message, hint=hint) from None
        raise
    return fd, os.fstat(fd).st_mode
