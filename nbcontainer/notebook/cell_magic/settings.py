"""The traits of `ContainerMagics` that set defaults of options, made from the option table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traitlets import Bool, Float, List, Unicode, Union

from nbcontainer.commands.options.table import RUN_OPTIONS

if TYPE_CHECKING:
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


def settings_of(owner: HasTraits) -> tuple[tuple[RunOption, Any], ...]:
    """Return the options whose default a person has set, with the values. A list is always one of them: it can grow."""
    values = ((option, getattr(owner, option.keyword)) for option in CONFIGURABLE)
    return tuple((option, value) for option, value in values if option.repeated or value != option.default)
