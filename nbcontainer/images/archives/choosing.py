"""Which images of a file are taken, and under which names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, ImageNotFound
from nbcontainer.oci import platforms, selection
from nbcontainer.oci.documents import NotAnImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.sources import Candidate, Source
    from nbcontainer.oci.platforms import Platform


@dataclass(frozen=True)
class Choice:
    """The images to take, and a sentence about each that is left out."""

    candidates: tuple[Candidate, ...]
    notices: tuple[str, ...]


def choose(source: Source, candidates: Sequence[Candidate], platform: Platform | None) -> Choice:
    """Return the images of a file for `platform`, by default this machine's; a name belongs to one of them.

    Signatures, SBOMs and charts beside an image are left out, and so are images for other platforms if one is for this
    one. Raises `ImageError` if no image is left: the error of the first candidate.
    """
    images: list[tuple[Candidate, Platform]] = []
    left_out: dict[str, ImageError] = {}
    for one in candidates:
        try:
            images.append((one, selection.resolve(source, one.blob, platform).image.platform))
        except (NotAnImage, ImageNotFound) as error:
            left_out[_title(one)] = error
    if not images:
        raise next(iter(left_out.values()), ImageError("the file holds no image"))
    kept = _named_once(images, platform or platforms.host())
    notices = [f"{title} is left out: {error.message}" for title, error in left_out.items()]
    notices += [
        f"{_title(one)} for {place} is left out: another image of the file has its name"
        for one, place in images
        if not any(one.blob == other.blob for other in kept)
    ]
    return Choice(kept, tuple(notices))


def _named_once(images: Sequence[tuple[Candidate, Platform]], wanted: Platform) -> tuple[Candidate, ...]:
    """Return the images without the names that another one has; an image that had only such names is left out."""
    owners: dict[str, int] = {}
    for name in {name: None for one, _ in images for name in one.names}:
        claims = [number for number, (one, _) in enumerate(images) if name in one.names]
        owners[name] = claims[0] if len(claims) == 1 else _best(name, claims, images, wanted)
    found = []
    for number, (one, _) in enumerate(images):
        names = tuple(name for name in one.names if owners[name] == number)
        if names or not one.names:
            found.append(replace(one, names=names))
    return tuple(found)


def _best(name: str, claims: Sequence[int], images: Sequence[tuple[Candidate, Platform]], wanted: Platform) -> int:
    offered = [(images[number][1], number) for number in claims]
    number = platforms.choose(offered, wanted)
    if number is None:
        there = ", ".join(dict.fromkeys(str(place) for place, _ in offered))
        raise ImageNotFound(f"no image {name} for {wanted}", hint=f"choose one of these with --platform: {there}")
    return number


def _title(candidate: Candidate) -> str:
    return candidate.names[0] if candidate.names else f"{candidate.blob.digest[:19]}…"
