"""The compressed forms of the store's plain layers, so that no push compresses a layer that the registry has.

    layers/ID/sent.gzip, sent.zstd     size and digest of the blob that a layer became in an earlier push

The blob itself is not kept. The file goes with the layer. It is a note of this program, beside `diff` and out of the
reach of containers; a note that cannot be read is ignored.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from nbcontainer.errors import StoreError
from nbcontainer.images.layers.unpack import media_type
from nbcontainer.oci.descriptors import Descriptor

if TYPE_CHECKING:
    from nbcontainer.images.layers.compression import Compression
    from nbcontainer.store.layout import Store

_NOTE = re.compile(r"([0-9]{1,18}) (sha256:[0-9a-f]{64})")


def recall(store: Store, diff_id: str, compression: Compression) -> Descriptor | None:
    """Return the blob that the layer with that content was in an earlier push, None if there was none."""
    place = _note(store, diff_id, compression)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if place is not None and (found := _NOTE.fullmatch((store.path / place).read_text())):
            return Descriptor(media_type(compression), found[2], int(found[1]))
    return None


def remember(store: Store, diff_id: str, compression: Compression, blob: Descriptor) -> None:
    """Note the blob that a layer is now. A store that takes no note stays as it is."""
    place = _note(store, diff_id, compression)
    with contextlib.suppress(OSError, StoreError):
        if place is not None:
            store.write_file(place, f"{blob.size} {blob.digest}".encode())


def _note(store: Store, diff_id: str, compression: Compression) -> str | None:
    """Return the path of a layer's note in the store, None if the store lacks the layer."""
    layer = store.layers.find(diff_id)
    return None if layer is None else f"layers/{layer}/sent.{compression}"
