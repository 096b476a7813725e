"""What a state has of copy-on-write volumes: their directories, and the layers with their changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class VolumeState:
    """One copy-on-write volume at `target` (container).

    `source` is the directory (host, absolute, without links) as the first cell found it: `device` and `inode` are its
    identity, and `born` is when it was made, 0 if that is not known. `began` is the time before that cell, in
    nanoseconds: what the host changed later is in conflict with the container's changes. `layers` have the changes that
    are not applied, from the bottom up.
    """

    target: str
    source: str
    device: int
    inode: int
    born: int
    began: int
    layers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_json(cls, values: Any) -> VolumeState:
        """Return the one of `to_json`. Raises `KeyError`, `TypeError`, `ValueError` for anything else."""
        found = cls(**{**values, "layers": tuple(values["layers"])})
        texts = (found.target, found.source, *found.layers)
        numbers = (found.device, found.inode, found.born, found.began)
        if {type(text) for text in texts} != {str} or {type(number) for number in numbers} != {int}:
            raise TypeError("a value of a volume has the wrong type")
        return found

    def is_same_directory(self, device: int, inode: int, born: int) -> bool:
        """Return whether a directory of the host is the one of the first cell. Device numbers change at a restart."""
        return inode == self.inode and (born == self.born if self.born and born else device == self.device)


def layers_of(volumes: Iterable[VolumeState]) -> dict[str, tuple[str, ...]]:
    """Return the layers of volumes with changes, by target."""
    return {volume.target: volume.layers for volume in volumes if volume.layers}
