"""`%container use`: what the cells of a notebook run with that name neither an image nor a container."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Option, Words
from nbcontainer.commands.options.mount_option import target_of, targets_of
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.commands.options.run_option import RunOption

USE = Command(
    "use",
    "[IMAGE]",
    "Set IMAGE or --name, and options, for cells that name neither an image nor a container; without arguments, show "
    "what such cells run with. Options of a cell come first, then these, then the traits; lists add up, and of mounts "
    "with one target the first counts.",
    (*RUN_OPTIONS, Option(("--reset",), "", "clear it")),
    most=1,
    examples=EXAMPLES["use"],
)

UNTRUSTED = "untrusted"
"""The name of the option for code that was not read."""

_NOT_UNTRUSTED = ("volume", "network")
"""Options with a trait that an untrusted run cannot have."""

_BY_NAME = {option.name: option for option in RUN_OPTIONS}


def names_a_container(words: Words) -> bool:
    """Whether the arguments of a run name an image or a container."""
    return bool(words.operands) or words.has("name")


def copied(words: Words) -> Words:
    """Return arguments that can be changed without changing these."""
    options = {name: list(values) for name, values in words.options.items()}
    return Words(options, list(words.operands), list(words.tail), set(words.off))


def check(words: Words, image: str) -> None:
    """Raise `UsageError` for arguments of `use` that no cell can run with. `image` is the trait."""
    if not names_a_container(words) and not image:
        hint = "name one, as in `%container use host --here`"
        raise UsageError("use: missing image or container", hint=hint)


def add(words: Words, used: Words) -> None:
    """Add to the arguments of a run those of `use` that they neither have nor turn off.

    Values of repeated options come first; a mount with the target of one of the run's own is left out.
    """
    words.operands[:0] = used.operands
    own = targets_of(words)
    for name, values in used.options.items():
        option = _BY_NAME[name]
        if option.repeated:
            words.options[name] = [*_beside(own, name, values), *words.all(name)]
        elif name not in words.off:
            words.options.setdefault(name, list(values))


def _beside(own: set[str], name: str, values: Iterable[str]) -> Iterator[str]:
    """Yield the values of a repeated option but for mounts at the targets `own`."""
    return (value for value in values if target_of(name, value) not in own)


def add_setting(words: Words, option: RunOption, value: str | Iterable[str]) -> None:
    """Add the value of a trait to the arguments of a run, unless the run is untrusted and must not have it.

    A mount with the target of one that is there already is left out.
    """
    if words.has(UNTRUSTED) and option.name in _NOT_UNTRUSTED:
        return
    if option.repeated:
        words.options[option.name] = [*_beside(targets_of(words), option.name, value), *words.all(option.name)]
    else:
        words.options.setdefault(option.name, [str(value)])


def describe(words: Words) -> str:
    """Return the line of a cell that runs with these arguments and names its image itself."""
    parts = [*words.operands]
    for name, values in words.options.items():
        option = _BY_NAME[name]
        for value in values:
            parts += option.words(value)
    return " ".join(("%%container", *(_written(part) for part in parts)))


def sources(words: Words, used: Words | None) -> list[str]:
    """Return a line for each setting of a cell that names nothing itself: the setting, and where it comes from."""
    own = used or Words()
    lines = [(word, _USE if word in own.operands else _trait("image")) for word in words.operands]
    for name, values in words.options.items():
        option = _BY_NAME[name]
        for value in values:
            place = _USE if value in own.all(name) else _trait(option.keyword)
            lines.append((" ".join(map(_written, option.words(value))), place))
    width = max((len(setting) for setting, _ in lines), default=0)
    return [f"  {setting:<{width}}  {place}" for setting, place in lines]


_USE = "from `%container use`"


def _trait(name: str) -> str:
    return f"from ContainerMagics.{name} (%config, or a configuration file)"


def _written(word: str) -> str:
    return shlex.quote(word.replace("{", "{{").replace("}", "}}"))
