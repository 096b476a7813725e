"""What `diff` shows of few changes, of many, and of hostile ones."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

from nbcontainer.commands.views import Changes
from nbcontainer.commands.views.change_tree import tree
from nbcontainer.containers.diff import Change

FEW = Changes((Change("C", "/etc", None), Change("A", "/etc/new", 12), Change("D", "/etc/old")))


def many(files: int = 19_527) -> Changes:
    """As a pip install leaves them: one directory with packages of a hundred files each, and a file beside it."""
    site = "/usr/lib/python3/site-packages"
    above = [Change("C", path, None) for path in ("/usr", "/usr/lib", "/usr/lib/python3", site)]
    packages = [Change("A", f"{site}/p{at}", None) for at in range(files // 100)]
    inside = [Change("A", f"{site}/p{at // 100}/{at}.py", 1000) for at in range(files // 100 * 100)]
    found = [Change("A", "/note", 5), *above, *packages, *inside]
    return Changes(tuple(sorted(found, key=lambda change: change.path)))


class Outline(HTMLParser):
    """The elements of a page: it fails where they do not nest, and has the greatest depth of lists and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.depth = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.depth = max(self.depth, self.open.count("details"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(changes: Changes) -> Outline:
    """The outline of the page of `changes`, whose elements are all closed."""
    found = Outline()
    found.feed(changes._repr_html_())
    assert found.open == []
    return found


def test_few_changes_are_listed_one_by_one() -> None:
    """As with `docker diff`: a kind and a path on each line."""
    assert str(FEW).split() == ["CHANGE", "PATH", "C", "/etc", "A", "/etc/new", "D", "/etc/old"]
    assert FEW.rows == (("C", "/etc"), ("A", "/etc/new"), ("D", "/etc/old"))


def test_few_changes_are_open_in_a_page() -> None:
    """Each directory is open and has counts and bytes; each kind has its name as a tooltip."""
    page = FEW._repr_html_()
    assert page.count("<details open>") == page.count("<details") == 1
    assert "1 added, 1 deleted, 12 B" in page
    assert '<span class="bad" title="deleted">D</span> old' in page


def test_many_changes_are_lines_of_directories() -> None:
    """A pip install is a few lines: the directory with its files and bytes, and how to see all."""
    lines = str(many()).splitlines()
    assert len(lines) < 45
    (line,) = [line for line in lines if "site-packages/" in line]
    assert line.split() == ["C", "/usr/lib/python3/site-packages/", "19,500", "added", "19.5", "MB"]
    assert any(line.split() == ["A", "/note", "5", "B"] for line in lines)
    assert lines[-1] == "19,501 added, 19.5 MB; `diff --all` lists every file"


def test_many_changes_are_a_collapsed_tree_in_a_page() -> None:
    """The page is small, its directories are closed, and it says how to see all."""
    page = many()._repr_html_()
    assert len(page) < 100_000
    assert "<details open" not in page
    assert "<details>" in page
    assert "diff --all" in page


def test_all_changes_are_listed_if_asked_for() -> None:
    """With `--all`, text and page have each file."""
    every = Changes(many().changes, every=True)
    assert len(str(every).splitlines()) == 1 + len(every)
    assert "diff --all" not in str(every) + every._repr_html_()
    assert every._repr_html_().count(".py ") == 19_500


def test_changes_are_a_sequence_with_sizes() -> None:
    """Python and JSON have all changes, whatever the text shows, with bytes as numbers and null for a directory."""
    assert len(many()) == 19_700
    assert FEW[1] == Change("A", "/etc/new", 12)
    assert [change.kind for change in FEW] == ["C", "A", "D"]
    assert FEW.as_json()[:2] == [
        {"change": "C", "path": "/etc", "size": None},
        {"change": "A", "path": "/etc/new", "size": 12},
    ]
    assert FEW.size == 12


def test_no_change_says_so() -> None:
    """Text and page are a phrase."""
    none = Changes(())
    assert (str(none), none._repr_html_(), none.as_json()) == ("no changes", "<p>no changes</p>", [])
    assert none


def test_names_from_a_container_are_text() -> None:
    """Markup, escape sequences, halves of characters and line breaks in a name do not reach a page or a terminal."""
    evil = "/<script>alert(1)</script>\x1b[2J\udcff\n\u202e"
    changes = Changes((Change("A", evil, 1),))
    page = changes._repr_html_()
    assert "<script" not in page
    assert page.isprintable()
    assert page.encode()
    assert all(line.isprintable() for line in str(changes).splitlines())


def test_a_deep_tree_is_no_recursion() -> None:
    """A cell can nest thousands of directories; the page nests some dozens, and neither form fails or is slow."""
    paths = ["/a" * depth for depth in range(1, 2000)]
    beside = [f"{path}/b" for path in paths]
    changes = Changes(
        tuple(sorted((Change("A", path, None) for path in paths + beside), key=lambda one: one.path)), True
    )
    assert 10 < outline(changes).depth <= 60
    assert "/a/a/a" in str(changes)


def test_a_chain_of_directories_is_one_entry() -> None:
    """Directories that have nothing but the next one are one line, with the counts of the last."""
    above = [Change("A", path, None) for path in ("/a", "/a/b", "/a/b/c")]
    changes = Changes((*above, Change("A", "/a/b/c/x", 3)))
    found = outline(changes)
    assert "a/b/c/" in re.sub(r"\s+", " ", found.text)
    assert found.depth == 1


def test_a_directory_above_that_was_not_reported_is_added() -> None:
    """A change whose parents are missing has its place in the tree."""
    assert tree([Change("D", "/a/b/c")]).children[0].children[0].files == {"D": 1}


def test_the_work_is_linear() -> None:
    """A hundred thousand changes are a page within seconds."""
    changes = many(100_000)
    began = time.process_time()
    assert str(changes)
    assert changes._repr_html_()
    assert time.process_time() - began < 10
