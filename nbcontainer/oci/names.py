"""Names in index.json: which names an image can have, and whether a digest that is stated for it is its own.

The digests of an image are its manifest's and that of the index it was chosen from. A name that states another digest,
or that reads like one, would run this image where the user asked for that digest.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError
from nbcontainer.oci import descriptors, reference
from nbcontainer.oci import documents as oci
from nbcontainer.oci.selection import NESTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OF_FILES = "file/"
"""The owner in the names of images that `nbcontainer.images.library` made from files, and finds by them."""

_OWN = frozenset({reference.HOST, "busybox"})
_HINT = "give the image another name: `%container import FILE NAME`, or nbcontainer.load(FILE, name=NAME)"
_CHOSEN_FROM = "org.nbcontainer.index"  # annotation: the digest of the index that a manifest was chosen from


def fault(name: str, manifest: str, index: str = "") -> str:
    """Return what is false about `name` as that of the image with these digests; empty if nothing is."""
    own = {manifest, index} - {""}
    _, pinned, digest = name.rpartition("@")
    if name in own:
        return ""
    if (pinned or reference.is_digest(name)) and digest not in own:
        return f"the name {name[:300]!r} states another digest than the image has, which is {manifest}"
    if reference.reads_like_a_digest(name):
        return f"the name {name[:300]!r} reads like a digest"
    return ""


def check(names: Iterable[str], manifest: str, index: str = "") -> None:
    """Raise `ImageError` if one of `names` is false about the image with these digests."""
    for name in names:
        if problem := fault(name, manifest, index):
            raise ImageError(problem, hint=_HINT)


def check_claims(names: Iterable[str]) -> None:
    """Raise `ImageError` if a file states a name for its image that only this program, or the user, gives."""
    for name in names:
        if name in _OWN or name.startswith(OF_FILES):
            raise ImageError(f"the file names an image {name!r}, which is a name of nbcontainer's own", hint=_HINT)


def entry_of(image: oci.Image, blob: descriptors.Descriptor, name: str) -> dict[str, Any]:
    """Return the entry of index.json for an image and its manifest `blob`."""
    annotations = {oci.REF_NAME: name, **({_CHOSEN_FROM: image.index} if image.index else {})}
    return {**blob.as_json(), "annotations": annotations}


def stated(entry: dict[str, Any]) -> str:
    """Return the name that an entry of index.json states, or its digest if it states none."""
    return _annotation(entry, oci.REF_NAME) or str(entry.get("digest"))


def stated_index(entry: dict[str, Any]) -> str:
    """Return the digest that an entry states as that of its index. Check it with `indexes`."""
    return _annotation(entry, _CHOSEN_FROM)


def _annotation(entry: dict[str, Any], key: str) -> str:
    annotations = entry.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def indexes(read: Callable[[str], bytes], index: str, manifest: str) -> tuple[str, ...]:
    """Return the digests of `index` and of the indexes inside it that are there, if they list `manifest`; else none.

    `read` returns a blob that it checked against its digest, and raises `ImageError`.
    """
    level, found, listed = {index} if reference.is_digest(index) else set(), [], False
    for _ in range(NESTING):
        below: set[str] = set()
        for digest in sorted(level):
            with contextlib.suppress(ImageError):  # not there, or no index
                entries = oci.read_index(read(digest))
                found.append(digest)
                listed = listed or any(entry.blob.digest == manifest for entry in entries)
                below |= {entry.blob.digest for entry in entries if entry.blob.media_type in oci.INDEXES}
        level = below.difference(found)
    return tuple(found) if listed else ()
