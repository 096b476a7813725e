"""Colours for cells: `%%container` has a shell script or a Python program as its body, and not IPython's Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.lib.lexers import IPython3Lexer
from pygments.lexer import Lexer
from pygments.lexers.python import PythonLexer
from pygments.lexers.shell import BashLexer
from pygments.token import Keyword, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = re.compile(r"(%%\w+)(.*\n?)")
_PYTHON = re.compile(r"--python\b|--live=python\b")
_SHELLS = ("%%container", "%%sh", "%%bash")


class CellLexer(Lexer):  # type: ignore[misc]
    """Colours a cell by its first line."""

    name = "cell"
    aliases = ("ipython", "cell")
    url = ""

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Any, str]]:
        """Return the tokens of a cell: (position, type, text)."""
        found = _MAGIC.match(text)
        if not found or found[1] not in _SHELLS:
            yield from IPython3Lexer(**self.options).get_tokens_unprocessed(text)
            return
        yield 0, Keyword, found[1]
        yield found.end(1), Text, found[2]
        body = PythonLexer if _PYTHON.search(found[2]) else BashLexer
        for position, kind, token in body(**self.options).get_tokens_unprocessed(text[found.end() :]):
            yield found.end() + position, kind, token


def setup(app: Any) -> dict[str, bool]:
    """Register the lexer with Sphinx."""
    app.add_lexer("ipython", CellLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
