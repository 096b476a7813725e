"""How many hops a request takes through a cell: how often one module hands it to another.

The request changes its form on its way, from words to a plan. A function that is handed one of these forms by one of
another module is a hop. What a value answers about itself is none: a method of its own class that gets no other.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nbcontainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

PACKAGE = str(Path(nbcontainer.__file__).parent)

FORMS = frozenset(("Words", "Request", "RunOptions", "Cell", "TemplateSource", "Spec", "PlanTemplate", "Plan"))
"""The classes that a request is, one after the other; a volume is `Volume` in all of them."""


class Hop(NamedTuple):
    """A module, the module that it hands the request to, and the function there that takes it."""

    giver: str
    taker: str
    function: str


class Seen(NamedTuple):
    """What one cell showed: its hops, and all functions that were handed the request, each once, in order."""

    hops: list[Hop]
    functions: list[tuple[str, str]]


def watch(cell: Callable[[], object]) -> Seen:
    """Run a cell in this thread, and return who hands its request to whom."""
    hops: dict[Hop, None] = {}
    functions: dict[tuple[str, str], None] = {}

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not _takes_request(frame):
            return
        taker, giver = _module(frame.f_code), _giver(frame)
        functions[taker, frame.f_code.co_qualname] = None
        if giver not in ("", taker) and not _asks_the_value(frame):
            hops[Hop(giver, taker, frame.f_code.co_qualname)] = None

    sys.setprofile(profile)
    try:
        cell()
    finally:
        sys.setprofile(None)
    return Seen(list(hops), list(functions))


def _module(code: CodeType) -> str:
    return code.co_filename.removeprefix(PACKAGE)


def _arguments(frame: FrameType) -> list[object]:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [frame.f_locals.get(name) for name in names]


def _takes_request(frame: FrameType) -> bool:
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
        return False
    return any(type(value).__name__ in FORMS for value in _arguments(frame))


def _asks_the_value(frame: FrameType) -> bool:
    """Whether it is a method of a value that is handed no other. A cell is not a value: it acts."""
    own, *others = _arguments(frame)
    kind = type(own).__name__
    is_method = kind in FORMS - {"Cell"} and frame.f_code.co_qualname.startswith(f"{kind}.")
    return is_method and not any(type(value).__name__ in FORMS for value in others)


def _giver(frame: FrameType) -> str:
    """Return the module of this package that called it, at any distance."""
    caller = frame.f_back
    while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
        caller = caller.f_back
    return "" if caller is None else _module(caller.f_code)
