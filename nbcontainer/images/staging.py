"""Archives unpacked inside a sandbox, into the store's `tmp`: layers that become the store's, and what is looked at."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.images.trash import discard
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store


@dataclass(frozen=True)
class StagedTree:
    """A tree at `tree` (host), the blob that it was in, and the digest of its uncompressed tar."""

    tree: Path
    blob: oci.Descriptor
    diff_id: str

    def adopt(self, store: Store) -> None:
        """Makes the tree a layer of the store, unless it has it. Call with the store's exclusive lock held."""
        if store.layer(self.diff_id) is None:
            layer = store.unique()
            self.tree.parent.rename(store.path / "layers" / layer)
            store.name_layer(layer, self.diff_id)


@contextlib.contextmanager
def staged(
    store: Store,
    runner: Runner,
    files: Sequence[int],
    *,
    whiteouts: bool,
    single_id: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[StagedTree]:
    """Unpacks the archive that files[0] reads, to its end, and writes its blob to files[1] where that is given.

    What nobody adopts is gone afterwards. Raises `ImageError`, `OSError`.
    """
    with scratch(store, runner) as tree:
        done = runner.on_directory(
            sandboxed.unpack_here,
            str(tree.relative_to(store.path)),
            files,
            progress=progress,
            single_id=runner.single_id if single_id is None else single_id,
            whiteouts=whiteouts,
        )
        blob = oci.Descriptor(done["media_type"], done["blob_digest"], done["blob_size"])
        yield StagedTree(tree, blob, done["diff_id"])


@contextlib.contextmanager
def scratch(store: Store, runner: Runner) -> Iterator[Path]:
    """An empty directory of the containers' root in `tmp`, in one of its own; gone afterwards, unless it was moved."""
    place = store.new_directory(store.path / "tmp" / store.unique(), give=False)
    try:
        yield store.new_directory(place / "diff")
    finally:
        if place.exists():
            discard(store, runner, [place])
