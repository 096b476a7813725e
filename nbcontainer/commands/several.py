"""Verbs with several operands do what they can for each, as Docker's do, and then raise what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nbcontainer.errors import NbcontainerError
from nbcontainer.rendering.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Result = TypeVar("Result")


def tried(
    operands: Sequence[str], do: Callable[[str], Result]
) -> tuple[list[tuple[str, Result]], list[NbcontainerError]]:
    """Return each operand with what `do` returned for it, and the errors of the others."""
    done, errors = [], []
    for operand in operands:
        try:
            done.append((operand, do(operand)))
        except NbcontainerError as error:
            errors.append(error)
    return done, errors


def raise_first(errors: Sequence[NbcontainerError], done: str = "") -> None:
    """Raise the first error, if there is one: its message has those of the others, and then `done`, what was done.

    The hint is that of the first.
    """
    if not errors:
        return
    first = errors[0]
    messages = list(dict.fromkeys(error.message for error in errors))
    first.message = "; ".join((*messages, done) if done else messages)
    first.args = (visible(f"{first.message}; {first.hint}" if first.hint else first.message),)
    raise first
