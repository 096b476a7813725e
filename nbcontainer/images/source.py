"""Where an image comes from, whichever form it has there, and the choice of one image among several platforms'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.oci.selection import Documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.oci.documents import Descriptor
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
class Offer:
    """An image, or the index of one for several platforms, that a source has under these (familiar) names."""

    blob: Descriptor
    names: tuple[str, ...] = ()
