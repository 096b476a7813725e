"""An explanation as a page, as text and as JSON."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pytest

from nbcontainer.commands.explain import language_of
from nbcontainer.commands.explanation_view import ExplanationPage, ExplanationView
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.explanation import ExplainedStep, Explanation
from nbcontainer.sandbox.steps.base import Language
from nbcontainer.sandbox.steps.rootfs import MountStage, PivotRoot
from nbcontainer.sandbox.steps.volumes import BindVolume

EVIL = "/<script>alert(1)</script>&"
MANY = json.dumps([["mkdir", [f"d{number}", 0o755], {}] for number in range(9)])
STEPS = (
    ExplainedStep(MountStage(), MANY, [(1, 0)] * 9, ahead=True, begun=-5_000_000, duration=90_000),
    ExplainedStep(
        BindVolume(EVIL, "/x", directory=True, read_only=True),
        json.dumps([["mkdir", [EVIL, 0o755], {}]]),
        [(900, 17)],
        begun=1000,
        duration=7000,
    ),
    ExplainedStep(PivotRoot(), '[["pivot_root", [".", "."], {}]]', [(900, 0)], begun=9000, duration=4000),
)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def page(language: Language = Language.ENGLISH, *, ran: bool = True) -> str:
    """Return the page of the steps."""
    return ExplanationView(Explanation(STEPS, ran), language)._repr_html_()


@pytest.mark.parametrize("language", Language)
def test_a_page_has_no_script(language: Language) -> None:
    """Paths are shown as text, whatever they contain; links lead to man pages alone."""
    tags = _Tags()
    tags.feed(page(language))
    assert "script" not in tags.tags
    assert {"table", "svg", "details"} <= set(tags.tags)
    assert all(value and value.startswith("https://man7.org/") for name, value in tags.attributes if name == "href")
    assert not [name for name, _ in tags.attributes if name.startswith("on")]


def test_a_page_shows_each_step_with_its_calls_and_their_errors() -> None:
    """The name, the description, the purpose, the risk, the time; and EEXIST where a call failed."""
    shown = page()
    for text in (
        "PivotRoot",
        html.escape(PivotRoot.why),
        PivotRoot.risk,
        "(EEXIST)",
        "done before the cell",
        "9 calls",
    ):
        assert text in shown


def test_a_call_breaks_between_its_parts() -> None:
    """A narrow column breaks a call after the signs between its parts, and each name stays whole."""
    shown = page()
    assert 'overflow-wrap:break-word"><code><a' in shown
    assert re.search(r"\(&quot;/<wbr>&lt;script.*?,<wbr> 0755\)", shown)


def test_a_page_is_in_chinese_if_that_is_asked_for() -> None:
    """All words of the page, but for names and calls."""
    shown = page(Language.CHINESE)
    assert PivotRoot.chinese.risk in shown
    assert "在单元格之前已完成" in shown
    assert PivotRoot.why not in shown


def test_what_did_not_run_has_no_times() -> None:
    """Neither a timeline nor a column of times."""
    assert "<svg" not in page(ran=False)
    assert "µs" not in page(ran=False)


def test_the_timeline_has_a_text_for_those_who_do_not_see_it() -> None:
    """A title, and the names and times as text that can be selected."""
    shown = page()
    assert 'role="img" aria-label="When each step ran"' in shown
    assert ">PivotRoot</text>" in shown
    assert ">4 µs</text>" in shown


def test_the_text_has_a_call_in_each_line_and_comments_only_if_asked() -> None:
    """A program reads the one, a person the other."""
    view = ExplanationView(Explanation(STEPS, ran=True))
    assert str(view).splitlines()[-1] == 'pivot_root(".", ".")'
    assert "#" not in str(view)
    assert view.with_words().count("\n# ") == 2


def test_the_json_has_numbers() -> None:
    """Times in microseconds."""
    steps = json.loads(json.dumps(ExplanationView(Explanation(STEPS, ran=True)).as_json()))
    assert [(step["step"], step["duration"], step["ahead"]) for step in steps] == [
        ("MountStage", 90.0, True),
        ("BindVolume", 7.0, False),
        ("PivotRoot", 4.0, False),
    ]


def test_an_unknown_language_is_an_error() -> None:
    """With those there are."""
    assert language_of("") == Language.ENGLISH
    with pytest.raises(UsageError, match="invalid language 'fr'") as raised:
        language_of("fr")
    assert raised.value.hint == "write en or zh"


def test_a_page_that_grows_is_the_page_of_the_whole() -> None:
    """What was made of the first steps is what is made of them at once, and so is the text."""
    whole = Explanation(STEPS, ran=True)
    growing = ExplanationPage(Language.ENGLISH)
    for count in range(1, len(STEPS) + 1):
        growing.add(Explanation(STEPS[:count], ran=True, whole=count == len(STEPS)))
    assert growing.html() == ExplanationView(whole)._repr_html_()
    assert growing.text == str(whole)
