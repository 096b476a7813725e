"""Image sources: what registries, archives, layout directories and the store itself have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.errors import ImageError
from nbcontainer.oci.selection import Documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.store.layout import Store
    from nbcontainer.store.partial_blobs import Partial


class Source(Documents, Protocol):
    """Documents and blobs by digest. Thread-safe."""

    remote: bool
    """Whether fetching takes a network, so that fetched bytes are worth keeping for the next attempt."""

    def candidate(self, blob: Descriptor) -> int | None:
        """Return a descriptor of a private file that can become the blob, or None; the caller closes it."""
        ...

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """Append the missing bytes of a blob to `partial`. Raises `ImageError`, `Stopped`."""
        ...

    def abort(self) -> None:
        """End the calls of `fetch` in which other threads wait."""
        ...


@dataclass(frozen=True)
class Candidate:
    """An image, or the index of an image for several platforms, and the (familiar) names that the source gives it."""

    blob: Descriptor
    names: tuple[str, ...] = ()


class FileSource(Source, Protocol):
    """A source that a file or a directory holds, and that lists its images."""

    def candidates(self, stem: str, /) -> list[Candidate]:
        """Return the images; `stem` is the name of those that have only a tag. Raises `ImageError`."""
        ...


class StoreSource:
    """`Source` of a store's blobs, which are whole in `Partial` without being fetched."""

    remote = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        return self._store.blobs.read(blob.digest)

    def candidate(self, _: Descriptor) -> int | None:
        """See `Source`."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`: a blob that is missing or wrong cannot be fetched. Raises `ImageError`."""
        hint = "remove the image, then pull or load it again"
        raise ImageError(f"blob {blob.digest} is missing from the store", hint=hint)

    def abort(self) -> None:
        """See `Source`."""
