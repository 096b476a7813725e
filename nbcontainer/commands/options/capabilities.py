"""`--cap-add` and `--cap-drop`: from arguments to the set of capabilities that root has in a container."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.linux.process import CAPABILITIES
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ALL = "ALL"
_EVERY = set(CAPABILITIES)


def chosen(cap_add: Sequence[str] = (), cap_drop: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the default set without some and with others, by name. Raises `UsageError`.

    The names may begin with CAP_. ALL is all of them, and applies before the names of the other option.
    """
    if not cap_add and not cap_drop:
        return DEFAULT_CAPABILITIES
    added, dropped = _names("--cap-add", cap_add), _names("--cap-drop", cap_drop)
    if (both := added & dropped) and _EVERY not in (added, dropped):
        raise UsageError(f"{min(both)} is both added and dropped", hint="remove one of the two options")
    kept = added - dropped if added == _EVERY else (set(DEFAULT_CAPABILITIES) - dropped) | added
    return tuple(sorted(kept))


def _names(option: str, words: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for word in words:
        name = word.upper().removeprefix("CAP_")
        if name == _ALL:
            found |= _EVERY
        elif name in CAPABILITIES:
            found.add(name)
        else:
            near = difflib.get_close_matches(name, CAPABILITIES, 1)
            hint = f"did you mean {near[0]}" if near else "see capabilities(7) for their names"
            raise UsageError(f"unknown capability '{word}' for {option}", hint=hint)
    return found
