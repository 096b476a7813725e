"""What verbs answer with, as text, as a page and as JSON."""

from __future__ import annotations

import json

import pytest

from nbcontainer.commands.views import Document, Note, Table, short, size
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.launcher.failures import setup_failed

TABLE = Table(("name", "last cell"), (("a<b>", "echo 'hi' & ls"), ("longer", "")), "no rows")


def test_a_table_as_text_is_in_columns() -> None:
    """Columns are as wide as their widest word, and no line ends in spaces."""
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
    """What a container is named or a cell is made of cannot become markup of the notebook's page."""
    page = TABLE._repr_html_()
    assert "<td>a&lt;b&gt;</td><td>echo &#x27;hi&#x27; &amp; ls</td>" in page
    assert "<th>name</th><th>last cell</th>" in page


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


def test_short_digests() -> None:
    """Twelve digits, without the name of the hash."""
    assert short("sha256:" + "0123456789abcdef" * 4) == "0123456789ab"
