"""What verbs return, as text, as a page and as JSON."""

from __future__ import annotations

import json

import pytest

from nbcontainer.commands.views import CellRow, ContainerRow, Document, Note, Table, UsageRow, listings, short
from nbcontainer.errors import UsageError
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox.launcher.failures import setup_failed

TABLE = Table(("name", "last cell"), (("a<b>", "echo 'hi' & ls"), ("longer", "")), "no rows")


def test_a_table_as_text_is_in_columns() -> None:
    """Columns are as wide as their widest text, and no line ends in spaces."""
    assert str(TABLE) == "NAME    LAST CELL\na<b>    echo 'hi' & ls\nlonger"
    assert repr(TABLE) == str(TABLE)


ESCAPE = "\x1b]0;a title\x07\u202e\n"
WRITTEN_OUT = r"\x1b]0;a title\x07\u202e\n"


def test_a_terminal_obeys_nothing_in_a_table() -> None:
    """What a file or a step of an image is called cannot write elsewhere on the screen; in JSON it is as it is."""
    table = Table(("change", "path"), (("A", f"/a{ESCAPE}é"),))
    assert str(table) == f"CHANGE  PATH\nA       /a{WRITTEN_OUT}é"
    assert table.as_json() == [{"change": "A", "path": f"/a{ESCAPE}é"}]


def test_a_terminal_obeys_nothing_in_an_error() -> None:
    """An error is one line, whatever an image has for the name of its user."""
    error = setup_failed({"step": "SetUser", "errno": 2, "error": f"no user {ESCAPE} in the image", "path": ""})
    assert WRITTEN_OUT in str(error)
    assert str(error).isprintable()
    assert str(UsageError("half a letter \udc80", hint=ESCAPE)) == rf"half a letter \udc80; {WRITTEN_OUT}"


def test_a_table_as_a_page_is_escaped() -> None:
    """What a container is named or a cell is made of cannot become markup, or reorder the text, of the page."""
    page = TABLE._repr_html_()
    assert ">a&lt;b&gt;</td>" in page
    assert ">echo &#x27;hi&#x27; &amp; ls</td>" in page
    assert page.count('align="left" style="text-align:left"') == page.count("<td") + page.count("<th ") == 6
    assert WRITTEN_OUT in Table(("path",), ((f"/a{ESCAPE}",),))._repr_html_()


def test_a_table_as_json_is_objects() -> None:
    """The headings are the keys."""
    assert TABLE.as_json()[0] == {"name": "a<b>", "last cell": "echo 'hi' & ls"}


def test_an_empty_table_says_so() -> None:
    """A table without rows is a phrase, and an empty list in JSON."""
    empty = Table(("name",), (), "no <rows>")
    assert (str(empty), empty._repr_html_(), empty.as_json()) == ("no <rows>", "<p>no &lt;rows&gt;</p>", [])


def test_documents_and_notes() -> None:
    """A document is its JSON, a note its line; both give JSON what they hold."""
    value = {"name": "dev", "layers": ["a"]}
    assert json.loads(str(Document(value))) == value
    assert Document(value).as_json() == value
    assert repr(Document(value)) == str(Document(value))
    assert (str(Note("removed dev")), repr(Note("x")), Note("x").as_json()) == ("removed dev", "x", "x")


def test_short_digests() -> None:
    """Twelve digits, without the name of the hash."""
    assert short("sha256:" + "0123456789abcdef" * 4) == "0123456789ab"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (ContainerRow("dev", state="running"), "✓ running"),
        (ContainerRow("dev"), "stopped"),
        (ContainerRow("dev", incomplete=True), "! stopped, incomplete"),
        (ContainerRow("dev", state="damaged"), "✗ damaged"),
    ],
)
def test_the_state_of_a_container_has_a_sign(row: ContainerRow, text: str) -> None:
    """A container that runs, one that lost changes and a damaged one are told apart by a sign and by a word."""
    table = listings.container_list([row])
    assert text in str(table)
    assert table.rows[0][2] == text.lstrip("✓✗! ")


def test_a_row_has_the_fields_of_its_value() -> None:
    """A table is a sequence of Python values: numbers are numbers there, and in JSON too."""
    table = listings.container_list([ContainerRow("dev", "busybox", cells=12, notebook="a.ipynb")])
    assert table[0].cells == 12
    assert [row.name for row in table] == ["dev"]
    assert (len(table), table.as_json()[0]["cells"], table.as_json()[0]["notebook"]) == (1, 12, "a.ipynb")


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (Outcome(Reason.EXITED, 0), "✓ exited"),
        (Outcome(Reason.EXITED, 3), "✗ exited"),
        (Outcome(Reason.INTERRUPTED, 137, 9), "! interrupted"),
        (Outcome(Reason.OUT_OF_MEMORY, 137, 9), "✗ out of memory"),
    ],
)
def test_a_history_shows_how_cells_ended(outcome: Outcome, text: str) -> None:
    """Each cell has a sign, and JSON has the whole outcome in the form that `inspect` shows."""
    table = listings.cell_list([CellRow(1, "2026-11-24T20:00:00Z", outcome, changed=True, command="make")])
    assert text in str(table)
    assert table.as_json()[0]["outcome"] == outcome.as_dict()


def _cells(number: int) -> list[CellRow]:
    outcome = Outcome(Reason.EXITED, 0)
    return [CellRow(one, "2026-11-24T20:00:00Z", outcome, changed=True, command=f"echo {one}") for one in range(number)]


def test_the_page_of_a_long_history_is_as_small_as_that_of_its_newest_cells() -> None:
    """A page has the newest 100 cells and a line that says how to list the others; text and JSON have all."""
    table = listings.cell_list(_cells(1000), every="%container history dev --all")
    shown = listings.cell_list(_cells(100))._repr_html_()
    page = table._repr_html_()
    assert len(page) < 1.1 * len(shown)
    assert "900 earlier cells: `%container history dev --all`" in page
    assert ">echo 900<" in page
    assert ">echo 899<" not in page
    assert str(table).count("\n") == len(table.as_json()) == 1000


def test_all_cells_of_a_long_history_are_collapsed_on_its_page() -> None:
    """Without a command that lists all, the page has all cells, and the earlier ones are collapsed."""
    page = listings.cell_list(_cells(101))._repr_html_()
    before, _, after = page.partition("</details>")
    assert "<details><summary>" in before
    assert "1 earlier cell<" in before
    assert ">echo 0<" in before
    assert ">echo 1<" not in before
    assert ">echo 100<" in after


def test_a_short_history_is_not_folded() -> None:
    """With at most 100 cells, the page is one table."""
    assert "details" not in listings.cell_list(_cells(100))._repr_html_()


def test_sizes_have_bars() -> None:
    """In a page, a bar is as long as its size is beside the largest one; the total, and nothing, have none."""
    rows = [UsageRow("image", "a", 4000), UsageRow("image", "b", 1000), UsageRow("image", "c", 0)]
    page = listings.usage_list([*(UsageRow(row.kind, row.name, row.own, 0) for row in rows), rows[0]])._repr_html_()
    assert page.count('class="bar"') == 2
    assert 'style="width:6.00em"' in page
    assert 'style="width:1.50em"' in page
