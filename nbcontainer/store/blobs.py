"""The blobs of the store: content by digest, in `blobs/sha256` and `blobs/sha512`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.oci import descriptors
from nbcontainer.store.atomic_files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_DOCUMENT_LIMIT = 8 << 20  # bytes


class Blobs:
    """The blobs below `folder` (host). Thread-safe.

    Guarantees: a blob is there whole or not at all, and never changes. To add one that is there already changes
    nothing. The file of a blob can be damaged, though: `read` and `nbcontainer.images.verify` compare its digest.
    Also implements `nbcontainer.oci.selection.Documents`.
    """

    def __init__(self, folder: Path, write_file: Callable[[str, bytes], None]) -> None:
        """`write_file(name, data)` replaces a file of the store, by its path in the store, and syncs it."""
        self._folder = folder
        self._write_file = write_file

    def path(self, digest: str) -> Path:
        """Return the host path of a blob, whether it is there or not."""
        return self._folder / digest.replace(":", "/", 1)

    def read(self, digest: str, limit: int = _DOCUMENT_LIMIT) -> bytes:
        """Return a document of at most `limit` bytes, compared with its digest. Raises `ImageError`."""
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise ImageError(f"blob {digest} is missing from the store", hint="pull or load the image again") from None
        if len(data) > limit or descriptors.digest_of(data, descriptors.algorithm_of(digest)) != digest:
            hint = "remove the image, then pull or load it again"
            raise ImageError(f"blob {digest} in the store is damaged", hint=hint)
        return data

    def document(self, blob: descriptors.Descriptor) -> bytes:
        """See `nbcontainer.oci.selection.Documents`."""
        return self.read(blob.digest)

    def digests(self) -> list[str]:
        """Return the digests of all blobs. Raises `OSError`."""
        found = [folder for folder in self._folder.iterdir() if folder.is_dir()]
        return [f"{folder.name}:{path.name}" for folder in found for path in folder.iterdir()]

    def write(self, data: bytes, algorithm: str = "sha256") -> str:
        """Add a document and return its digest. Raises `StoreError`."""
        digest = descriptors.digest_of(data, algorithm)
        if not self.path(digest).exists():
            self.path(digest).parent.mkdir(mode=0o755, exist_ok=True)
            self._write_file(f"blobs/{digest.replace(':', '/', 1)}", data)
        return digest

    def adopt(self, path: Path, digest: str) -> None:
        """Move a complete file of the store to its place among the blobs. See `adopt_all`."""
        self.adopt_all([(path, digest)])

    def adopt_all(self, files: Iterable[tuple[Path, str]]) -> None:
        """Move complete files of the store, each with its digest, to their places; sync each directory once.

        The caller has synced the files, or marked the digests (`nbcontainer.store.durability`). Raises `OSError`.
        """
        changed = set()
        for path, digest in files:
            target = self.path(digest)
            target.parent.mkdir(mode=0o755, exist_ok=True)
            path.replace(target)
            changed.add(target.parent)
        for folder in changed:
            sync_directory(folder)
