"""The report of `doctor`: its checks, each with a state, what was found, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nbcontainer.rendering.fields import Sign, State
from nbcontainer.rendering.table import Table
from nbcontainer.rendering.text import columns

OK, LIMITED, MISSING = "ok", "limited", "missing"
"""A check's states: it works; it works with a limit that is named; it does not work."""

_SIGNS = {OK: Sign.GOOD, LIMITED: Sign.WARN, MISSING: Sign.BAD}


@dataclass(frozen=True)
class Check:
    """One thing looked at: its state, what was found, and the one thing to do about it (empty where it is ok)."""

    name: str
    state: str
    found: str
    advice: str = ""

    @property
    def field(self) -> State:
        """The state, with its sign."""
        return State(self.state, _SIGNS[self.state])


@dataclass(frozen=True)
class Report:
    """What an examination found, in the order in which things depend on each other."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything works here, be it with limits."""
        return all(check.state != MISSING for check in self.checks)

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            lines.append((check.field.text, check.name, check.found))
            if check.advice:
                lines.append(("", "", f"→ {check.advice}"))
        return columns(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = tuple((check.field, check.name, check.found, check.advice) for check in self.checks)
        return Table(("state", "check", "found", "what to do"), rows)._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: `ok`, and `checks` with their fields."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    as_json = as_dict
