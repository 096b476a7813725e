"""Digests and descriptors of the OCI image specification, 1.1: what a blob is named and checked by."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from nbcontainer.errors import ImageError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ALGORITHMS = frozenset({"sha256", "sha512"})
_SIZE_MAX = 1 << 62


def canonical(document: Any) -> bytes:
    """Return the canonical JSON of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of bytes, `sha256:…`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def algorithm_of(digest: str) -> str:
    """Return the hash function of a (valid) digest: `sha256` or `sha512`."""
    return digest.partition(":")[0]


@dataclass(frozen=True)
class Descriptor:
    """The media type, digest and size (bytes) of a blob."""

    media_type: str
    digest: str
    size: int

    def as_json(self) -> dict[str, Any]:
        """Return the descriptor as the specification writes it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    def check(self, data: bytes) -> bytes:
        """Return `data` if it has this size and digest. Raises `ImageError`."""
        if len(data) != self.size:
            raise ImageError(f"blob {self.digest} has {len(data)} bytes instead of the expected {self.size}")
        found = digest_of(data, algorithm_of(self.digest))
        if found != self.digest:
            raise ImageError(f"blob {self.digest} has the digest {found}")
        return data


def descriptor(document: Any) -> Descriptor:
    """Return the descriptor in a JSON document. Raises `ImageError`."""
    try:
        media_type, digest, size = document["mediaType"], document["digest"], document["size"]
    except (KeyError, TypeError):
        raise ImageError("invalid descriptor: expected media type, digest and size") from None
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise ImageError("invalid descriptor: expected media type, digest and size")
    if not 0 <= size < _SIZE_MAX:
        raise ImageError(f"invalid descriptor of {digest[:80]}: its size is {size} bytes")
    return Descriptor(media_type, check_digest(digest), size)


def check_digest(text: str) -> str:
    """Return `text` if it is a digest of an algorithm that the specification registers. Raises `ImageError`."""
    if not _DIGEST.fullmatch(text):
        algorithm, colon, _ = text.partition(":")
        if colon and algorithm.isalnum() and algorithm not in _ALGORITHMS:
            hint = "build or copy the image with sha256 digests"
            raise ImageError(f"unsupported algorithm of the digest {text[:80]!r}: only sha256 and sha512", hint=hint)
        raise ImageError(f"invalid {_kind(text)} digest {text[:80]!r}")
    return text


def _kind(digest: str) -> str:
    return "sha512" if digest.startswith("sha512:") else "sha256"


def check_diff_id(text: str) -> str:
    """Return `text` if it is the digest of a layer's uncompressed tar. Raises `ImageError`."""
    if not _DIGEST.fullmatch(text):
        raise ImageError(f"invalid {_kind(text)} digest {text[:80]!r} of a layer's uncompressed tar")
    return text
