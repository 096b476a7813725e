"""The output of a cell on the page: most of it is made with the first output."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.grammar import Words
from nbcontainer.errors import UsageError
from nbcontainer.notebook.cell_magic.output_on_page import OutputOnPage
from nbcontainer.store.layout import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path / "store", (os.geteuid(), os.getegid()))) as made:
        yield made


def page(store: Store, options: dict[str, list[str]] | None = None, limit: int = 100) -> OutputOnPage:
    return OutputOnPage(
        Words(options or {}), store, lambda: limit, trust=False, untrusted="untrusted" in (options or {})
    )


def test_output_goes_to_the_streams_of_the_beginning(store: Store) -> None:
    """Output is written to the streams that Python had when the cell began, whichever it has when the output comes."""
    begin, begin_err, later = io.StringIO(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(begin), contextlib.redirect_stderr(begin_err):
        output = page(store)
        streams = output.streams(print, None)
    with contextlib.redirect_stdout(later), contextlib.redirect_stderr(later):
        streams.stdout("né".encode()[:2])
        streams.stderr(b"wrong")
        streams.stdout("é".encode()[1:])
        output.finish({})
    assert (begin.getvalue(), begin_err.getvalue(), later.getvalue()) == ("né", "wrong", "")
    assert output.last_errors == b"wrong"


def test_both_streams_share_the_limit(store: Store) -> None:
    """Past the limit of both streams together the whole output is in one file of the store."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        output = page(store, limit=10)
        streams = output.streams(print, None)
        streams.stdout(b"x" * 8)
        streams.stderr(b"y" * 8)
        output.finish({})
    (file,) = (file for file in (store.path / "tmp").iterdir() if file.is_file())
    assert file.read_bytes() == b"x" * 8 + b"y" * 8
    assert "all 16 bytes of output" in shown.getvalue()


def test_variables_get_the_streams(store: Store) -> None:
    """A stream with a variable is not shown, and its variable is set also if nothing was written."""
    shown = io.StringIO()
    names: dict[str, str] = {}
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        output = page(store, {"out": ["lines"], "err": ["errors"]})
        streams = output.streams(print, None)
        streams.stderr(b"wrong")
        output.finish(names)
    assert (names, shown.getvalue(), output.last_errors) == ({"lines": "", "errors": "wrong"}, "", b"wrong")


def test_what_cannot_be_shown_so_is_an_error_before_the_cell(store: Store) -> None:
    """An invalid variable, and an untrusted cell that is to be trusted, are errors before there is any output."""
    with pytest.raises(UsageError, match="invalid variable name"):
        page(store, {"out": ["1x"]})
    with pytest.raises(UsageError, match="--trust-output"):
        page(store, {"untrusted": [""], "trust-output": [""]})
