"""Names of images, in Docker's grammar: `[host[:port]/]path[:tag][@digest]` (distribution/reference, reference.go)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from nbcontainer.errors import UsageError

HUB = "docker.io"
"""The registry of names that do not say one."""

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


@dataclass(frozen=True)
class Reference:
    """One image's name, in full. `tag` is `latest` where none was given and no digest either."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest: `docker.io/library/busybox`."""
        return f"{self.host}/{self.path}"

    @property
    def familiar(self) -> str:
        """The short form people use, which is also the store's: `busybox` for `docker.io/library/busybox:latest`."""
        name = self.path.removeprefix(_OFFICIAL) if self.host == HUB else self.name
        tag = "" if self.tag in ("", "latest") else f":{self.tag}"
        return f"{name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def canonical(self) -> str:
        """With everything: `docker.io/library/busybox:latest`."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def at(self, digest: str) -> Reference:
        """This name, pinned to a digest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return self.familiar


def parse(text: str) -> Reference:
    """The reference that `text` writes, filled in as `docker` does: registry docker.io, owner library, tag latest.

    The part before the first slash is a registry where it has a dot, a port or a capital, or is localhost.
    Raises `UsageError`.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise UsageError(f"{text[:300]!r} is no image name", hint=_advice(text))
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
    """The reference that `text` writes, as the name of a new image. Raises `UsageError`."""
    wanted = parse(text)
    if wanted.digest:
        raise UsageError(f"{text!r} names a digest, which an image brings itself", hint="leave out the @ part")
    if reads_like_a_digest(wanted.familiar):
        raise UsageError(f"the name {text!r} reads like a digest", hint="choose another name")
    if wanted.familiar == HOST:
        raise UsageError("host is this machine, and no other image", hint="choose another name")
    return wanted


def is_digest(text: str) -> bool:
    """Whether `text` is a digest, with no name: it means that very image of the store."""
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
    scheme, slashes, rest = text.partition("://")
    if slashes:
        return f"leave {scheme}:// out, as in {rest or 'busybox'}"
    if "@" in text:
        return "a digest is sha256: and 64 hexadecimal digits"
    return "names are lower case, as in python, python:3.12 or ghcr.io/owner/name"


def is_path(text: str) -> bool:
    """Whether an IMAGE word means a file: it starts like a path, or ends like a directory or an archive."""
    return (
        text in (".", "..")
        or text.startswith(("/", "./", "../", "~"))
        or text.endswith(("/", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2"))
    )


def host_path(text: str) -> Path:
    """The path on the host that a person writes, `~` and `~user` filled in. Raises `UsageError`."""
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is no path", hint="write one, as in ~/data")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text!r} is in the home of a user there is not", hint="write the whole path") from None
