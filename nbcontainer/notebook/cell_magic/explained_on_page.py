"""What `--explain` shows of a cell: made while the cell runs, and shown below its output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.display_functions import display

from nbcontainer.commands.explanation_view import ExplanationPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.explanation import Explanation
    from nbcontainer.sandbox.steps.base import Language


class ExplainedOnPage:
    """The explanation of one cell, in a language that is asked for when it is needed."""

    def __init__(self, language: Callable[[], Language]) -> None:
        self._language = language
        self._page: ExplanationPage | None = None
        self._box: dict[str, str] | None = None

    def take(self, explanation: Explanation) -> None:
        """Make what is shown. The cell is started, or runs, meanwhile: what is made of its first steps is kept.

        Raises `SandboxError` if what init noted is damaged.
        """
        if self._page is None:
            self._page = ExplanationPage(self._language())
        self._page.add(explanation)
        if explanation.whole:
            self._box = {"text/plain": self._page.text, "text/html": self._page.html()}

    def show(self) -> None:
        """Show it, if the cell was explained."""
        if self._box is not None:
            display(self._box, raw=True)  # type: ignore[no-untyped-call]
