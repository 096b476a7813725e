"""Signals as images and options name them: `SIGINT`, `int`, `2`, `SIGRTMIN+3` (signal(7))."""

from __future__ import annotations

import re
import signal

_REALTIME = re.compile(r"RT(MIN|MAX)([+-])(\d{1,2})", re.ASCII)


def number(word: str) -> int | None:
    """Return the number of a signal, by its name or number; None for an unknown one."""
    name = word.upper().removeprefix("SIG")
    if name.isascii() and name.isdecimal():
        return int(name) if len(name) <= 2 and 0 < int(name) <= signal.SIGRTMAX else None
    if found := _REALTIME.fullmatch(name):
        base = signal.SIGRTMIN if found[1] == "MIN" else signal.SIGRTMAX
        value = base + int(f"{found[2]}{found[3]}")
        return value if signal.SIGRTMIN <= value <= signal.SIGRTMAX else None
    known = getattr(signal, f"SIG{name}", None)
    return int(known) if isinstance(known, signal.Signals) else None
