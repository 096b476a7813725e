"""Names of images, in Docker's grammar: `[host[:port]/]path[:tag][@digest]` (distribution/reference, reference.go)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from nbcontainer.errors import UsageError

HUB = "docker.io"
"""The registry of names without a registry."""

HOST = "host"
"""The name of this machine as an image (`nbcontainer.images.builtin.host`): no other image can have it."""

_OFFICIAL = "library/"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHORT_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_ALGORITHM = re.compile(r"sha(?:256|384|512)(?::.*)?", re.DOTALL)
_HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})
_NAME_LIMIT = 255  # characters, as registries have it

_REGISTRY = "docker://"
_FILES = ("oci:", "oci-archive:", "docker-archive:")
_UNSUPPORTED = ("docker-daemon:", "containers-storage:")
"""The transports of containers/image (containers-transports(5)): of registries, of files, and others."""


@dataclass(frozen=True)
class Reference:
    """The full name of an image. `tag` is `latest` if neither tag nor digest was given."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The name without tag and digest: `docker.io/library/busybox`."""
        return f"{self.host}/{self.path}"

    @property
    def familiar(self) -> str:
        """The short form, which the store uses too: `busybox` for `docker.io/library/busybox:latest`."""
        name = self.path.removeprefix(_OFFICIAL) if self.host == HUB else self.name
        tag = "" if self.tag in ("", "latest") else f":{self.tag}"
        return f"{name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def canonical(self) -> str:
        """The complete name: `docker.io/library/busybox:latest`."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def at(self, digest: str) -> Reference:
        """Return this name, pinned to a digest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return self.familiar


def parse(text: str) -> Reference:
    """Return the reference that `text` writes; registry docker.io, owner library and tag latest are the defaults.

    The part before the first slash is a registry if it has a dot, a port or a capital, or is localhost. `docker://` may
    stand before the name. Raises `UsageError`.
    """
    found = _REFERENCE.fullmatch(text.removeprefix(_REGISTRY))
    if found is None or text.startswith(_UNSUPPORTED):
        raise UsageError(f"invalid image name {text[:300]!r}", hint=_advice(text))
    host, path = found["host"] or "", found["path"]
    if host and not _is_host(host):
        host, path = "", f"{host}/{path}"
    if host in ("", *_HUB_NAMES):
        host, path = HUB, path if "/" in path else f"{_OFFICIAL}{path}"
    if len(path) + len(host) > _NAME_LIMIT:
        raise UsageError(f"the image name {text[:40]!r}… is longer than {_NAME_LIMIT} characters", hint="shorten it")
    digest = found["digest"] or ""
    return Reference(host, path, found["tag"] or ("" if digest else "latest"), digest)


def parse_new(text: str) -> Reference:
    """Return the reference that `text` writes, as the name of a new image. Raises `UsageError`."""
    if text.startswith(_FILES):
        hint = "choose another name, or use `%container save IMAGE -o FILE` for a file"
        raise UsageError(f"invalid image name {text!r}: it is the path of a file", hint=hint)
    wanted = parse(text)
    if wanted.digest:
        raise UsageError(f"the name of a new image cannot have a digest: {text!r}", hint="leave out the @ part")
    if reads_like_a_digest(wanted.familiar):
        raise UsageError(f"the name {text!r} reads like a digest", hint="choose another name")
    if wanted.familiar == HOST:
        raise UsageError("'host' is built in and cannot name another image", hint="choose another name")
    return wanted


def is_digest(text: str) -> bool:
    """Whether `text` is a digest without a name: it means the image of the store with that digest."""
    return _DIGEST.fullmatch(text) is not None


def is_short_digest(text: str) -> bool:
    """Whether `text` is the beginning of a digest's hexadecimal digits, long enough to mean an image of the store."""
    return _SHORT_DIGEST.fullmatch(text) is not None


def reads_like_a_digest(name: str) -> bool:
    """Whether a familiar name can be mistaken for a digest: `abcdef123456`, `sha256:…`."""
    return is_short_digest(name) or _ALGORITHM.fullmatch(name) is not None


def _is_host(part: str) -> bool:
    return part == "localhost" or part != part.lower() or any(letter in part for letter in ".:")


def _advice(text: str) -> str:
    if text.startswith(_UNSUPPORTED):
        return "save the image to a file, as with `docker save NAME -o FILE`, and name that file"
    scheme, slashes, rest = text.partition("://")
    if slashes:
        return f"leave {scheme}:// out, as in {rest or 'busybox'}"
    if "@" in text:
        return "a digest is sha256: and 64 hexadecimal digits"
    return "names are lower case, as in python, python:3.12 or ghcr.io/owner/name"


def is_path(text: str) -> bool:
    """Whether an IMAGE argument means a file: it starts like a path, or ends like a directory or an archive.

    Arguments with the transport of a file mean one, too: `oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`.
    """
    if text.startswith(_REGISTRY):
        return False
    return (
        text in (".", "..")
        or text.startswith(_FILES)
        or text.startswith(("/", "./", "../", "~"))
        or text.endswith(("/", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2"))
    )


@dataclass(frozen=True)
class ImageFile:
    """A file or directory (host) that has images. `select` is the name or tag of one of them, empty for all."""

    path: Path
    select: str = ""


def image_file(text: str) -> ImageFile:
    """Return the file that an IMAGE argument means: `FILE`, or `docker-archive:FILE:NAME`. Raises `UsageError`."""
    for transport in _FILES:
        if text.startswith(transport):
            path, _, select = text.removeprefix(transport).partition(":")
            return ImageFile(host_path(path), select)
    return ImageFile(host_path(text))


def host_path(text: str) -> Path:
    """Return the path on the host that `text` writes, with `~` and `~user` expanded. Raises `UsageError`."""
    if not text or "\0" in text or not _is_file_name(text):
        raise UsageError(f"invalid path {text!a}", hint="write one, as in ~/data")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0].removeprefix("~")
        raise UsageError(f"no such user: {user!r} in {text!r}", hint="write the whole path") from None


def _is_file_name(text: str) -> bool:
    """Whether the system can encode a text as a file's name: lone surrogates cannot be encoded."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
