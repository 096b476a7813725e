"""What completion needs of a command: its spellings, and what their values are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.commands.grammar import ValueKind

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Command


@dataclass(frozen=True)
class Spelling:
    """One spelling of an option, the kind and the choices of its value; `equals` if that is given with `=` only."""

    flag: str
    kind: ValueKind
    choices: tuple[str, ...] = ()
    equals: bool = False


def spellings(command: Command) -> tuple[Spelling, ...]:
    """Return every spelling of a command's options."""
    return tuple(
        Spelling(flag, option.kind if option.value else ValueKind.NOTHING, option.choices, option.alone is not None)
        for flag, option in command.spelled.items()
    )
