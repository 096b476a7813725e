r"""Results of cached cells in a file: `cache export` and `cache import`.

The file is a line with the version, then for each result a line of JSON, the result, and the tar of its layer.
It has no path, and an import is untrusted input: each size is compared with the file before it is read, each result is
parsed as one of the store is, layers are unpacked in a sandbox, and all or nothing is added.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ContainerError
from nbcontainer.images import sandboxed
from nbcontainer.images.staging import Staging
from nbcontainer.store import user_files, writable
from nbcontainer.store.cache_entries import HEAD_LIMIT, OUTPUT_LIMIT, VERSION, BadEntry, Cache, Entry, parse
from nbcontainer.store.errors import store_error
from nbcontainer.store.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.images.staging import StagedTree

_MAGIC = "nbcontainer cache "
_LINE = 4096
_CHUNK = 1 << 20
_AGAIN = "export it again with `%container cache export FILE`"


@dataclass(frozen=True)
class Transferred:
    """How many results were written or added, and how many of these have values in their keys."""

    count: int
    with_values: int


def export_results(workspace: Workspace, target: Path) -> Transferred:
    """Write all whole results and their layers to the host file `target`. Raises `ImageError`, `StoreError`.

    Values are not in the file, and neither is the key of their hash: such results are hits only in this store.
    """
    cache = Cache(workspace.store.path)
    count = with_values = 0
    with replacing(workspace.store, target) as fd, _errors(workspace, f"export to {target}"):
        _write(fd, f"{_MAGIC}{VERSION}\n".encode())
        for _, entry in cache.entries():
            if isinstance(entry, Entry) and entry.is_there and _export(workspace, fd, entry):
                count += 1
                with_values += bool(entry.names)
    return Transferred(count, with_values)


def _export(workspace: Workspace, fd: int, entry: Entry) -> bool:
    """Write one result; return False if its layer has been removed."""
    store = workspace.store
    data = replace(entry, layer="", boot="").to_bytes()
    with contextlib.ExitStack() as stack:
        head: dict[str, Any] = {"key": entry.key, "size": len(data), "layer": None}
        packed = -1
        if entry.layer:
            stack.enter_context(store.lock(shared=True))
            if not (store.path / "layers" / entry.layer / "diff").exists():
                return False
            _, packed = stack.enter_context(store.incoming())
            place = f"layers/{entry.layer}/diff"
            found = workspace.on_directory(sandboxed.pack_layer, place, [packed], read_only=True, clamp=None)
            head["layer"] = {"diff_id": found["diff_id"], "size": os.fstat(packed).st_size}
        _write(fd, json.dumps(head).encode() + b"\n" + data)
        if entry.layer:
            os.lseek(packed, 0, os.SEEK_SET)
            while chunk := os.read(packed, _CHUNK):
                _write(fd, chunk)
    return True


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def _errors(workspace: Workspace, do: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(do, workspace.store.path, error) from error


def import_results(workspace: Workspace, path: Path) -> Transferred:
    """Add the results of an exported file (host) that the store lacks, all or none.

    Raises `ContainerError` for a file that is damaged, or that another version wrote, `ImageError` for a layer that
    cannot be unpacked, `StoreError`, `LinkRefused`.
    """
    with _errors(workspace, f"import {path}"), contextlib.ExitStack() as stack:
        fd = stack.enter_context(_opened(workspace, path))
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise _bad(path, "it is not a regular file")
        file = stack.enter_context(_Reader(fd, path, facts.st_size))
        file.check_version()
        staged = list(_staged(workspace, file, stack))
        with workspace.store.lock():
            added = [entry for entry, tree in staged if _add(workspace, entry, tree)]
        return Transferred(len(added), sum(bool(entry.names) for entry in added))


@contextlib.contextmanager
def _opened(workspace: Workspace, path: Path) -> Iterator[int]:
    """Yield a descriptor of a file of the user's, closed at the end. Raises `ContainerError`, `LinkRefused`."""
    try:
        fd, links = user_files.open_file(path)
    except OSError as error:
        hint = "name a file that `%container cache export FILE` wrote"
        raise ContainerError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    try:
        writable.check(workspace.store, links)
        yield fd
    finally:
        os.close(fd)


def _bad(path: Path, detail: str) -> ContainerError:
    return ContainerError(f"cannot import {path}: {detail}", hint=_AGAIN)


class _Reader:
    """Reads an exported file that is open at `fd` and has `size` bytes. A context manager."""

    def __init__(self, fd: int, path: Path, size: int) -> None:
        self._file = os.fdopen(os.dup(fd), "rb")
        self._path = path
        self._left = size

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def bad(self, detail: str) -> ContainerError:
        """Return the error for what is wrong with the file."""
        return _bad(self._path, detail)

    def line(self) -> bytes:
        """Return the next line, empty at the end. Raises `ContainerError`."""
        found = self._file.readline(_LINE)
        self._left -= len(found)
        if found and not found.endswith(b"\n"):
            raise self.bad("it is damaged")
        return found

    def check_version(self) -> None:
        """Read the first line. Raises `ContainerError` if another version, or another program, wrote the file."""
        first = self._file.readline(_LINE).decode("utf-8", "replace")
        self._left -= len(first.encode())
        if not first.startswith(_MAGIC):
            raise self.bad("it is not an exported cache")
        found = first.removeprefix(_MAGIC).strip()
        if found != str(VERSION):
            raise self.bad(f"another version of nbcontainer wrote it ({found[:20]!r}, not {VERSION})")

    def check_size(self, size: Any, most: int) -> int:
        """Return a size that the file names. Raises `ContainerError` if it is not one, or if the file is smaller."""
        if type(size) is not int or not 0 <= size <= most:
            raise self.bad("a size in it is wrong")
        if size > self._left:
            raise self.bad("it is cut off")
        return size

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes. Raises `ContainerError` if the file has become shorter."""
        while size:
            data = self._file.read(min(size, _CHUNK))
            if not data:
                raise self.bad("it is cut off")
            size -= len(data)
            self._left -= len(data)
            yield data


def _staged(
    workspace: Workspace, file: _Reader, stack: contextlib.ExitStack
) -> Iterator[tuple[Entry, StagedTree | None]]:
    """Yield each result with its unpacked layer, which is in `tmp` until `stack` ends."""
    while line := file.line():
        try:
            head = json.loads(line)
            key, size, layer = head["key"], head["size"], head["layer"]
            diff_id, layer_size = (None, 0) if layer is None else (layer["diff_id"], layer["size"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise file.bad("it is damaged") from error
        data = b"".join(file.chunks(file.check_size(size, HEAD_LIMIT + OUTPUT_LIMIT)))
        try:
            entry = parse(key if isinstance(key, str) else "", data)
        except BadEntry as error:
            raise file.bad(str(error)) from error
        tree = None
        if layer is not None:
            tree = stack.enter_context(_unpacked(workspace, file, file.check_size(layer_size, 1 << 62), diff_id))
        yield replace(entry, layer="", imported=True), tree


@contextlib.contextmanager
def _unpacked(workspace: Workspace, file: _Reader, size: int, diff_id: Any) -> Iterator[StagedTree]:
    with workspace.store.incoming() as (_, fd):
        for chunk in file.chunks(size):
            _write(fd, chunk)
        os.lseek(fd, 0, os.SEEK_SET)
        staging = Staging(workspace.store, workspace)
        with staging.unpacked([fd], whiteouts=True) as tree:
            if tree.diff_id != diff_id or tree.blob.digest != diff_id:
                raise file.bad("a layer in it is not the one of its digest")
            yield tree


def _add(workspace: Workspace, entry: Entry, tree: StagedTree | None) -> bool:
    """Add a result with its layer, unless the store has one with its key. The store is locked."""
    store, cache = workspace.store, Cache(workspace.store.path)
    known = cache.read(entry.key)
    if known is not None and (not known.layer or (store.path / "layers" / known.layer / "diff").exists()):
        return False
    if tree is not None:
        entry = replace(entry, layer=store.unique())
        tree.tree.parent.rename(store.path / "layers" / entry.layer)
    cache.write(entry, store.path / "tmp" / store.unique())
    return True


def problems(workspace: Workspace, *, remove: bool) -> list[str]:
    """Return the problems of results, for `verify`; with `remove`, remove these results. Raises `StoreError`."""
    store, cache, found = workspace.store, Cache(workspace.store.path), []
    with _errors(workspace, "check the cache"), store.lock():
        for key, entry in cache.entries():
            problem = str(entry) if isinstance(entry, BadEntry) else ""
            if isinstance(entry, Entry) and entry.layer:
                problem = "" if (store.path / "layers" / entry.layer / "diff").exists() else "its layer is missing"
            if problem:
                found.append(f"cached result {key[:12]}: {problem}")
                if remove:
                    cache.remove(key)
    return found
