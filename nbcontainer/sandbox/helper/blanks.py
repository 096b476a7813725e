"""What differs in the steps of one container and the next: its name, and the directories of its write layer.

The operations of a step are made with a blank in place of such a text, and kept. Each container's own texts are then
filled in. A blank is as long as the text, so that all sizes and places stay right, and random: no other text has it.
"""

from __future__ import annotations

import functools
import os
import secrets
from typing import TYPE_CHECKING

from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.steps.namespaces import SetHostname
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.program import Execute

if TYPE_CHECKING:
    from collections.abc import Iterable

Filling = tuple[tuple[bytes, bytes], ...]
"""Blanks, each with the text for its place."""

_SHORTEST = 12
"""Bytes of the random names of containers. A blank for a shorter text might be in another one by chance."""

_HOSTNAME = "HOSTNAME="


def with_blanks(step: object) -> tuple[object, Filling]:
    """Return a step that makes the same calls as this one, but for the blanks in it, and what to fill them with."""
    if type(step) is SetHostname:
        name, filling = _blanked("name", step.name)
        return (SetHostname(name), filling) if filling else (step, ())
    if type(step) is MountOverlay and step.upper is not None and step.work is not None:
        upper, filling = _blanked("upper", step.upper)
        work, more = _blanked("work", step.work)
        return MountOverlay(step.lowers, upper, work, step.target), (*filling, *more)
    if type(step) is AttachRoot:  # what it attaches travels
        return AttachRoot(step.lowers, ""), ()
    if isinstance(step, Execute):
        return _execute_with_blank(step)
    return step, ()


def name_with_blank(name: str | None) -> tuple[str | None, Filling]:
    """Return the blank for the name that an init has, and what to fill it with."""
    return (None, ()) if name is None else _blanked("name", name)


def fill(raw: bytes, filling: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return bytes in which each blank is filled."""
    for blank, text in filling:
        raw = raw.replace(blank, text)
    return raw


def _execute_with_blank(step: Execute) -> tuple[Execute, Filling]:
    """A program has the container's name in HOSTNAME, and nothing that `Execute` does depends on it."""
    for place, item in enumerate(step.env):
        if item.startswith(_HOSTNAME):
            name, filling = _blanked("variable", item[len(_HOSTNAME) :])
            env = (*step.env[:place], _HOSTNAME + name, *step.env[place + 1 :])
            return type(step)(step.argv, env, step.cwd, step.terminal, step.terminal_input), filling
    return step, ()


def _blanked(place: str, text: str) -> tuple[str, Filling]:
    raw = os.fsencode(text)
    if len(raw) < _SHORTEST:
        return text, ()
    blank = _blank(place, len(raw))
    return blank, ((blank.encode(), raw),)


@functools.lru_cache(256)
def _blank(place: str, size: int) -> str:
    """Return the blank for texts of `size` bytes in one kind of place: a name, and a path without its slashes."""
    return secrets.token_hex((size + 1) // 2)[:size]
