"""Parts of SVG drawings: text that can be selected, no scripts, no style sheets, colours of the page around them.

Every drawing has a title for readers who do not see it. Lengths are in the drawing's own units, which are pixels unless
the page is narrower.
"""

from __future__ import annotations

from nbcontainer.rendering.page import colour as theme_colour
from nbcontainer.rendering.page import escape

LINE = 18
"""The height of a line of text."""

LETTER = 7.25
"""The width of a letter, at most: texts are in a fixed-width font of 12 units."""

INK = "var(--jp-ui-font-color1, currentColor)"
DIM = theme_colour("dim")
ACCENT = theme_colour("bar")
GOOD = theme_colour("good")
WARN = theme_colour("warn")
BAD = theme_colour("bad")


def drawing(title: str, width: float, height: float, parts: list[str]) -> str:
    """Return an SVG drawing of `parts`."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    name = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}" fill="{INK}" '
        f'style="max-width:100%;height:auto" font-family="monospace" font-size="12">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )


def shortened(content: str, most: int) -> str:
    """Return a text of at most `most` letters: of a longer one, its beginning and its end."""
    if len(content) <= most:
        return content
    end = most // 2
    return f"{content[: most - end - 1]}…{content[-end:]}"


def text(
    x: float, y: float, content: str, *, colour: str = "", bold: bool = False, end: bool = False, most: int = 0
) -> str:
    """Return a line of text whose left end, or with `end` its right end, is at `x`, and its base line at `y`.

    With `most`, a longer text is shortened to that many letters; the whole text is a tooltip.
    """
    shown = shortened(content, most) if most else content
    tip = "" if shown == content else f"<title>{escape(content)}</title>"
    attributes = f' fill="{colour}"' if colour else ""
    attributes += ' font-weight="bold"' if bold else ""
    attributes += ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" xml:space="preserve"{attributes}>{tip}{escape(shown)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = DIM, dashed: bool = False) -> str:
    """Return a line between two points."""
    dash = ' stroke-dasharray="3 3"' if dashed else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" fill="none"{dash}/>'


def box(x: float, y: float, width: float, height: float, *, colour: str = DIM, dashed: bool = False) -> str:
    """Return an empty rectangle with round corners."""
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="5" fill="none" stroke="{colour}"{dash}/>'


def bar(x: float, y: float, width: float, height: float, *, colour: str = ACCENT) -> str:
    """Return a filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
