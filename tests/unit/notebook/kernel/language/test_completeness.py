"""Whether a cell of a shell can run, or waits for more lines."""

from __future__ import annotations

import pytest

from nbcontainer.notebook.kernel.language.completeness import COMPLETE, INCOMPLETE, completeness
from nbcontainer.notebook.kernel.magics import first_magics


@pytest.mark.parametrize("end", ["\f", "\v", "\x1c", "\x85", "\u2028", "\r"])
def test_a_here_document_ends_at_a_line_of_the_shell(end: str) -> None:
    """A character that ends a line for `str.splitlines` alone does not end it for a shell."""
    assert completeness(f"cat <<E\nx{end}E", lambda _: "0\n")[0] == INCOMPLETE
    assert completeness(f"cat <<E\nx{end}E\nE", lambda _: "0\n")[0] == COMPLETE


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("%container ps\n\n%commit x\n\necho a\n", (["container ps", "commit x"], "echo a\n")),
        ("%commit x", (["commit x"], "")),
        ("\n%commit x", ([], "\n%commit x")),
        ("echo a\n%commit x", ([], "echo a\n%commit x")),
        ("%commit x\v%y\necho", (["commit x\v%y"], "echo")),
        ("", ([], "")),
    ],
)
def test_magics_come_first(code: str, found: tuple[list[str], str]) -> None:
    """A cell's magics are lines before all others; the rest is as it was written."""
    assert first_magics(code) == found
