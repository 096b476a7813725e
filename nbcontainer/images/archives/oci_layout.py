"""Reads an OCI image layout (image-spec, image-layout.md): a directory of the host's, or one that an archive held."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.sources import Candidate
from nbcontainer.oci import documents as oci
from nbcontainer.oci import reference, untrusted_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
    from nbcontainer.oci.documents import Descriptor
    from nbcontainer.store.partial_blobs import Partial

_MARK, _INDEX = "oci-layout", "index.json"
_FULL_NAME = "io.containerd.image.name"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_CHUNK = 1 << 20


def is_layout(folder: UntrustedDirectory) -> bool:
    """Whether the directory is an image layout."""
    return folder.has(_MARK) and folder.has(_INDEX)


class OciLayout:
    """`nbcontainer.images.sources.Source` of a layout. `private` says that its files may be taken over as they are."""

    remote = False

    def __init__(self, folder: UntrustedDirectory, *, private: bool) -> None:
        """Looks at the layout's version. Raises `ImageError`."""
        self._folder = folder
        self._private = private
        self._documents: dict[str, bytes] = {}
        version = untrusted_json.parse(folder.read(_MARK, untrusted_json.LIMIT), _MARK).get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise ImageError(f"the image layout is of version {str(version)[:40]!r}, and only 1 is known here")

    def offers(self, stem: str) -> list[Candidate]:
        """The images in it; `stem` is the name of those that only have a tag. Raises `ImageError`."""
        data = self._folder.read(_INDEX, untrusted_json.LIMIT)
        entries = oci.read_index(data)
        names: dict[Descriptor, list[str]] = {}
        for entry in entries:
            if entry.blob.media_type in oci.MANIFESTS | oci.INDEXES:
                names.setdefault(entry.blob, []).extend(_names(entry.annotations, stem))
        if len(names) > 1 and not any(names.values()):
            # One image for several platforms, with nothing but index.json to say so.
            whole = oci.Descriptor(oci.INDEX, oci.digest_of(data), len(data))
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
        """See `Source`: files do not keep anybody waiting."""

    def _open(self, blob: Descriptor) -> int:
        try:
            return self._folder.open(_place(blob))
        except FileNotFoundError:
            raise _missing(blob) from None


def copy(fd: int, partial: Partial, progress: Callable[[int], None]) -> None:
    """Appends what is missing from the file `fd`. Raises `WrongBytes` where it is longer, `Stopped`, `OSError`."""
    while data := os.pread(fd, _CHUNK, partial.have):
        partial.write(data)
        progress(partial.have)


def _place(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/', 1)}"


def _missing(blob: Descriptor) -> ImageError:
    return ImageError(f"{blob.digest} is missing among the image's files", hint="fetch or save the image again")


def _names(annotations: dict[str, Any], stem: str) -> list[str]:
    """The familiar names that an entry's annotations give it; what is no name is left out.

    containerd's says it in full. The specification's is a name with a colon or a slash in it, or only a tag.
    """
    for word in (annotations.get(_FULL_NAME, ""), annotations.get(oci.REF_NAME, "")):
        full = f"{stem}:{word}" if _TAG.fullmatch(word) else word
        if full:
            try:
                return [reference.parse(full).familiar]
            except UsageError:
                continue
    return []
