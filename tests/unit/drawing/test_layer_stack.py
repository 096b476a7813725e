"""The drawing of layers: sheets as text, as SVG and as JSON."""

from __future__ import annotations

import json
import re

from nbcontainer.drawing.layer_stack import Entry, LayerStack, Mark, Seen, Sheet

STACK = LayerStack(
    (
        Sheet("image x", "lower", more="2 layers, read-only"),
        Sheet("cell 1: a", "lower", tuple(Entry(Mark.ADDED, f"/d/{n:02}", 1) for n in range(14))),
        Sheet("cell 2: <b>", "upper", (Entry(Mark.HIDDEN, "/d/00"), Entry(Mark.CHANGED, "/d/\x1b[31m", 3))),
    ),
    (Seen("/d/01", 1), Seen("/d/\x1b[31m", 2)),
)


def test_the_text_has_the_sheets_from_above() -> None:
    """The merged tree first, then the upper, then the lowers; long lists are cut."""
    lines = str(STACK).splitlines()
    assert lines[0] == "merged"
    assert lines[1] == "  /d/01  from cell 1"
    assert [line for line in lines if not line.startswith(" ")][1:] == [
        "upper: cell 2: <b>",
        "lower: cell 1: a",
        "lower: image x (2 layers, read-only)",
    ]
    assert "  - /d/00" in lines
    assert "  and 4 more" in lines
    assert "\x1b" not in str(STACK)


def test_the_svg_has_text_alone_and_no_markup_of_a_path() -> None:
    """What a cell was called, and its paths, are shown as text."""
    shown = STACK.as_svg()
    assert set(re.findall(r"<([a-z]+)", shown)) == {"svg", "title", "text", "rect"}
    assert "2  upper: cell 2: &lt;b&gt;" in shown
    assert "… 4 more" in shown
    assert "- hidden by a whiteout" in shown
    assert len({line.index("←") for line in re.findall(r">([^<]*←[^<]*)<", shown)}) == 1
    assert "\x1b" not in shown


def test_the_page_has_every_entry_folded() -> None:
    """A sheet with more entries than the drawing shows has them below it."""
    shown = STACK._repr_html_()
    assert shown.count("<details>") == 1
    assert "+ /d/13" in shown


def test_the_json_names_the_sheet_of_each_path() -> None:
    """Marks as words."""
    found = json.loads(json.dumps(STACK.as_json()))
    assert found["seen"][0] == {"path": "/d/01", "sheet": "cell 1: a"}
    assert [entry["mark"] for entry in found["sheets"][2]["entries"]] == ["hidden", "changed"]
