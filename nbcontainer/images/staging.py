"""Archives that are unpacked inside a sandbox, into the store's `tmp`: layers to adopt, and files to look at."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.images.trash import discard
from nbcontainer.oci import descriptors
from nbcontainer.progress import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.progress import Listener
    from nbcontainer.store.layout import Store


@dataclass(frozen=True)
class StagedTree:
    """A tree at `tree` (host), the blob that it was in, and the digest of its uncompressed tar.

    `notes` are sentences about the archive for the user.
    """

    tree: Path
    blob: descriptors.Descriptor
    diff_id: str
    notes: tuple[str, ...] = ()

    def adopt(self, store: Store) -> None:
        """Make the tree a layer of the store, unless the store has it. Call with the store's exclusive lock held."""
        if store.layers.find(self.diff_id) is None:
            layer = store.unique()
            self.tree.parent.rename(store.path / "layers" / layer)
            store.layers.name(layer, self.diff_id)


@dataclass(frozen=True)
class Staging:
    """What every import shares: the `store`, the `runner` of sandboxed functions, and the `listener` for progress.

    Sentences about images that were taken with a tolerance are added to `notices`.
    """

    store: Store
    runner: Runner
    listener: Listener | None = None
    notices: list[str] = field(default_factory=list)

    def tracker(self, what: str, *, total: int = 0) -> Tracker:
        """Return a tracker of one piece of work, of `total` bytes if that is known, which reports to the listener."""
        return Tracker(what, self.listener, total=total)

    @contextlib.contextmanager
    def unpacked(
        self,
        files: Sequence[int],
        *,
        whiteouts: bool,
        single_id: bool | None = None,
        algorithm: str = "sha256",
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[StagedTree]:
        """Unpack the archive that files[0] reads, to its end, and write its blob to files[1] if that is given.

        `whiteouts`, `single_id` and `algorithm` are as for `nbcontainer.images.layers.unpack.unpack`; None is what the
        runner has.
        A tree that is not adopted is removed afterwards. Raises `ImageError`, `OSError`.
        """
        with self.scratch() as tree:
            fields = self.runner.on_directory(
                sandboxed.unpack,
                str(tree.relative_to(self.store.path)),
                files,
                progress=progress,
                single_id=self.runner.single_id if single_id is None else single_id,
                whiteouts=whiteouts,
                algorithm=algorithm,
            )
            blob = descriptors.Descriptor(fields["media_type"], fields["blob_digest"], fields["blob_size"])
            yield StagedTree(tree, blob, fields["diff_id"], tuple(fields["notes"]))

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty directory of the containers' root, in one of its own in `tmp`.

        Both are removed afterwards, unless they were moved. Raises `OSError`.
        """
        place = self.store.new_directory(self.store.path / "tmp" / self.store.unique(), give=False)
        try:
            yield self.store.new_directory(place / "diff")
        finally:
            if place.exists():
                discard(self.store, self.runner, [place])
