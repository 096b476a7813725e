"""A layout directory that images are written into.

It is used by descriptors: cells can have put links and pipes in it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError
from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
from nbcontainer.oci import untrusted_json
from nbcontainer.store import outputs, user_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nbcontainer.oci.descriptors import Descriptor

_INDEX, _VERSION = "index.json", "oci-layout"


@contextlib.contextmanager
def layout_at(folder: int, path: Path) -> Iterator[LayoutFolder]:
    """Yield the layout directory at the descriptor `folder`, which the caller closes; `path` is for messages."""
    layout = LayoutFolder(folder, path)
    try:
        yield layout
    finally:
        layout.close()


class LayoutFolder:
    """The layout. `blobs` and `blobs/sha256` must be directories; links are refused. A new file replaces an old one."""

    def __init__(self, folder: int, path: Path) -> None:
        self._top = folder
        self._path = path
        self._open: dict[str, int] = {}

    def close(self) -> None:
        """Close the descriptors of its subdirectories. Idempotent."""
        while self._open:
            os.close(self._open.popitem()[1])

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of its index.json; none if the directory is empty, or from a save that did not end.

        Raises `ImageError` if something else is in it.
        """
        with contextlib.closing(UntrustedDirectory(self._top)) as folder:
            begun = {_VERSION, "blobs"} if folder.has(_VERSION) else set()
            if folder.has_only(begun):
                return []
            try:
                data = folder.read(_INDEX, untrusted_json.LIMIT)
            except FileNotFoundError:
                hint = "name a new or an empty directory"
                raise ImageError(f"{self._path} is not an image layout", hint=hint) from None
        what = f"{self._path}/{_INDEX}"
        return untrusted_json.objects(untrusted_json.parse(data, what), "manifests", what)

    def has(self, blob: Descriptor) -> bool:
        """Whether it has a file with a blob's name and size."""
        algorithm, _, name = blob.digest.partition(":")
        try:
            facts = os.stat(name, dir_fd=self._blobs(algorithm), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(facts.st_mode) and facts.st_size == blob.size

    def put_blob(self, blob: Descriptor, chunks: Iterable[bytes]) -> None:
        """Write a blob. Raises `OSError`, and what `chunks` raises."""
        algorithm, _, name = blob.digest.partition(":")
        _put(self._blobs(algorithm), name, chunks)

    def begin(self, version: bytes) -> None:
        """Write the file oci-layout: by it, the next save recognizes a layout without an index.json.

        Raises `OSError`.
        """
        _put(self._top, _VERSION, [version])

    def finish(self, index: bytes) -> None:
        """Write index.json, the last file. Raises `OSError`."""
        _put(self._top, _INDEX, [index])

    def _blobs(self, algorithm: str) -> int:
        if "blobs" not in self._open:
            self._open["blobs"] = user_files.make_directory(self._top, "blobs")
        if algorithm not in self._open:
            self._open[algorithm] = user_files.make_directory(self._open["blobs"], algorithm)
        return self._open[algorithm]


def _put(folder: int, name: str, chunks: Iterable[bytes]) -> None:
    with outputs.put(folder, name) as fd, os.fdopen(fd, "wb", closefd=False) as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(fd)
