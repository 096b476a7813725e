"""What was done for a run, as text, as JSON and as a page: a table of the steps, and a timeline.

The page has neither scripts nor images. Its colours are those of JupyterLab where it is shown there, and else the
page's own.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.call_text import manual_page
from nbcontainer.rendering import page
from nbcontainer.sandbox.explanation import ExplainedStep
from nbcontainer.sandbox.steps.base import Language

if TYPE_CHECKING:
    from nbcontainer.sandbox.explanation import Explanation
    from nbcontainer.sandbox.steps.base import Step

_WIDTH, _ROW, _LEFT = 760, 18, 190  # of the timeline, in its own units
_FOLDED = 6
"""More calls of a step than these are folded."""

_HEADINGS = {
    Language.ENGLISH: ("step", "system calls", "purpose", "without it, an attacker in the container …", "µs"),
    Language.CHINESE: ("步骤", "系统调用", "目的", "没有这一步，容器里的攻击者……", "微秒"),
}
_AHEAD = {Language.ENGLISH: "done before the cell", Language.CHINESE: "在单元格之前已完成"}
_FROM_PLAN = {Language.ENGLISH: "after the cell was sent", Language.CHINESE: "收到单元格之后"}
_CALLS = {Language.ENGLISH: "{} calls", Language.CHINESE: "{} 个调用"}
_TIMELINE = {Language.ENGLISH: "When each step ran", Language.CHINESE: "每一步的时间"}


@dataclass(frozen=True)
class ExplanationView:
    """An explanation in a language."""

    explanation: Explanation
    language: Language = Language.ENGLISH

    def __str__(self) -> str:
        return str(self.explanation)

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))  # IPython would look at each line

    def with_words(self) -> str:
        """Return the system calls under the descriptions of their steps, which begin with `#`."""
        lines = []
        for step in self.explanation:
            words = step.words(self.language)
            mark = f" ({_AHEAD[self.language]})" if step.ahead else ""
            lines += [f"# {words.description}{mark}: {words.why}", *step.texts]
        return "\n".join(lines)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the steps as JSON values. Times are in microseconds."""
        return self.explanation.as_json(self.language)

    def _repr_html_(self) -> str:
        made = ExplanationPage(self.language)
        made.add(self.explanation)
        return made.html()


class ExplanationPage:
    """Makes the page of an explanation that grows: what was made of its first steps is kept.

    The timeline has two parts, first the steps before the cell, then those of the cell. Each has its own scale, since
    hours may lie between them.
    """

    def __init__(self, language: Language) -> None:
        self._language = language
        self._rows: list[str] = []
        self._texts: list[str] = []
        self._ran = True
        self._ahead: list[ExplainedStep] = []
        self._after: list[ExplainedStep] = []
        self._drawn = ("", 0)

    def add(self, explanation: Explanation) -> None:
        """Add the new steps of an explanation, whose first ones are those of the last call."""
        self._ran = explanation.ran
        new = explanation.steps[len(self._rows) :]
        for step in new:
            self._add(step)
        self._after += [step for step in new if not step.ahead]
        if ahead := [step for step in new if step.ahead]:
            self._ahead += ahead
            self._drawn = _part(_AHEAD[self._language], self._ahead, 0) if self._ran else ("", 0)

    def _add(self, step: ExplainedStep) -> None:
        cells, text = _shown(step.step, step.outcome, self._language, ahead=step.ahead)
        time = f'{_CELL}<span style="white-space:nowrap">{step.duration / 1000:,.0f}</span></td>' if self._ran else ""
        self._rows.append(f"<tr>{cells}{time}</tr>")
        if text:
            self._texts.append(text)

    @property
    def text(self) -> str:
        """All system calls, one in a line."""
        return "\n".join(self._texts)

    def html(self) -> str:
        """Return the page."""
        head = "".join(
            f'<th style="text-align:left">{html.escape(text)}</th>'
            for text in _HEADINGS[self._language][: None if self._ran else -1]
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(self._rows)}</tbody></table>"
        return page.page(self._timeline() + table if self._ran else table)

    def _timeline(self) -> str:
        """Return an SVG drawing of the steps that ran."""
        drawn, y = self._drawn
        if self._after:
            after, y = _part(_FROM_PLAN[self._language], self._after, y)
            drawn += after
        title = html.escape(_TIMELINE[self._language])
        colour = "var(--jp-ui-font-color1, currentColor)"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 6}" width="100%" role="img" '
            f'aria-label="{title}" style="max-width:{_WIDTH}px;color:{colour};font:11px sans-serif">'
            f"<title>{title}</title>{drawn}</svg>"
        )


_CELL = '<td style="text-align:left;vertical-align:top;overflow-wrap:break-word">'
"""A column is at least as wide as its longest part: `anywhere` would break names in the middle."""


@lru_cache(maxsize=512)  # most cells of a notebook do the same, but for the times
def _shown(step: Step, outcome: tuple[str, tuple[int, ...]], language: Language, *, ahead: bool) -> tuple[str, str]:
    """Return the row of a step without its time, as HTML, and its calls as text."""
    called, errors = outcome
    made = ExplainedStep(step, called, [(0, error) for error in errors])
    words = made.words(language)
    mark = f"<br><small>{_AHEAD[language]}</small>" if ahead else ""
    cells = (
        f"<b>{made.name}</b><br>{_breakable(html.escape(words.description))}{mark}",
        _calls([_line(text, error) for text, error in made.lines], language),
        html.escape(words.why),
        html.escape(words.risk),
    )
    return "".join(f"{_CELL}{cell}</td>" for cell in cells), "\n".join(made.texts)


def _calls(lines: list[str], language: Language) -> str:
    if len(lines) <= _FOLDED:
        return "<br>".join(lines)
    summary = _CALLS[language].format(len(lines))
    return f"<details><summary>{summary}</summary>{'<br>'.join(lines)}</details>"


def _line(text: str, error: int) -> str:
    name, rest = text.partition("(")[0], text[text.index("(") :]
    failed = f" = -1 ({_error_name(error)})" if error else ""
    link = f'<a href="{manual_page(name)}" style="color:inherit">{name}</a>'
    return f"<code>{link}{_breakable(html.escape(rest))}{failed}</code>"


def _breakable(text: str) -> str:
    """Return HTML text that a narrow column breaks after the signs between arguments, flags and names."""
    return re.sub(r"([|/:,=])", r"\1<wbr>", text)


def _error_name(number: int) -> str:
    import errno

    return errno.errorcode.get(number, str(number))


def _part(title: str, steps: list[ExplainedStep], y: int) -> tuple[str, int]:
    begun = steps[0].begun
    whole = max(1, max(step.begun + step.duration for step in steps) - begun)
    total = f"{whole / 1000:,.0f} µs"
    lines = [f'<text x="0" y="{y + 13}" fill="currentColor" font-weight="bold">{html.escape(title)} ({total})</text>']
    y += _ROW
    for step in steps:
        x = _LEFT + (step.begun - begun) * (_WIDTH - _LEFT - 70) / whole
        width = max(1.0, step.duration * (_WIDTH - _LEFT - 70) / whole)
        lines.append(
            f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end" fill="currentColor">{step.name}</text>'
            f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="#3b82c4"/>'
            f'<text x="{x + width + 4:.1f}" y="{y + 13}" fill="currentColor">{step.duration / 1000:,.0f} µs</text>'
        )
        y += _ROW
    return "".join(lines), y + 4
