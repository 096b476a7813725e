"""The root directory of a layer: its own owner, mode, times and attributes, beside those of the layer below."""

from __future__ import annotations

import contextlib
import os
import stat


def match(upper: str, lower: str, facts: os.stat_result) -> None:
    """Give a new directory the time and the attributes of `lower`, whose `facts` are given.

    Raises `OSError` if it is not there.
    """
    with contextlib.suppress(OSError):  # of another user: a later comparison expects the difference
        for name in _kept_names(lower):
            os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def travelling_attributes(lower: str) -> tuple[tuple[str, str], ...]:
    """Return the attributes of a root directory that a layer holds, with their values in hex."""
    with contextlib.suppress(OSError):  # of another user: a later comparison expects the difference
        return tuple((name, value.hex()) for name, value in _attributes(lower).items())
    return ()


def changed(upper: str | int, lower: str | int, made: int) -> bool:
    """Return whether a root directory differs from that of the layer below in more than a time that files change.

    Both are paths or descriptors. `made` is when the upper one was made (ns): an earlier time was set by a program, and
    a later one only shows that files were made or removed. Raises `OSError`.
    """
    new, old = os.stat(upper), os.stat(lower)
    if _facts(new) != _facts(old):
        return True
    if new.st_mtime_ns != old.st_mtime_ns and new.st_mtime_ns < made:
        return True
    with contextlib.suppress(OSError):
        return _attributes(upper) != _attributes(lower)
    return False


def _facts(facts: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid


def _attributes(place: str | int) -> dict[str, bytes]:
    return {name: os.getxattr(place, name) for name in _kept_names(place)}


def _kept_names(place: str | int) -> list[str]:
    """Return the names of the attributes that a layer holds."""
    return [name for name in os.listxattr(place) if name.startswith("user.") and not name.startswith("user.overlay.")]
