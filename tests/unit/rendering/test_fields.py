"""Fields of tables, and the numbers and times in them."""

from __future__ import annotations

import re

import pytest

from nbcontainer.rendering import page
from nbcontainer.rendering.fields import Quantity, Sign, Size, State, When
from nbcontainer.rendering.quantities import ago, date, duration, seconds_of, size
from nbcontainer.rendering.table import facts


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1500, "1.5 kB"),
        (123_456, "123 kB"),
        (999_999, "1.0 MB"),
        (2_140_160, "2.1 MB"),
        (10**9, "1.0 GB"),
        (10**12, "1.0 TB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_for_people(number: int, text: str) -> None:
    """Bytes in powers of a thousand, with one digit after the point where there is room."""
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0041, "4 ms"),
        (0.9999, "1.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3725, "1 h 2 min"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Two units at most, and none that is too small to matter."""
    assert duration(seconds) == text


NOW = "2026-11-28T12:00:00Z"


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (NOW, "now"),
        ("2026-11-28T11:59:18Z", "42 s ago"),
        ("2026-11-28T11:57:00Z", "3 min ago"),
        ("2026-11-28T14:57:00.123456+03:00", "3 min ago"),
        ("2026-11-28T07:00:00Z", "5 h ago"),
        ("2026-11-27T12:00:00Z", "1 day ago"),
        ("2026-11-25T12:00:00Z", "3 days ago"),
        ("2026-09-25T12:00:00Z", "2 months ago"),
        ("2025-01-01T00:00:00Z", "1 year ago"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("2026-13-99T99:99:99Z", "2026-13-99T99:99:99Z"),
        ("2026-11-28T11:57:00+99", "2026-11-28T11:57:00+99"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_times_are_ages(then: str, text: str) -> None:
    """An age has one unit. A time in the future, Go's zero time, and text that is not a time stay as they are."""
    assert ago(then, seconds_of(NOW)) == text


def test_the_date_is_a_tooltip() -> None:
    """In a page, the age has the date as its tooltip; a table's plain text is the time in RFC 3339."""
    field = When("2001-02-03T04:05:06Z")
    assert 'title="2001-02-03 04:05:06 UTC"' in field.html()
    assert field.text.endswith("years ago")
    assert field.plain == "2001-02-03T04:05:06Z"
    assert date("?") == "?"


def test_a_size_has_its_bytes_as_a_tooltip() -> None:
    """The exact number is there for those who need it."""
    assert Size(2_140_160).html(0) == '<span class="unit" title="2,140,160 bytes">2.1 MB</span>'


def test_a_page_has_no_script_and_both_themes() -> None:
    """The style sheet has colours for light and for dark pages, and JupyterLab's own take their place there."""
    found = page.page("<p>x</p>")
    assert "prefers-color-scheme:dark" in found
    assert re.search(r"var\(--jp-[a-z0-9-]+,var\(--vscode-\w+(-\w+)*,#[0-9a-f]{6}\)\)", found)
    assert not re.search(r"<script|\son\w+=|javascript:|url\(|@import", found)


def test_dollars_of_a_page_are_not_taken_for_formulas() -> None:
    """Pages with MathJax show `echo $A; echo $B` as text, also in an output of one line."""
    for html in (page.page("echo $A; echo $B"), page.line("echo $A; echo $B")):
        classes = re.findall(r'class="([^"]*)"', html)[0].split()
        assert {"tex2jax_ignore", "mathjax_ignore"} <= set(classes)


def contrast(colour: str) -> float:
    """Return the contrast of a colour on white (WCAG 2.2, "contrast ratio")."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def test_marks_on_light_pages_are_dark_enough_to_read() -> None:
    """JupyterLab's light page and paper have marks with a contrast of at least 4.5 on white."""
    light = re.findall(r"\[data-jp-theme-light=true\] \.nbcontainer{([^}]*)}", page.STYLE)[0]
    marks = dict(re.findall(r"--nbc-(\w+):(#\w+)", light))
    assert set(marks) == {"good", "warn", "bad"}
    fallbacks = [re.findall(r"#\w+", page.colour(kind))[0] for kind in ("dim", "good", "warn", "bad", "bar")]
    assert min(map(contrast, [*marks.values(), *fallbacks])) >= 4.5


def test_facts_about_one_thing_are_escaped() -> None:
    """A title and values are text; a fact without a value is left out."""
    found = facts("<b>", (("image", "a&b"), ("none", ""), ("ended", State("well"))))
    assert "<b>&lt;b&gt;</b>" in found
    assert "a&amp;b" in found
    assert ">none<" not in found


def test_colours_are_those_of_the_theme_and_of_paper() -> None:
    """A page takes the colours of JupyterLab, or else of VS Code. Printed, it has those of light pages."""
    assert "var(--jp-error-color1,var(--vscode-errorForeground,#d1242f))" in page.STYLE
    printed = page.STYLE.partition("@media print{")[2].partition("}}")[0]
    assert "--jp-ui-font-color1:#1f2328" in printed
    assert "--jp-error-color1:#d1242f" in printed
    assert printed.endswith("color:#1f2328")


@pytest.mark.parametrize("field", [Size(1500), When("2020-01-01T00:00:00Z"), Quantity("61 (175 B)")])
def test_a_number_and_its_unit_are_on_one_line(field: Size | When | Quantity) -> None:
    """A narrow page does not break a size, an age or a count between the number and its unit."""
    assert '<span class="unit"' in field.html(0)
    assert ".unit{white-space:nowrap}" in page.STYLE


def test_a_sign_is_on_the_line_of_its_state() -> None:
    """A narrow page breaks a long state, but not after its sign."""
    assert "</span>&nbsp;limited" in State("limited", Sign.WARN).html()
