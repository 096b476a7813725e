"""Which part of a log is selected: the output of some time, or its last lines."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.oci.health import nanoseconds
from nbcontainer.rendering.quantities import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.containers.jobs.log import LogRecord
    from nbcontainer.containers.jobs.log_reader import LogReader

_BILLION = 10**9
_UNIX_TIME = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_FRACTION = re.compile(r"T\d\d:\d\d:\d\d\.(\d{1,9})", re.ASCII)
_MIDNIGHT = "YYYY-MM-DDT00:00:00Z"
_CUT_SHORT = (len("YYYY-MM-DD"), len("YYYY-MM-DDTHH:MM"))
"""Lengths of times that leave something out: the rest is midnight's."""


@dataclass(frozen=True)
class Selection:
    """The output from `since` to `until` (nanoseconds since 1970), and of what is there now the last `tail` lines."""

    since: float = 0.0
    until: float = math.inf
    tail: int | None = None

    def records(self, log: LogReader, runs: Callable[[], bool] | None = None) -> Iterator[LogRecord]:
        """Yield the selected records that are there, and with `runs` new ones until it returns false for the job.

        Raises `StoreError` for a damaged log.
        """
        past = (record for record in log.records() if self._has(record))
        yield from past if self.tail is None else last_lines(past, self.tail)
        if runs is not None:
            more = log.follow(lambda: time.time_ns() <= self.until and runs())
            yield from (record for record in more if self._has(record))

    def _has(self, record: LogRecord) -> bool:
        return self.since <= record.time <= self.until


def last_lines(records: Iterable[LogRecord], number: int) -> list[LogRecord]:
    """Return the records with the last `number` lines of both streams together."""
    found: list[LogRecord] = []
    left = number
    for record in reversed([*records]):
        if left <= 0:
            break
        data = record.data
        begins = data.count(b"\n") - (1 if not found and data.endswith(b"\n") else 0)
        if begins >= left:
            end = len(data) - 1 if not found and data.endswith(b"\n") else len(data)
            for _ in range(left):
                end = data.rfind(b"\n", 0, end)
            if rest := data[end + 1 :]:
                found.append(replace(record, data=rest))
            break
        left -= begins
        found.append(record)
    return found[::-1]


def moment(text: str, option: str) -> int:
    """Return a time in nanoseconds since 1970, from one of the forms of `docker logs`; `option` names it in errors.

    A time ago, as in `10m` or `1m30s`; a time or a date, in UTC unless it says otherwise; or seconds since 1970.
    Raises `UsageError`.
    """
    if (ago := nanoseconds(text)) is not None:
        return time.time_ns() - ago
    if unix := _UNIX_TIME.fullmatch(text):
        return int(unix[1]) * _BILLION + _billionths(unix[2])
    whole = f"{text}{_MIDNIGHT[len(text) :]}" if len(text) in _CUT_SHORT else text
    if (found := seconds_of(whole)) is not None:
        fraction = _FRACTION.search(whole)
        return found * _BILLION + _billionths(fraction and fraction[1])
    hint = "write a time ago, as in 10m, or a time as in 2026-01-02T03:04:05Z"
    raise UsageError(f"invalid time '{text}' for {option}", hint=hint)


def _billionths(digits: str | None) -> int:
    """Return the digits after a decimal point, or none, in billionths: a float would lose the last of a time's."""
    return int((digits or "").ljust(9, "0"))
