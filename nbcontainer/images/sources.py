"""Where an image comes from, whichever form it has there, and the choice of one image among several platforms'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.errors import ImageError
from nbcontainer.oci.selection import Documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.oci.documents import Descriptor
    from nbcontainer.store.layout import Store
    from nbcontainer.store.partial_blobs import Partial


class Source(Documents, Protocol):
    """Documents and blobs by digest. Thread-safe."""

    remote: bool
    """Whether its bytes come from far, so that they are worth keeping for a second try."""

    def candidate(self, blob: Descriptor) -> int | None:
        """A descriptor of a private file with a blob's bytes, to be taken over as it is; the caller closes it."""
        ...

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """Appends what is missing of a blob to `partial`. Raises `ImageError`, `Stopped`."""
        ...

    def abort(self) -> None:
        """Ends what other threads are waiting for in `fetch`."""
        ...


@dataclass(frozen=True)
class Candidate:
    """An image, or the index of one for several platforms, that a source has under these (familiar) names."""

    blob: Descriptor
    names: tuple[str, ...] = ()


class StoreSource:
    """`nbcontainer.images.sources.Source` of a store's blobs, which are whole in `Partial` without being fetched."""

    remote = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        return self._store.read_blob(blob.digest)

    def candidate(self, _: Descriptor) -> int | None:
        """See `Source`."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`: what is not there, or is wrong, cannot be had."""
        raise ImageError(f"the store has lost {blob.digest}", hint="remove the image and bring it in again")

    def abort(self) -> None:
        """See `Source`."""
