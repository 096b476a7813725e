"""The footer of a cell: where it ran, how it ended, and what it used."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.diff import changed_files
from nbcontainer.errors import NbcontainerError
from nbcontainer.rendering import page
from nbcontainer.rendering.quantities import duration, size

if TYPE_CHECKING:
    from nbcontainer.containers.container import Container
    from nbcontainer.outcome import Outcome


def footer(container: Container, outcome: Outcome, live: str) -> dict[str, str]:
    """Return the footer of a cell as text and HTML, by type. `live` says how it ran in a container that still runs."""
    image = container.record.image
    place = image if container.anonymous else f"{container.name} ({image})"
    changed = None
    if not live:
        with contextlib.suppress(NbcontainerError, OSError):  # another process removed the layer
            changed = changed_files(container)
    return _shown(f"{place}, {live}" if live else place, outcome, changed)


def _shown(place: str, outcome: Outcome, changed: int | None) -> dict[str, str]:
    facts = [outcome.state.text, duration(outcome.wall_time)]
    if outcome.peak_memory:
        facts.append(f"{size(outcome.peak_memory)} of memory")
    if changed is not None:
        facts.append("1 file changed" if changed == 1 else f"{changed:,} files changed")
    rest = page.escape(" · ".join(["", *facts[1:]]))
    line = f'<small class="dim">{page.escape(place)} · {outcome.state.html()}{rest}</small>'
    return {"text/plain": " · ".join([place, *facts]), "text/html": page.page(line)}
