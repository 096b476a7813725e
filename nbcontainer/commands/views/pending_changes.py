"""The view of `changes`: what cells changed in copy-on-write volumes, and what prevents `apply`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbcontainer.commands.views.changes import Changes
from nbcontainer.rendering import page
from nbcontainer.rendering.text import visible


@dataclass(frozen=True)
class PendingChanges(Changes):
    """Changes that are not applied. `conflicts` are (path, reason), and `lines` those of unified diffs."""

    verb: str = "changes"
    conflicts: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        refused = [f"cannot apply {visible(path)}: {reason}" for path, reason in self.conflicts]
        lines = ("\t".join(map(visible, line.split("\t"))) for line in self.lines)
        return "\n".join((super().__str__(), *refused, *lines))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        refused = "".join(
            f"<p>{page.span('!', 'bad', tip='conflict')} cannot apply {page.escape(path)}: {page.escape(reason)}</p>"
            for path, reason in self.conflicts
        )
        text = page.escape("\n".join(self.lines))
        return super()._repr_html_() + page.page(refused + (f"<pre>{text}</pre>" if text else ""))

    def as_json(self) -> list[dict[str, Any]]:
        """Return all changes as objects, as `diff` does; `conflict` is the reason that prevents `apply`, or null."""
        reasons = dict(self.conflicts)
        return [{**change, "conflict": reasons.get(change["path"])} for change in super().as_json()]
