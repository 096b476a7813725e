"""Lines, JSON documents and notes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nbcontainer.rendering.text import visible


@dataclass(frozen=True)
class Lines:
    """One text a line, for scripts."""

    texts: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(map(visible, self.texts))

    __repr__ = __str__

    def as_json(self) -> list[str]:
        """Return the texts."""
        return list(self.texts)


@dataclass(frozen=True)
class Document:
    """A JSON document; not `ok` is a failure."""

    value: Any
    ok: bool = True

    def __str__(self) -> str:
        return json.dumps(self.value, indent=2)

    __repr__ = __str__

    def as_json(self) -> Any:
        """Return the value."""
        return self.value


@dataclass(frozen=True)
class Note:
    """One line that says what was done."""

    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def as_json(self) -> str:
        """Return the line."""
        return self.text
