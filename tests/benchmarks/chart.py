"""Draws the README's chart from the table in docs/benchmarks.md: how long one cell takes, beside other programs.

python -m tests.benchmarks.chart
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from tests import documents

IMAGES = documents.PROJECT / "docs" / "images"

_LEFT, _WIDTH, _ROW, _BAR, _TOP = 190, 640, 30, 18, 46
_LONGEST = 340  # pixels of the longest bar
_FONT = "font-family='system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"


@dataclass(frozen=True)
class Theme:
    """The colors of one chart."""

    text: str
    bar: str
    ours: str


THEMES = {"light": Theme("#1f2328", "#8c959f", "#0969da"), "dark": Theme("#e6edf3", "#6e7681", "#58a6ff")}


def main() -> None:
    """Writes both files."""
    for name, theme in THEMES.items():
        (IMAGES / f"speed-{name}.svg").write_text(draw(theme))


def figures() -> list[tuple[str, float]]:
    """The programs and their times relative to nbcontainer, the fastest first."""
    text = (documents.PROJECT / "docs" / "benchmarks.md").read_text()
    ours = re.search(r"nbcontainer takes ([\d.]+ ms)", text)
    assert ours is not None
    found = [(f"nbcontainer ({ours[1]})", 1.0)]
    for program, ratio in documents.rows(text, "## Cells"):
        found.append((program.strip("`"), float(re.match(r"[\d.]+", ratio)[0])))  # type: ignore[index]
    return sorted(found, key=lambda one: one[1])


def draw(theme: Theme) -> str:
    """The chart as SVG."""
    data = figures()
    height = _TOP + _ROW * len(data) + 6
    scale = _LONGEST / data[-1][1]
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' height='{height}'>",
        f"<g {_FONT} font-size='14' fill='{theme.text}'>",
        f"<text x='{_LEFT}' y='22' font-weight='600'>Time of one cell with true, relative to nbcontainer</text>",
    ]
    for number, (name, ratio) in enumerate(data):
        y = _TOP + number * _ROW
        ours = name.startswith("nbcontainer")
        color, weight = (theme.ours, " font-weight='600'") if ours else (theme.bar, "")
        length = max(2, round(ratio * scale))
        middle = y + _BAR - 4
        lines += [
            f"<text x='{_LEFT - 10}' y='{middle}' text-anchor='end'{weight}>{escape(name)}</text>",
            f"<rect x='{_LEFT}' y='{y}' width='{length}' height='{_BAR}' rx='2' fill='{color}'/>",
            f"<text x='{_LEFT + length + 8}' y='{middle}'{weight}>{ratio:g}\u00d7</text>",
        ]
    return "\n".join([*lines, "</g>", "</svg>", ""])


if __name__ == "__main__":
    main()
