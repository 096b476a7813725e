"""The times in images and records."""

from __future__ import annotations

import functools
import os
import time

from nbcontainer.errors import ImageError

_LATEST = 253402300799  # the last second of the year 9999: RFC 3339 has four digits


def source_date_epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH (reproducible-builds.org) in seconds, or None. Raises `ImageError` if it is invalid."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= _LATEST):
        raise ImageError(f"invalid SOURCE_DATE_EPOCH {text!r}", hint="set it to seconds since 1970, or unset it")
    return int(text)


def timestamp(seconds: float | None = None) -> str:
    """Return a time as in RFC 3339, in UTC: `seconds`, by default SOURCE_DATE_EPOCH if it is set, else now."""
    if seconds is None:
        epoch = source_date_epoch()
        seconds = time.time() if epoch is None else epoch
    return _written(int(seconds // 1))


@functools.lru_cache(maxsize=1)
def _written(seconds: int) -> str:
    """Return a time as text; each cell asks for the present second a few times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
