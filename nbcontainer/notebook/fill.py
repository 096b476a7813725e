"""`{expression}` in a magic's words, filled from the notebook."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _Formatter(string.Formatter):
    """Evaluates the whole field as an expression, where str.format knows names, attributes and keys only."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = dict(namespace)

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return eval(field_name, self._namespace), field_name  # the notebook's own code, in the notebook's own process


def filler(namespace: Mapping[str, Any]) -> Callable[[str], str]:
    """A function that fills `{expression}` in a word; `{{` and `}}` are braces. It raises `UsageError`."""
    formatter = _Formatter(namespace)

    def fill(word: str) -> str:
        if "{" not in word and "}" not in word:
            return word
        try:
            return formatter.vformat(word, (), {})
        except Exception as error:
            hint = "write {{ and }} for braces that are meant as such"
            raise UsageError(f"cannot fill {word!r}: {type(error).__name__}: {error}", hint=hint) from None

    return fill
