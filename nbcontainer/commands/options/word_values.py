"""The values of options that are one word or number."""

from __future__ import annotations

import re

from nbcontainer.containers.options import CACHE_MODES
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.spec import invalid_oom_score


def label_value(text: str) -> tuple[str, str]:
    """Return the name and the value of NAME=value, or NAME. Raises `UsageError`."""
    name, _, value = text.partition("=")
    if not name:
        raise UsageError(f"invalid label {text!r}", hint="write NAME=value, or NAME")
    return name, value


def oom_score_value(value: str | float) -> int | None:
    """Return the adjustment, None for an empty value. Raises `UsageError`."""
    if value == "":
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", str(value)):
        raise invalid_oom_score(value)
    return int(value)


def here_value(text: str) -> str:
    """Return the way in which the notebook's directory is shown. Raises `UsageError`."""
    if text not in ("rw", "ro", "cow"):
        raise UsageError(f"invalid value {text!r} for --here", hint="write --here, --here=rw, --here=ro or --here=cow")
    return text


def cache_value(text: str) -> str:
    """Return the mode of the cache. Raises `UsageError`."""
    if text not in CACHE_MODES:
        raise UsageError(f"invalid value {text!r} for --cache", hint="write --cache, --cache=always or --cache=off")
    return text


def pull_value(text: str) -> str:
    """Return when the registry is asked: `missing` by default."""
    return text or "missing"
