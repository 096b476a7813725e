"""The option reference: `python -m docs.option_reference` prints docs/reference-options.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.notebook.cell_magic.grammars import CELL

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Option
    from nbcontainer.commands.options.run_option import RunOption

_HEAD = """# Options of a run

<!-- Made by `python -m docs.option_reference` from nbcontainer/commands/options/table.py and the grammar of cells. -->

The options of `%%container`, `%container run`, `nbcontainer run` and, by the keywords in the last column, of
`nbcontainer.run`. An option marked with `…` may be given several times.

| option | value | meaning | keyword |
|---|---|---|---|
"""

_CELLS = """
## Options of cells alone

`%%container` has these, too; `%container run` and `nbcontainer run` have some of them (`--help`). They are about the
notebook, its variables and its input. `--in` and `--get` may be given several times.

| option | value | meaning |
|---|---|---|
"""


def markdown() -> str:
    """Return the reference as Markdown."""
    own = [option for option in CELL.options if option not in RUN_OPTIONS]
    return _HEAD + "".join(map(_row, RUN_OPTIONS)) + _CELLS + "".join(map(_cell_row, own))


def _row(option: RunOption) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.flags) + (" …" if option.repeated else "")
    return f"| {flags} | {_value(option)} | {option.help} | `{option.keyword}` |\n"


def _cell_row(option: Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    return f"| {flags} | {_value(option)} | {option.help} |\n"


def _value(option: Option) -> str:
    value = f"[={option.value}]" if option.alone is not None else option.value
    return f"`{value}`".replace("|", "\\|") if value else ""


if __name__ == "__main__":
    print(markdown(), end="")
