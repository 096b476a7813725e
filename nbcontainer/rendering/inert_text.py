"""The output of an untrusted run as text with colours: no other control of a terminal or of a page passes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = re.compile(rb"\x1b\[[0-9;:]{0,32}m")
"""Select Graphic Rendition, the one sequence that passes (ECMA-48, 8.3.117)."""

_CONTROLS = re.compile(rb"\x1b\[[0-9;:]{0,32}m|\xc2[\x80-\x9f]|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f]")
"""That sequence, the C1 controls as UTF-8, and the C0 controls except backspace, tab, line feed and return."""

_BEGUN = re.compile(rb"(?:\x1b(?:\[[0-9;:]{0,32})?|\xc2)\Z")
"""What may become one of them with the next bytes."""

_SHOWN = "\N{REPLACEMENT CHARACTER}".encode()


class InertText:
    """A sink in front of `sink` that replaces control characters."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._held = b""

    def __call__(self, data: bytes) -> None:
        """Pass some output. The beginning of a sequence is held until its end has come, if it comes."""
        data = self._held + data
        begun = _BEGUN.search(data)
        self._held = data[begun.start() :] if begun else b""
        self._pass(data[: len(data) - len(self._held)])

    def _pass(self, data: bytes) -> None:
        if data:
            self._sink(_CONTROLS.sub(lambda found: found[0] if _KEPT.fullmatch(found[0]) else _SHOWN, data))
