"""Which images of a file are taken, and under which names."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, ImageNotFound, UsageError
from nbcontainer.oci import platforms, reference, selection
from nbcontainer.oci.documents import NotAnImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.sources import Candidate, Source
    from nbcontainer.oci.platforms import Platform

_LISTED = 10  # images in a message


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
        raise next(
            iter(left_out.values()),
            ImageError("the file holds no image", hint="for a root file system, use `%container import FILE NAME`"),
        )
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


def selected(candidates: Sequence[Candidate], select: str, stem: str) -> Candidate:
    """Return the candidate with that name, tag or place (containers-transports(5)), under that name alone.

    Raises `ImageNotFound`.
    """
    place = select.removeprefix("@")
    if place != select and place.isascii() and place.isdecimal() and int(place[:6]) < len(candidates):
        return candidates[int(place[:6])]
    wanted = set()
    for text in (select, f"{stem}:{select}"):
        with contextlib.suppress(UsageError):
            wanted.add(reference.parse(text).familiar)
    for candidate in candidates:
        if names := tuple(name for name in candidate.names if name in wanted):
            return replace(candidate, names=names)
    tagged = [one for one in candidates if any(_tag(name) == select for name in one.names)]
    if len(tagged) == 1:
        return tagged[0]
    known = ", ".join(name for one in candidates[:_LISTED] for name in one.names) or "images without a name"
    raise ImageNotFound(f"the file has no image '{select}'", hint=f"it has {known}")


def _tag(name: str) -> str:
    try:
        return reference.parse(name).tag
    except UsageError:
        return ""
