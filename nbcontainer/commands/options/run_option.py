"""A row of the option table: an option of a run, and how its value is made of texts and of Python's values."""

from __future__ import annotations

import contextlib
import numbers
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbcontainer.commands.grammar import Option, ValueKind
from nbcontainer.errors import UsageError
from nbcontainer.linux.paths import absolute
from nbcontainer.rendering.text import plain

_TYPES: dict[type, str] = {str: "a string", int: "a number", type(None): "None"}
_BITS = 256  # far above each limit, and far below the largest float


@dataclass(frozen=True, kw_only=True)
class RunOption(Option):
    """A row: an option of a run.

    `parse` makes the value of one text, and raises `UsageError`; `number` does so of a number, if Python callers may
    give one. `field` is the name of the value in `RunOptions` or in `Request`, empty for an option that changes
    nothing. A `repeated` option may be given several times, and its value is a tuple; `join` is what a Python caller's
    mapping is joined by, and `items` are the types of its values, where None leaves a name alone. `keyword` is its name
    in Python. `setting` is the help of the trait of `ContainerMagics` that sets its default, empty if there is none,
    and `default` is that trait's own default.
    """

    field: str
    parse: Callable[[str], Any] = str
    number: Callable[[float], Any] | None = None
    repeated: bool = False
    join: str = ""
    items: tuple[type, ...] = (str,)
    keyword: str = ""
    setting: str = ""
    default: Any = ""

    def __post_init__(self) -> None:
        if not self.keyword:
            object.__setattr__(self, "keyword", self.name.replace("-", "_"))

    def of_words(self, texts: list[str]) -> Any:
        """Return the value of an option that was written with these texts. Raises `UsageError`."""
        if not self.value:
            return True
        return tuple(map(self._parsed, texts)) if self.repeated else self._parsed(texts[-1])

    def _parsed(self, text: str) -> Any:
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            problem = f"the value {text!a} of {self.flags[-1]} is not Unicode text"
            raise UsageError(problem, hint="remove the character that is not") from None
        return self.parse(text)

    def of_keyword(self, value: Any) -> Any:
        """Return the value that a Python caller gave. Raises `UsageError`, and `TypeError` for a wrong type."""
        if self.repeated:
            return tuple(map(self._parsed, self._strings(value)))
        if not self.value and isinstance(value, bool):
            return value
        if not self.value:
            raise TypeError(f"{self.keyword} must be True or False, not {type(value).__name__}")
        if isinstance(value, str):
            return self._parsed(value)
        if self.alone is not None and isinstance(value, bool):
            return self.alone if value else ""
        if self.number is not None and isinstance(value, numbers.Real) and not isinstance(value, bool):
            # One of NumPy, for example, becomes one of Python.
            return self.number(self._in_range(int(value) if isinstance(value, numbers.Integral) else float(value)))
        expected = "a string" if self.number is None else "a number or a string"
        raise TypeError(f"{self.keyword} must be {expected}, not {type(value).__name__}")

    def _in_range(self, value: float) -> float:
        """Return a number of which a float can be made. Raises `UsageError`."""
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise UsageError(f"the number of {self.flags[-1]} is too large", hint="write a smaller one")
        return value

    def _strings(self, value: Any) -> list[str]:
        if isinstance(value, Mapping) and self.join:
            return [self._pair(key, item) for key, item in value.items()]
        return strings(self.keyword, value)

    def _pair(self, key: Any, item: Any) -> str:
        """Return the text of an item of a mapping. Raises `TypeError`, `UsageError`."""
        if isinstance(key, os.PathLike) and self.kind is ValueKind.VOLUME:
            key = absolute(key).as_posix()  # without a slash it would name a volume
        if not isinstance(key, str):
            raise TypeError(f"{self.keyword} must be a mapping of strings, and has the key {key!r}")
        if not isinstance(item, self.items) or isinstance(item, bool):
            raise TypeError(f"{self.keyword}[{key!r}] must be {self._items()}, not {type(item).__name__}")
        if self.join in key:
            problem = f"invalid name {key!r} in {self.keyword}: it contains {self.join!r}"
            raise UsageError(problem, hint=f"write {self.keyword}={{name: value}}")
        return key if item is None else f"{key}{self.join}{plain(item)}"

    def _items(self) -> str:
        return " or ".join(_TYPES[kind] for kind in self.items)


def string(keyword: str, value: Any) -> str:
    """Return a Python caller's string. Raises `TypeError` for another thing."""
    if not isinstance(value, str):
        raise TypeError(f"{keyword} must be a string, not {type(value).__name__}")
    return value


def strings(keyword: str, value: Any) -> list[str]:
    """Return a Python caller's list of strings. Raises `TypeError` for one string, and for other things in the list."""
    if isinstance(value, str | bytes):
        words: list[str | bytes] = [value]
        if keyword == "command" and isinstance(value, str):
            with contextlib.suppress(ValueError):  # a quote without its end
                words = [*shlex.split(value)] or words
        raise TypeError(f"{keyword} must be a list of strings, not one string: write {keyword}={words!r}")
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise TypeError(f"{keyword} must be a list of strings, not {type(value).__name__}")
    found = list(value)
    for item in found:
        if not isinstance(item, str):
            raise TypeError(f"{keyword} must be a list of strings, and contains {item!r}")
    return found
