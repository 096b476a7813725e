"""Names of images, in Docker's grammar: `[host[:port]/]path[:tag][@digest]` (distribution/reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nbcontainer.errors import UsageError

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_NAME_LIMIT = 255  # characters, as registries have it


@dataclass(frozen=True)
class Reference:
    """One image's name. `tag` is `latest` where none was given and no digest either."""

    name: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar(self) -> str:
        """The short form people use, which is also the store's: `busybox` and not `busybox:latest`."""
        tag = "" if self.tag in ("", "latest") else f":{self.tag}"
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar


def parse(text: str) -> Reference:
    """The reference that `text` writes. Raises `UsageError`."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        hint = "names are lower case, as in python, python:3.12 or ghcr.io/owner/name"
        raise UsageError(f"{text!r} is no image name", hint=hint)
    if len(found["name"]) > _NAME_LIMIT:
        raise UsageError(f"the image name {text[:40]!r}… is longer than {_NAME_LIMIT} characters", hint="shorten it")
    digest = found["digest"] or ""
    return Reference(found["name"], found["tag"] or ("" if digest else "latest"), digest)


def is_path(text: str) -> bool:
    """Whether an IMAGE word means a file: it starts like a path, or ends like an archive."""
    return text.startswith(("/", "./", "../", "~")) or text.endswith(
        (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2")
    )


def host_path(text: str) -> Path:
    """The path on the host that a person writes, `~` and `~user` filled in. Raises `UsageError`."""
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is no path", hint="write one, as in ~/data")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text!r} is in the home of a user there is not", hint="write the whole path") from None
