"""The project's texts use the words of docs/glossary.md and avoid the phrases that docs/style.md forbids."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests import documents
from tests.documents import PACKAGE, PROJECT
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture(scope="module")
def phrases() -> list[documents.Forbidden]:
    """What the two pages forbid."""
    require("sources", available=(PROJECT / "docs" / "style.md").exists(), why="the project's pages are not around")
    return documents.forbidden()


def package_of(path: Path) -> str:
    """`images` for a module of nbcontainer/images or below, `cli.py` for a module at the top."""
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("package", sorted({package_of(path) for path in MODULES}))
def test_a_package_has_no_forbidden_phrase(package: str, phrases: list[documents.Forbidden]) -> None:
    """Comments, docstrings and messages of a package have no phrase that is forbidden."""
    modules = [path for path in MODULES if package_of(path) == package]
    assert [hit for path in modules for hit in documents.hits(path, phrases)] == []


@pytest.mark.parametrize("page", documents.documents(), ids=lambda page: page.name)
def test_a_page_has_no_forbidden_phrase(page: Path, phrases: list[documents.Forbidden]) -> None:
    """No page has a phrase that is forbidden, outside code."""
    assert documents.hits(page, phrases) == []


def test_a_phrase_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phrases: list[documents.Forbidden]) -> None:
    """A phrase is found in a comment, a docstring, a message and a formatted one, and not in a name or a code span."""
    monkeypatch.setattr(documents, "PROJECT", tmp_path)
    module = tmp_path / "module.py"
    module.write_text(
        '"""What nobody knows."""\n'
        "# Whoever reads this\n"
        "nobody = 'a key of nobody'\n"
        "text = f'{nobody!r} is no volume'\n"
        "code = 'the user `nobody` has it; there is no other'\n"
    )
    assert Counter(hit.split(":")[1] for hit in documents.hits(module, phrases)) == {"1": 2, "2": 1, "3": 1, "4": 1}


def test_the_pages_have_enough_to_check(phrases: list[documents.Forbidden]) -> None:
    """Both tables are found and read: a change of their form does not turn the check off."""
    patterns = {phrase.pattern.pattern for phrase in phrases}
    assert len(patterns) > 40
    assert any("nobody" in pattern for pattern in patterns)
    assert any("uppers" in pattern for pattern in patterns)
