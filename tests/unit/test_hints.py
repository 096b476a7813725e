"""Each error says what to do next."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import nbcontainer
from nbcontainer import errors
from nbcontainer.errors import NbcontainerError
from tests.documents import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator


def without_hint() -> Iterator[str]:
    """The places that make an error without a hint of their own, of a class that has no usual one."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            kind = kinds.get(node.func.id)
            if kind is None or not issubclass(kind, NbcontainerError) or kind.usual_hint:
                continue
            if not any(keyword.arg in ("hint", None) for keyword in node.keywords):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}"


def test_every_error_has_a_hint() -> None:
    """Where an error is made, it gets one, or its class has one for all. A failed cell is its own program's matter."""
    assert [one for one in without_hint() if "CellFailed(" not in one] == []


def test_the_usual_hint_is_in_the_error() -> None:
    """It is shown as any other hint is, and one of the error's own takes its place."""
    assert (
        str(nbcontainer.ImageError("it is damaged")) == "it is damaged; get or save the image again, or use another one"
    )
    assert str(nbcontainer.ImageError("it is damaged", hint="do that")) == "it is damaged; do that"
