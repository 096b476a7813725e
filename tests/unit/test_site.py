"""The documentation site is built without a warning, is complete, and loads nothing from another host."""

from __future__ import annotations

import hashlib
import html
import re
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.sandbox.steps.base import Step
from tests import documents, site
from tests.documents import PROJECT
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
"""The first test waits for the whole site."""

CHAPTERS = sorted((PROJECT / "notebooks" / "course").glob("*/*.ipynb"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, which all test processes share."""
    require("sources", available=(PROJECT / "docs" / "conf.py").exists(), why="the project's pages are not around")
    place = tmp_path_factory.getbasetemp()
    return site.build((place.parent if place.name.startswith("popen-") else place) / "site")


def _text(built: Path, page: str) -> str:
    """A page without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", (built / page).read_text()))


def test_the_site_is_built_without_a_warning(built: Path) -> None:
    """The one command ends with 0 and prints nothing on stderr. A warning of Sphinx would be an error."""
    assert (built / "status").read_text() == "0\n"


def test_nothing_is_written_beside_the_site(built: Path) -> None:
    """Neither next to its directory nor among the sources."""
    assert [path.name for path in built.parent.iterdir() if "jupyter" in path.name] == []
    assert not (PROJECT / "jupyter_execute").exists()


def test_links_lead_to_a_page_and_an_anchor(built: Path) -> None:
    """Each link inside the site leads to a file that is there, and to an anchor in it if it has one."""
    assert site.broken(built) == []


def test_nothing_is_loaded_from_another_host(built: Path) -> None:
    """No page and no style sheet loads a script, a font, a style sheet or a picture from another host."""
    assert site.external_loads(built) == []


def test_links_to_other_hosts_are_addresses(built: Path) -> None:
    """Each link out of the site is an https address."""
    assert [target for target in set(site.external_links(built)) if not site.is_address(target)] == []


def test_each_step_is_in_the_reference(built: Path) -> None:
    """The reference has the name, the purpose and the risk of each step, in English and in Chinese."""
    english, chinese = (_text(built, f"docs/reference-steps{suffix}.html") for suffix in ("", "-zh"))
    steps = [step for step in Step.by_name.values() if step.__module__.startswith("nbcontainer.")]
    assert len(steps) > 30
    assert [step.__name__ for step in steps if step.__name__ not in english or step.__name__ not in chinese] == []
    assert [step.__name__ for step in steps if _letters(step.risk) not in _letters(english)] == []
    assert [step.__name__ for step in steps if _letters(step.chinese.risk) not in _letters(chinese)] == []


def _letters(text: str) -> str:
    """A text without quotes and blanks: Sphinx changes both."""
    return re.sub(r"\W", "", text)


def test_each_verb_and_option_is_in_the_reference(built: Path) -> None:
    """The reference has the help line of each verb and of each option of a run."""
    verbs, options = _letters(_text(built, "docs/reference-verbs.html")), _text(built, "docs/reference-options.html")
    assert [name for name, verb in VERBS.items() if _letters(verb.command.help) not in verbs] == []
    assert [option.flags[0] for option in RUN_OPTIONS if option.flags[-1] not in options] == []


def test_each_public_name_is_in_the_reference(built: Path) -> None:
    """The reference of the Python API has each name of the package."""
    page = site.read((built / "docs/reference-python.html").read_text())
    names = [name for name in nbcontainer.__all__ if not name.startswith("_")]
    assert [name for name in names if f"nbcontainer.{name}" not in page.anchors] == []
    parts = [name for name in object.__new__(nbcontainer.Container).__dir__() if not name.startswith("_")]
    assert [name for name in parts if f"nbcontainer.Container.{name}" not in page.anchors] == ["record"]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_chapter_has_its_drawings_and_its_language(built: Path, chapter: Path) -> None:
    """A chapter shows its stored drawings, as parts of the page, and has its language."""
    page = site.read((built / chapter.relative_to(PROJECT).with_suffix(".html")).read_text())
    assert page.drawings == chapter.read_text().count('"image/svg+xml"')
    assert page.language == ("zh-Hans" if chapter.parent.name == "zh" else "en")


def test_the_drawing_of_the_processes_is_that_of_the_chart() -> None:
    """The drawings on the site were made from the Mermaid chart that docs/architecture.md has."""
    (chart,) = documents.fences((PROJECT / "docs" / "architecture.md").read_text(), "mermaid")
    digest = hashlib.sha256(chart.encode()).hexdigest()
    for theme in ("light", "dark"):
        assert digest in (PROJECT / "docs" / "images" / f"processes-{theme}.svg").read_text()


def test_broken_links_and_foreign_files_are_found(tmp_path: Path) -> None:
    """A link to a file or an anchor that is not there, and a script of another host, are found."""
    (tmp_path / "there.html").write_text("<h1 id=one></h1>")
    (tmp_path / "index.html").write_text(
        "<a href=there.html#one></a><a href=there.html#two></a><a href=nowhere.html></a><img src=gone.png>"
        "<script src='https://cdn.example.org/x.js'></script>"
    )
    (tmp_path / "style.css").write_text("@import 'https://fonts.example.org/x'; a { background: url(//x.example.org) }")
    assert [target.partition(": ")[2] for target in site.broken(tmp_path)] == [
        "there.html#two",
        "nowhere.html",
        "gone.png",
    ]
    assert len(site.external_loads(tmp_path)) == 3


@pytest.mark.parametrize(
    "target", ["http://example.org", "https://", "https://nowhere/x", "https://a.org/a b", "ftp://a.org"]
)
def test_a_wrong_address_is_found(target: str) -> None:
    """An address without https, without a host, or with a blank is found."""
    assert not site.is_address(target)
