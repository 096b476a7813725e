"""Several transfers at once into one store: none waits for another that waits for it."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import ImageError
from nbcontainer.images import sandboxed
from nbcontainer.images.ingest import Ingest
from nbcontainer.images.staging import Staging
from nbcontainer.oci import documents as oci
from nbcontainer.oci.descriptors import Descriptor
from nbcontainer.progress import Tracker
from nbcontainer.store.partial_blobs import Partial
from tests.unit.images.image_files import LayoutFiles, layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store

LAYERS = [layer(f"file{number}") for number in range(8)]
"""More than a transfer brings at once."""


class Unpacking:
    """A runner that reads a layer to its end, and makes no tree of it. Thread-safe."""

    single_id = False

    def later(self, task: Callable[[], object], /) -> None:
        """Does it now."""
        task()

    def on_directory(self, function: object, path: str, files: Sequence[int] = (), **_: Any) -> dict[str, Any]:
        """What `sandboxed.unpack` returns of a layer that is not compressed."""
        assert function is sandboxed.unpack
        assert path.startswith("tmp/")
        data = b""
        while more := os.read(files[0], 1 << 16):
            data += more
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        fields = {"media_type": oci.LAYER, "blob_digest": digest, "blob_size": len(data)}
        return {**fields, "diff_id": digest, "notes": []}

    def on_layers(self, *_: object, **__: object) -> None:
        """Is not asked for."""
        raise AssertionError


class Blobs:
    """A source whose blobs come once `gate` is open. The first answers of some blobs may be wrong."""

    remote = True

    def __init__(self, blobs: dict[str, bytes], gate: threading.Event) -> None:
        self.blobs = blobs
        self.gate = gate
        self.fetched: list[str] = []

    def document(self, blob: Descriptor) -> bytes:
        """At once."""
        return self.blobs[blob.digest]

    def candidate(self, _: Descriptor) -> int | None:
        """None."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """Once the gate is open."""
        self.fetched.append(blob.digest)
        assert self.gate.wait(60)
        partial.write(self.blobs[blob.digest][partial.have :])
        progress(partial.have)

    def abort(self) -> None:
        """Opens the gate."""
        self.gate.set()


class Waiting(Tracker):
    """A tracker that says when its work waits for another's blob."""

    def __init__(self, name: str, waits: threading.Event) -> None:
        super().__init__(name)
        self.waits = waits

    def pause(self, seconds: float) -> None:
        """Sets `waits`."""
        self.waits.set()
        super().pause(seconds)


def image_of(layers: Sequence[bytes]) -> tuple[Descriptor, dict[str, bytes]]:
    """An image with these layers: its manifest, and its blobs by digest."""
    files = LayoutFiles()
    made = files.image(*layers, compress=False)
    blobs = {f"sha256:{path.rpartition('/')[2]}": data for path, data in files.files.items() if "/" in path}
    return Descriptor(made["mediaType"], made["digest"], made["size"]), blobs


def ingest(store: Store, layers: Sequence[bytes], name: str, gate: threading.Event, waits: threading.Event) -> Image:
    """Transfers an image with these layers, in this thread."""
    blob, blobs = image_of(layers)
    with Waiting(name, waits) as tracker:
        return Ingest(Staging(store, Unpacking()), Blobs(blobs, gate), tracker).run(blob, (name,))


@pytest.mark.parametrize("order", [1, -1], ids=["the same order", "the other order"])
def test_transfers_of_the_same_layers_do_not_wait_for_each_other(store: Store, order: int) -> None:
    """Of two transfers at once, whatever the order of their layers, the second waits for the first, and both end."""
    gate, first_waits, second_waits = threading.Event(), threading.Event(), threading.Event()
    found: dict[str, Image] = {}

    def bring(name: str, layers: Sequence[bytes], waits: threading.Event) -> None:
        found[name] = ingest(store, layers, name, gate, waits)

    threads = [
        threading.Thread(target=bring, args=("first:1", LAYERS, first_waits), daemon=True),
        threading.Thread(target=bring, args=("second:1", LAYERS[::order], second_waits), daemon=True),
    ]
    for thread in threads:
        thread.start()
    while not first_waits.wait(0.05) and not second_waits.wait(0.05):
        pass
    gate.set()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == ["first:1", "second:1"]
    assert len(list((store.path / "layers").glob("*/diff"))) == len(LAYERS)
    assert list((store.path / "partial").iterdir()) == []


class Gone(Blobs):
    """A source that has no blob any more."""

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """Fails."""
        raise ImageError(f"no {blob.digest} any more")


def test_an_interrupt_of_the_end_unlocks_all_blobs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the removal of one layer is interrupted, the other blobs are unlocked: the next transfer does not wait."""
    closed: list[str] = []
    close = Partial.close

    def interrupted(partial: Partial, *, keep: bool) -> None:
        close(partial, keep=keep)
        closed.append(partial.blob.digest)
        if len(closed) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Partial, "close", interrupted)
    blob, blobs = image_of(LAYERS)
    with Tracker("gone:1") as tracker, pytest.raises(KeyboardInterrupt):
        Ingest(Staging(store, Unpacking()), Gone(blobs, threading.Event()), tracker).run(blob, ("gone:1",))
    assert len(set(closed)) == len(LAYERS)
