"""What a cell runs with that its first line does not say: the traits, and what `%container use` has set."""

from __future__ import annotations

from typing import Any

from nbcontainer.commands.grammar import Words
from nbcontainer.errors import UsageError
from nbcontainer.notebook import defaults, live_cells
from nbcontainer.notebook.cell_magic.settings import Settings, text_of


class CellDefaults:
    """The defaults of one notebook's cells. `magics` has the traits: `image`, and those of the options."""

    def __init__(self, magics: Any) -> None:
        self._magics = magics
        self._settings = Settings(magics)
        self._used: Words | None = None

    def use(self, parsed: Words) -> None:
        """Run cells with these arguments from now on."""
        self._used = parsed

    def forget(self) -> None:
        """Forget what `use` has set."""
        self._used = None

    def apply(self, words: Words) -> None:
        """Add the defaults to a cell's arguments. Raises `UsageError` if none of them names an image.

        A process in a container that runs has the options of that container: of the traits, only its time limit.
        """
        if self._used is not None and not defaults.names_a_container(words):
            defaults.add(words, self._used)
        if not defaults.names_a_container(words):
            if not self._magics.image:
                hint = "write IMAGE before -s" if words.has("s") else "name one, as in `%%container busybox`"
                raise UsageError("missing image", hint=hint)
            words.operands.append(self._magics.image)
        joins = words.has("name") and live_cells.joins(self._magics.engine, words)
        for option, value in self._settings:
            if joins and option.name != "timeout":
                continue
            defaults.add_setting(words, option, value if option.repeated else text_of(option, value))

    def describe(self) -> str:
        """Return what a cell that names nothing runs with, and where each part of it was set."""
        words = Words()
        try:
            self.apply(words)
        except UsageError:
            return "nothing is set: each cell names an image or a container; `%container use IMAGE` sets one"
        return "\n".join((defaults.describe(words), *defaults.sources(words, self._used)))
