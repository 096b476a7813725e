"""OCI image layouts (image-spec, image-layout.md): a directory of the host, or one that an archive held."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.sources import Candidate
from nbcontainer.oci import descriptors, reference, selection, untrusted_json
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import IndexEntry
    from nbcontainer.store.partial_blobs import Partial

_MARK, _INDEX, _BLOBS = "oci-layout", "index.json", "blobs"
_FULL_NAME = "io.containerd.image.name"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_CHUNK = 1 << 20
_KINDS = 3  # media types in a message


def is_layout(folder: UntrustedDirectory) -> bool:
    """Whether the directory is an image layout; its mark can be missing if nothing else is beside the blobs."""
    return folder.has(_INDEX) and (
        folder.has(_MARK) or (folder.has_only({_INDEX, _BLOBS}) and _BLOBS in folder.folders())
    )


class OciLayout:
    """`nbcontainer.images.sources.FileSource` of a layout. With `private`, its files can become blobs of the store."""

    remote = False

    def __init__(self, folder: UntrustedDirectory, *, private: bool) -> None:
        """Check the layout's version. Raises `ImageError`."""
        self._folder = folder
        self._private = private
        self._documents: dict[str, bytes] = {}
        if folder.has(_MARK):
            _check_version(folder.read(_MARK, untrusted_json.LIMIT))

    def candidates(self, stem: str) -> list[Candidate]:
        """Return the images of the layout; `stem` is the name of those that have only a tag. Raises `ImageError`."""
        data = self._folder.read(_INDEX, untrusted_json.LIMIT)
        entries = oci.read_index(data)
        names: dict[Descriptor, list[str]] = {}
        images = [entry for entry in entries if entry.blob.media_type in oci.MANIFESTS | oci.INDEXES]
        for entry in images:
            names.setdefault(entry.blob, []).extend(_names(entry.annotations, stem))
        if entries and not images:
            kinds = ", ".join(sorted({repr(entry.blob.media_type[:80]) for entry in entries})[:_KINDS])
            hint = "save it again with a current tool" if "manifest.v1+" in kinds else "name a file with an image"
            raise ImageError(f"the file holds no image: its index has {kinds}", hint=hint)
        if len(names) > 1 and not any(names.values()) and _is_of_platforms(images):
            # One image for several platforms, whose index is index.json itself.
            whole = descriptors.Descriptor(oci.INDEX, descriptors.digest_of(data), len(data))
            self._documents[whole.digest] = data
            return [Candidate(whole)]
        return [Candidate(blob, tuple(dict.fromkeys(found))) for blob, found in names.items()]

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        if blob.digest in self._documents:
            return self._documents[blob.digest]
        try:
            return self._folder.read(_place(blob), untrusted_json.LIMIT)
        except FileNotFoundError:
            raise _missing(blob) from None

    def candidate(self, blob: Descriptor) -> int | None:
        """See `Source`."""
        return self._open(blob) if self._private else None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`."""
        fd = self._open(blob)
        try:
            copy(fd, partial, progress)
        finally:
            os.close(fd)

    def abort(self) -> None:
        """See `Source`: reading files does not wait."""

    def _open(self, blob: Descriptor) -> int:
        try:
            return self._folder.open_file(_place(blob))
        except FileNotFoundError:
            raise _missing(blob) from None


def _check_version(data: bytes) -> None:
    version = untrusted_json.parse(data, _MARK).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise ImageError(f"unsupported version {str(version)[:40]!r} of the image layout: expected 1")


def copy(fd: int, partial: Partial, progress: Callable[[int], None]) -> None:
    """Append the missing bytes from the file `fd`. Raises `WrongBytes` if it is too long, and `Stopped`, `OSError`."""
    while data := os.pread(fd, _CHUNK, partial.have):
        partial.write(data)
        progress(partial.have)


def _is_of_platforms(entries: list[IndexEntry]) -> bool:
    """Whether the entries are one image for several platforms: at least two have a platform, and no two the same."""
    stated = [entry.platform for entry in entries if entry.platform is not None and not selection.is_beside(entry)]
    return 1 < len(stated) == len(set(stated))


def _place(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/', 1)}"


def _missing(blob: Descriptor) -> ImageError:
    return ImageError(f"blob {blob.digest} is missing from the image's files", hint="save the image again")


def _names(annotations: dict[str, Any], stem: str) -> list[str]:
    """Return the familiar name in an entry's annotations; invalid names are left out.

    containerd's annotation has the full name. The specification's has a name with a colon or a slash, or only a tag.
    """
    for text in (annotations.get(_FULL_NAME, ""), annotations.get(oci.REF_NAME, "")):
        full = f"{stem}:{text}" if _TAG.fullmatch(text) else text
        if full:
            try:
                return [reference.parse(full).familiar]
            except UsageError:
                continue
    return []
