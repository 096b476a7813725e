"""What a cell of a table holds: text, a size, a time, a state. Each has its text, its HTML and its plain text."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from nbcontainer.rendering import page, quantities


class Field(Protocol):
    """A value in a table."""

    @property
    def plain(self) -> str:
        """The value without decoration, the same at any time."""
        ...

    @property
    def text(self) -> str:
        """The value as a terminal shows it."""
        ...

    def html(self, largest: int) -> str:
        """Return the value as HTML. `largest` is the largest size in the column, in bytes."""
        ...


class Sign(enum.StrEnum):
    """The sign before a state."""

    GOOD = "✓"
    WARN = "!"
    BAD = "✗"
    NONE = ""

    @property
    def kind(self) -> str:
        """Its class in a page."""
        return "" if self is Sign.NONE else self.name.lower()


@dataclass(frozen=True)
class Text:
    """Text. `dim` text is secondary."""

    plain: str
    dim: bool = False

    @property
    def text(self) -> str:
        """The text."""
        return self.plain

    def html(self, _: int = 0) -> str:
        """Return the text, escaped."""
        return page.span(self.plain, "dim" if self.dim else "")


@dataclass(frozen=True)
class Size:
    """Bytes. In a page, a bar shows them relative to the largest of the column."""

    number: int

    @property
    def plain(self) -> str:
        """The number with a unit."""
        return quantities.size(self.number)

    text = plain

    def html(self, largest: int) -> str:
        """Return the number with its bar; the exact number is the tooltip."""
        said = page.span(self.plain, "unit", tip=f"{self.number:,} bytes")
        if not self.number or largest <= 0:
            return said
        return (
            f'{said}<span class="bar" style="width:{max(1, round(100 * self.number / largest)) * 0.06:.2f}em"></span>'
        )


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, which a page keeps on one line."""

    plain: str

    @property
    def text(self) -> str:
        """The number with its unit."""
        return self.plain

    def html(self, _: int = 0) -> str:
        """Return the number with its unit, escaped."""
        return page.span(self.plain, "unit" if self.plain else "")


@dataclass(frozen=True)
class When:
    """A time in RFC 3339, shown as an age."""

    plain: str

    @property
    def text(self) -> str:
        """The age."""
        return quantities.ago(self.plain)

    def html(self, _: int = 0) -> str:
        """Return the age; the date is the tooltip."""
        return page.span(self.text, "unit", tip=quantities.date(self.plain))


@dataclass(frozen=True)
class State:
    """A state: a word, and a sign before it."""

    plain: str
    sign: Sign = Sign.NONE

    @property
    def text(self) -> str:
        """The sign and the word."""
        return f"{self.sign} {self.plain}".strip()

    def html(self, _: int = 0) -> str:
        """Return both on one line; the sign is coloured."""
        if self.sign is Sign.NONE:
            return page.escape(self.plain)
        return f"{page.span(self.sign, self.sign.kind)}&nbsp;{page.escape(self.plain)}"
