"""Sizes, durations and times in the form that people read."""

from __future__ import annotations

import time

_UNITS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "h"), (60, "min"), (1, "s"))
"""Seconds of each unit of an age, the longest first."""

_YEAR_ONE = "0001-"
"""The year of Go's zero time, which images without a date have."""


def size(number: int) -> str:
    """Return bytes in powers of 1000, as `docker images` has them."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Return a duration: `4 ms`, `1.5 s`, `2 min 5 s`, `1 h 2 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def seconds_of(text: str) -> int | None:
    """Return the whole seconds since 1970 of a time in RFC 3339; None for anything else, and for Go's zero time.

    The time may have an offset from UTC. Its fraction of a second is left out.
    """
    from calendar import timegm  # the launcher, which needs none of this, would import half the standard library

    if text.startswith(_YEAR_ONE):
        return None
    try:
        whole = timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        offset = text[19:].lstrip(".0123456789")
        if offset in ("Z", "z", ""):
            return whole
        sign = {"+": 1, "-": -1}[offset[0]]
        return whole - sign * (int(offset[1:3]) * 3600 + int(offset[4:6]) * 60)
    except (ValueError, KeyError, IndexError):
        return None


def ago(text: str, now: float | None = None) -> str:
    """Return the age of a time in RFC 3339, as in `3 min ago`. The time itself if it is in the future or not one.

    Of the second 0 of 1970, which reproducible builds write, it is the date.
    """
    then = seconds_of(text)
    age = (time.time() if now is None else now) - then if then is not None else -1.0
    if age < -1 or then is None:
        return text
    if then == 0:
        return text[:10]  # what a reproducible build has for the time
    for length, unit in _UNITS:
        if age >= length:
            number = int(age // length)
            plural = "s" if number > 1 and len(unit) > 2 and unit != "min" else ""
            return f"{number} {unit}{plural} ago"
    return "now"


def date(text: str) -> str:
    """Return a time in RFC 3339 as a date and a time in UTC, for a tooltip; the text itself if it is not one."""
    then = seconds_of(text)
    return text if then is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(then))
