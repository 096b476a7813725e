"""Views of verbs where notebooks are read: in nbconvert's HTML and LaTeX, and on sites that remove styles."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import nbformat
import nh3
import pytest
from nbclient import NotebookClient
from nbconvert.exporters import HTMLExporter, LatexExporter

from nbcontainer.commands.doctor.report import Check, Report
from nbcontainer.commands.views import CellRow, Changes, ContainerRow, ImageRow, UsageRow, listings
from nbcontainer.containers.diff import Change
from nbcontainer.outcome import Outcome, Reason

WHEN = "2020-11-24T20:00:00Z"
OUTCOME = Outcome(Reason.EXITED, 3, wall_time=1.5, peak_memory=5_000_000)
VIEWS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "containers": (listings.container_list([ContainerRow("dev", "busybox", "running", 2, WHEN)]), ("dev", "✓ running")),
    "images": (listings.image_list([ImageRow("base", "sha256:" + "0" * 64, 1, 2_100_000, WHEN)]), ("base", "2.1 MB")),
    "cells": (listings.cell_list([CellRow(1, WHEN, OUTCOME, True, "make")]), ("✗ exited", "make")),
    "usage": (listings.usage_list([UsageRow("image", "base", 5000, 0)]), ("5.0 kB",)),
    "changes": (Changes((Change("A", "/new", 12), Change("D", "/old"))), ("/new", "/old")),
    "doctor": (
        Report((Check("kernel", "limited", "5.10", "install a newer one"),)),
        ("! limited", "install a newer one"),
    ),
    "outcome": (OUTCOME, ("exit code 3",)),
}
"""Each kind of view, and what a reader must see of it."""


def words_of(page: str) -> str:
    """The text of a page, without its style sheet."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page))))


@pytest.mark.parametrize("name", VIEWS)
def test_a_site_that_removes_styles_shows_the_same_text(name: str) -> None:
    """GitHub keeps elements and `align`, and removes style sheets, classes and styles: nothing is lost by that."""
    view, expected = VIEWS[name]
    page = nh3.clean(view._repr_html_(), attributes={"*": {"align", "title"}}, clean_content_tags={"style", "script"})
    assert "<style" not in page
    for text in expected:
        assert text.strip("/") in words_of(page)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_no_script(name: str) -> None:
    """No element, attribute or address in a page could run code, or load something."""
    page = VIEWS[name][0]._repr_html_()
    assert not re.search(r"<(script|iframe|object|embed|link|img|form)|\son\w+\s*=|javascript:|https?:|url\(", page)


@pytest.fixture(scope="module")
def executed() -> Any:
    """A notebook with the outputs of all views, as a kernel has saved it."""
    code = "import tests.notebook.test_view_formats as views\nfor view, _ in views.VIEWS.values():\n    display(view)"
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])  # type: ignore[no-untyped-call]
    NotebookClient(made, kernel_name="python3").execute()
    return made


def test_html_of_nbconvert_has_the_pages(executed: Any) -> None:
    """nbconvert's HTML has each view as its page, with both colour schemes."""
    page, _ = HTMLExporter().from_notebook_node(executed)  # type: ignore[no-untyped-call]
    assert page.count('<div class="nbcontainer ') == len(VIEWS)
    assert "prefers-color-scheme:dark" in page
    for _, expected in VIEWS.values():
        assert all(text.strip("/") in words_of(page) for text in expected)


def test_latex_of_nbconvert_has_the_texts(executed: Any) -> None:
    """On the way to PDF, nbconvert takes the plain texts: all is there."""
    source, _ = LatexExporter().from_notebook_node(executed)  # type: ignore[no-untyped-call]
    for _, expected in VIEWS.values():
        assert all(text in re.sub(r"[{}]|\\[A-Za-z]+", "", source) for text in expected)
