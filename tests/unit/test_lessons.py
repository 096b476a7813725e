"""The course as files: both languages have the same code, outputs are stored, and each chapter has all its parts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.lab.questions import QUESTIONS
from nbcontainer.lab.tasks import TASKS
from tests import documents
from tests.documents import PROJECT
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = PROJECT / "notebooks"
ENGLISH = sorted((NOTEBOOKS / "course" / "en").glob("*.ipynb"))
CHINESE = sorted((NOTEBOOKS / "course" / "zh").glob("*.ipynb"))
USES = sorted((NOTEBOOKS / "uses").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _needs_the_notebooks() -> None:
    require("sources", available=NOTEBOOKS.exists(), why="the project's notebooks are not around")


def cells(path: Path, kind: str) -> list[Any]:
    """Return the code or the markdown cells of a notebook."""
    found = json.loads(path.read_text())["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if cell["cell_type"] == kind]


def test_both_languages_have_five_chapters() -> None:
    """Of the same names."""
    assert len(ENGLISH) == 5
    assert [path.name for path in ENGLISH] == [path.name for path in CHINESE]


@pytest.mark.parametrize(("english", "chinese"), list(zip(ENGLISH, CHINESE, strict=True)), ids=lambda path: path.stem)
def test_both_languages_run_the_same_code(english: Path, chinese: Path) -> None:
    """But for comments, texts that are printed, and the language of the checks."""

    def code(path: Path) -> list[list[str]]:
        strip = re.compile(r'#.*|"""[^\x00-\x7f].*?"""|"""The lines.*?"""|"[^"]*"|, language="zh"')
        return [strip.sub("", cell["source"]).split() for cell in cells(path, "code")]

    assert code(english) == code(chinese)
    assert not re.search(r"[一-鿿]", "".join(cell["source"] for cell in cells(english, "markdown")))
    assert all(re.search(r"[一-鿿]", cell["source"]) for cell in cells(chinese, "markdown"))


@pytest.mark.parametrize("path", ENGLISH + CHINESE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_chapter_has_all_its_parts(path: Path) -> None:
    """A question, a deliberate failure, a drawing, the magic, exercises with solutions, and what Docker does."""
    code = [cell["source"] for cell in cells(path, "code")]
    text = "\n".join(cell["source"] for cell in cells(path, "markdown"))
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    assert any(".predict" in source for source in code)
    assert any(output["output_type"] == "error" or "exit status" in str(output) for output in outputs)
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert any(source.startswith("%%container") for source in code)
    checks = [source for source in code if source.startswith("lab.check(") and ".predict" not in source]
    assert 1 <= len(checks) <= text.count("<details>")
    assert "Docker" in text.rpartition("\n## ")[2]


def test_all_exercises_are_in_the_course() -> None:
    """Each check that the package has is used in both languages."""
    for chapters in (ENGLISH, CHINESE):
        used = {name for path in chapters for name in re.findall(r'lab\.check\(\\"([\w.-]+)', path.read_text())}
        assert used == {*QUESTIONS, *TASKS, "confine.attack"}


@pytest.mark.parametrize("path", ENGLISH + CHINESE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_stored_outputs_are_those_of_any_machine(path: Path) -> None:
    """They have no path of a home or a temporary directory, no HTML for a live page, and drawings have a background."""
    for cell in cells(path, "code"):
        assert cell["execution_count"] is None
        for output in cell["outputs"]:
            text = json.dumps(output)
            assert not re.search(r"/tmp/\w|/work/|/root/\.|/home/(?!alice)", text), text
            assert "text/html" not in text
            assert "var(--" not in text
            if drawing := output.get("data", {}).get("image/svg+xml"):
                assert '<rect width="100%" height="100%" fill="#ffffff"/>' in "".join(drawing)


@pytest.mark.parametrize("path", ENGLISH + USES, ids=lambda path: path.stem)
def test_a_lesson_has_no_forbidden_phrase(path: Path) -> None:
    """Lessons keep the rules of docs/style.md."""
    text = documents.prose("\n".join(cell["source"] for cell in cells(path, "markdown")))
    assert [phrase.pattern.pattern for phrase in documents.forbidden() if phrase.pattern.search(text)] == []


def test_each_term_of_the_glossary_has_a_chinese_one() -> None:
    """In Chinese characters, or a name that Chinese texts keep, and no two terms have the same."""
    text = (PROJECT / "docs" / "glossary.md").read_text()
    rows = [row for heading in re.findall(r"^## Terms.*$", text, re.MULTILINE) for row in documents.rows(text, heading)]
    assert len(rows) > 50
    assert [row[0] for row in rows if len(row) != 4 or not re.search(r"[一-鿿]", row[3])] == []
    assert len({row[3] for row in rows}) == len(rows)


def test_the_chinese_readme_runs_the_readmes_cells() -> None:
    """Each block of it stands in the README, in the same order."""
    english = documents.fences((PROJECT / "README.md").read_text())
    chinese = documents.fences((PROJECT / "README.zh.md").read_text())
    assert len(chinese) > 5
    assert [block for block in english if block in chinese] == chinese
