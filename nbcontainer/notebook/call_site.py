"""The notebook's code that calls a magic: its local variables, and whether it uses the value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any

_MACHINERY = frozenset(("IPython", "decorator", "nbcontainer"))
"""Packages between a notebook's function and its magics."""

_DROPS = frozenset(("POP_TOP", "PRINT_EXPR"))
"""Operations that use no value: the one of a statement, and the one of the last line of a cell (Python 3.11)."""

_PRINTS = ("CALL_INTRINSIC_1", 1)
"""The latter operation from Python 3.12: INTRINSIC_PRINT (dis)."""


def local_names(notebook: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the local variables of the function that called the magic; none at the top of the notebook."""
    frame = _caller()
    return {} if frame is None or frame.f_locals is notebook else frame.f_locals


def ignores_value() -> bool:
    """Return whether the statement that called the magic is nothing but the call: its value is shown or dropped."""
    frame = _caller()
    if frame is None:
        return False
    import dis

    following = (one for one in dis.get_instructions(frame.f_code) if one.offset > frame.f_lasti)
    after = next(following, None)
    return after is not None and (after.opname in _DROPS or (after.opname, after.arg) == _PRINTS)


def _caller() -> FrameType | None:
    """Return the frame of the code that called the magic."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _MACHINERY:
        frame = frame.f_back
    return frame
