"""What `get` and `put` of the Python API do: bytes, files and directories between this machine and a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcontainer.containers.copying import trees
from nbcontainer.containers.copying.single_file import LIMIT, copy_of, read_file, write_file
from nbcontainer.errors import ValueUnavailable
from nbcontainer.images import sandboxed
from nbcontainer.oci.reference import host_path
from nbcontainer.store.outputs import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.copying.trees import Caller
    from nbcontainer.store.layout import Store


def get(container: Container, path: str, target: str | Path | None) -> bytes:
    """Return the content of a regular file; write it to `target` (host), too. A directory is only copied there.

    Raises `ValueUnavailable`, `UsageError`, `ImageError`.
    """
    store = container.workspace.store
    try:
        data = read_file(container, path)
    except ValueUnavailable:
        if target is None:
            raise
        trees.copy_out(trees.of_stopped(container), path, trees.HostPath.of(str(target)), store)
        return b""
    if target is not None:
        _write(store, data, target)
    return data


def get_from_running(store: Store, caller: Caller, name: str, path: str, target: str | Path | None) -> bytes:
    """Do what `get` does with the container `name` that runs: `caller` calls a function inside.

    The container may keep what it is given, so it is given a pipe, as by `cp`, and no file of the host. Raises as `get`
    and `caller`.
    """
    if caller(sandboxed.is_directory, [], path=trees.check(path)):
        if target is None:
            hint = "name a file, or give a target for the directory"
            raise ValueUnavailable(f"{path} in container '{name}' is a directory", hint=hint)
        trees.copy_out(caller, path, trees.HostPath.of(str(target)), store)
        return b""
    place = store.path / "tmp" / store.unique()
    try:
        trees.copy_out(caller, path, trees.HostPath(place), store, follow=True)
        data = _content(place, f"{path} in container '{name}'")
    finally:
        place.unlink(missing_ok=True)
    if target is not None:
        _write(store, data, target)
    return data


def _content(place: Path, what: str) -> bytes:
    """Return the content of a copy. Raises `ValueUnavailable` if it is not that of a file, or too large."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise ValueUnavailable(f"{what} is not a regular file", hint="check the path") from None
    with os.fdopen(fd, "rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise ValueUnavailable(f"{what} has more than {LIMIT >> 20} MiB", hint="give a target, or use a volume")
    return data


def _write(store: Store, data: bytes, target: str | Path) -> None:
    with replacing(store, host_path(str(target))) as fd, open(fd, "wb", closefd=False) as file:
        file.write(data)


def put(store: Store, caller: Caller, source: bytes | str | Path, path: str) -> None:
    """Write bytes, or a file or directory of the host by its path, to an absolute `path` in a container.

    `caller` calls a function on the container's side. Raises `ValueUnavailable`, `UsageError`, `ImageError`,
    `LinkRefused`, and as `caller`.
    """
    if not isinstance(source, bytes | bytearray) and os.path.isdir(host_path(str(source))):  # noqa: PTH112 - no errors
        trees.copy_in(caller, trees.HostPath.of(str(source)), path, store)
        return
    fd, mode = _opened(store, source)
    try:
        write_file(caller, path, fd, mode)
    finally:
        os.close(fd)


def _opened(store: Store, source: bytes | str | Path) -> tuple[int, int]:
    """Return a descriptor of bytes, or of a file of the host, and its mode. The caller closes it."""
    if isinstance(source, bytes | bytearray):
        return copy_of(bytes(source)), 0o644
    from nbcontainer.images.archives.loading import open_file

    fd = open_file(store, host_path(str(source)))
    return fd, os.fstat(fd).st_mode
