"""The project's documents as data: their prose, their code spans, and the names and phrases that they settle."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "nbcontainer"
PAGES = [PROJECT / name for name in ("README.md", "README.zh.md", "SECURITY.md", "CHANGELOG.md")]

_FENCE = re.compile(r"^(```+)(\w*|\{[\w-]+\}[^\n]*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:href|src|srcset)=\"([^\"]+)\"")


def documents() -> list[Path]:
    """Every page of the project: README in both languages, SECURITY, CHANGELOG and docs/*.md."""
    return [*PAGES, *sorted((PROJECT / "docs").rglob("*.md"))]


def fences(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a page, of one language or of all."""
    return [block for _, found, block in _FENCE.findall(text) if language in ("", found)]


def unfenced(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """The code spans of a page, outside fenced blocks, each on one line."""
    return [" ".join(span.split()) for _, span in _SPAN.findall(unfenced(text))]


def prose(text: str) -> str:
    """A page without its code: fenced blocks and code spans are blanks, and line numbers stay."""
    for pattern in (_FENCE, _SPAN):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return text


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures."""
    return [one or other for one, other in _LINK.findall(unfenced(text))]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", unfenced(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def rows(text: str, heading: str) -> list[list[str]]:
    """The rows, without the head, of the first table below a heading."""
    below = text.partition(f"{heading}\n")[2]
    found = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert found, heading
    # A pipe in a code span is written \| in a table.
    cells = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in found[0].splitlines()[2:]]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]


@dataclass(frozen=True)
class Forbidden:
    """A phrase that this project does not write, and what it writes."""

    pattern: re.Pattern[str]
    instead: str


def forbidden() -> list[Forbidden]:
    """The phrases of docs/style.md and the synonyms of docs/glossary.md that are not to be written."""
    style = (PROJECT / "docs" / "style.md").read_text()
    glossary = (PROJECT / "docs" / "glossary.md").read_text()
    found = [(span, row[1]) for row in rows(style, "## Forbidden phrases") for span in spans(row[0])]
    for heading in re.findall(r"^## Terms.*$", glossary, re.MULTILINE):
        found += [(span, row[0]) for row in rows(glossary, heading) for span in spans(row[2])]
    return [Forbidden(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), instead) for pattern, instead in found]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """What a person reads in a file: (line, text). Of a module, its comments, docstrings and strings of words."""
    source = path.read_text()
    if path.suffix == ".md":
        yield from enumerate(prose(source).splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            # Code spans in a docstring are names, and names are not prose.
            yield from enumerate(re.sub(r"`[^`\n]*`", "", node.value).splitlines(), node.lineno)


def hits(path: Path, phrases: list[Forbidden]) -> list[str]:
    """Where a file has forbidden phrases: a line each, with what to write instead."""
    found = []
    for line, text in texts(path):
        for phrase in phrases:
            for hit in phrase.pattern.finditer(text):
                found.append(f"{path.relative_to(PROJECT)}:{line}: {hit[0]!r}: write {phrase.instead}")
    return found
