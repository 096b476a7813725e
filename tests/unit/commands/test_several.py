"""Verbs with several operands: each is tried, and what failed is raised at the end."""

from __future__ import annotations

import pytest

from nbcontainer.commands.several import raise_first, tried
from nbcontainer.errors import ContainerBusy, ContainerNotFound, NbcontainerError


def upper(name: str) -> str:
    """Does something with a name, unless it is `missing` or `busy`."""
    if name.startswith("missing"):
        raise ContainerNotFound(f"no container '{name}'", hint="see `ps`")
    if name == "busy":
        raise ContainerBusy("container 'busy' is running", hint="stop it first")
    return name.upper()


def test_an_operand_that_fails_keeps_no_other_from_being_done() -> None:
    """What was done is returned in order, and so are the errors."""
    done, errors = tried(["a", "missing", "b", "busy"], upper)
    assert done == [("a", "A"), ("b", "B")]
    assert [type(error) for error in errors] == [ContainerNotFound, ContainerBusy]


def test_one_error_has_all_messages_and_what_was_done() -> None:
    """The first error is raised, with its type and hint, and the messages of the others, each once."""
    _, errors = tried(["missing", "a", "busy", "missing"], upper)
    with pytest.raises(ContainerNotFound) as caught:
        raise_first(errors, "removed a")
    assert caught.value.message == "no container 'missing'; container 'busy' is running; removed a"
    assert str(caught.value) == f"{caught.value.message}; see `ps`"


def test_an_error_alone_is_as_it_was() -> None:
    """With one operand, nothing is added to its error; without an error, nothing is raised."""
    _, errors = tried(["missing"], upper)
    with pytest.raises(NbcontainerError) as caught:
        raise_first(errors)
    assert str(caught.value) == "no container 'missing'; see `ps`"
    raise_first([], "removed a")
