"""The traits of `ContainerMagics` that set defaults of options, made from the option table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traitlets import Bool, Float, List, TraitError, Unicode, Union

from nbcontainer.commands.grammar import Words
from nbcontainer.commands.options.option_fields import fields_of_words
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ContainerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traitlets import HasTraits

    from nbcontainer.commands.options.run_option import RunOption

CONFIGURABLE = tuple(option for option in RUN_OPTIONS if option.setting)
"""The options whose defaults a person can set."""


def trait(option: RunOption) -> Any:
    """Return the trait that sets an option's default."""
    if option.repeated:
        return List(Unicode(), help=option.setting).tag(config=True)
    if option.alone is not None:
        return Union([Unicode(), Bool()], default_value=option.default, help=option.setting).tag(config=True)
    kind = Unicode if option.number is None else Float
    return kind(option.default, help=option.setting).tag(config=True)


def checked(option: RunOption, value: Any) -> Any:
    """Return a trait's value if cells can have it. Raises `TraitError`.

    Whether a volume's directory exists is seen when a cell runs: it can be made after the setting.
    """
    texts = value if option.repeated else [text_of(option, value)]
    try:
        if value:
            run_options(fields_of_words(Words({option.name: list(texts)})))
    except UsageError as error:
        raise TraitError(f"invalid value of ContainerMagics.{option.keyword}: {error}") from None
    except ContainerError:
        pass
    return value


def text_of(option: RunOption, value: Any) -> str:
    """Return the text of the option for a trait's value that is not a list."""
    return (option.alone or "") if value is True else str(value)


class Settings:
    """The defaults of options that a person has set as traits of `owner`. They are read again only after a change."""

    def __init__(self, owner: HasTraits) -> None:
        self._owner = owner
        self._values: tuple[tuple[RunOption, Any], ...] | None = None
        owner.observe(self._forget, [option.keyword for option in CONFIGURABLE])

    def __iter__(self) -> Iterator[tuple[RunOption, Any]]:
        """Iterate over the options with a value of the person's own."""
        if self._values is None:
            values = ((option, getattr(self._owner, option.keyword)) for option in CONFIGURABLE)
            # A list can grow without a change that is observed.
            self._values = tuple(pair for pair in values if pair[0].repeated or pair[1] != pair[0].default)
        return ((option, value) for option, value in self._values if value)

    def _forget(self, _: object) -> None:
        self._values = None
