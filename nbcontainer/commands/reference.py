"""The option reference: `python -m nbcontainer.commands.reference` prints docs/reference-options.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.options.table import RUN_OPTIONS

if TYPE_CHECKING:
    from nbcontainer.commands.options.run_option import RunOption

_HEAD = """# Options of a run

<!-- Made by `python -m nbcontainer.commands.reference` from nbcontainer/commands/options/table.py. -->

The options of `%%container`, `%container run`, `nbcontainer run` and, by the keywords in the last column, of
`nbcontainer.run`. An option marked with `…` may be given several times.

| option | value | meaning | keyword |
|---|---|---|---|
"""


def markdown() -> str:
    """Return the reference as Markdown."""
    return _HEAD + "".join(_row(option) for option in RUN_OPTIONS)


def _row(option: RunOption) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.flags) + (" …" if option.repeated else "")
    value = f"[={option.value}]" if option.alone is not None else option.value
    value = f"`{value}`".replace("|", "\\|") if value else ""
    return f"| {flags} | {value} | {option.help} | `{option.keyword}` |\n"


if __name__ == "__main__":
    print(markdown(), end="")
