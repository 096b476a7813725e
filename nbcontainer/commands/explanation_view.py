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
from nbcontainer.sandbox.steps.base import Language

if TYPE_CHECKING:
    from nbcontainer.sandbox.explanation import ExplainedStep, Explanation
    from nbcontainer.sandbox.steps.base import Words

_WIDTH, _ROW, _LEFT = 760, 18, 190  # of the timeline, in its own units
_FOLDED = 6
"""More calls of a step than these are folded."""

_HEADINGS = {
    Language.ENGLISH: ("step", "system calls", "purpose", "without it, an attacker in the container …", "µs"),
    Language.CHINESE: ("步骤", "系统调用", "目的", "没有这一步，容器里的攻击者……", "微秒"),
}
_AHEAD = {Language.ENGLISH: "done before the cell", Language.CHINESE: "在单元格之前已完成"}
_FROM_PLAN = {Language.ENGLISH: "from the cell's plan on", Language.CHINESE: "从收到单元格的计划开始"}
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
        drawing = timeline(self.explanation, self.language) if self.explanation.ran else ""
        return page.page(drawing + self._table())

    def _table(self) -> str:
        headings = _HEADINGS[self.language]
        shown = headings if self.explanation.ran else headings[:-1]
        head = "".join(f'<th style="text-align:left">{html.escape(heading)}</th>' for heading in shown)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(self._row, self.explanation))}</tbody></table>"
        )

    def _row(self, step: ExplainedStep) -> str:
        cells = _cells(step.name, step.words(self.language), step.lines, self.language, ahead=step.ahead)
        time = f'{_CELL}<span style="white-space:nowrap">{step.duration / 1000:,.0f}</span></td>'
        return f"<tr>{cells}{time if self.explanation.ran else ''}</tr>"


_CELL = '<td style="text-align:left;vertical-align:top;overflow-wrap:break-word">'
"""A column is at least as wide as its longest part: `anywhere` would break names in the middle."""


@lru_cache(maxsize=512)  # most cells of a notebook do the same, but for the times
def _cells(name: str, words: Words, lines: tuple[tuple[str, int], ...], language: Language, *, ahead: bool) -> str:
    """Return the row of a step without its time, as HTML."""
    mark = f"<br><small>{_AHEAD[language]}</small>" if ahead else ""
    cells = (
        f"<b>{name}</b><br>{_breakable(html.escape(words.description))}{mark}",
        _calls([_line(text, error) for text, error in lines], language),
        html.escape(words.why),
        html.escape(words.risk),
    )
    return "".join(f"{_CELL}{cell}</td>" for cell in cells)


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


def timeline(explanation: Explanation, language: Language) -> str:
    """Return an SVG drawing of the steps that ran: first those before the cell, then those of the cell.

    Each part has its own scale, since hours may lie between them.
    """
    ahead = [step for step in explanation if step.ahead]
    after = [step for step in explanation if not step.ahead]
    parts, y = [], 0
    for title, steps in ((_AHEAD[language], ahead), (_FROM_PLAN[language], after)):
        if steps:
            drawn, y = _part(title, steps, y)
            parts.append(drawn)
    title = html.escape(_TIMELINE[language])
    colour = "var(--jp-ui-font-color1, currentColor)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 6}" width="100%" role="img" '
        f'aria-label="{title}" style="max-width:{_WIDTH}px;color:{colour};font:11px sans-serif">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


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
