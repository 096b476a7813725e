"""What the checks of the course's exercises say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import LaboratoryError
from nbcontainer.lab.attacks import ATTACKS
from nbcontainer.lab.exercises import check
from nbcontainer.lab.laboratory import Shown, Trial
from nbcontainer.lab.questions import QUESTIONS
from nbcontainer.lab.tasks import IN_SIGHT, TASKS
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable

ATTACK = ATTACKS["mount a file system"]
OTHER = ATTACKS["make a user namespace"]


def trial(output: str, *without: str, failed: str = "", script: str = ATTACK.script) -> Trial:
    """What `lab.run` returns."""
    return Trial(output, int(not output), without, failed, script)


def holding(number: int) -> Callable[[str], Shown]:
    """A laboratory in which its directory is in sight and the first `number` conditions hold, and no later one."""
    scripts: list[str] = []

    def run(script: str) -> Shown:
        scripts.append(script)
        return Shown("", int(len(scripts) > number + 1))

    return run


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_first_condition_that_does_not_hold_is_explained(name: str, language: str) -> None:
    """With a text of its own for each condition, in both languages."""
    task = TASKS[name]
    texts = [check(name, None, language, holding(number)).explanation for number in range(len(task.conditions) + 1)]
    words = [condition.wrong for condition in task.conditions] + [task.done]
    assert texts == [one.chinese if language == "zh" else one.english for one in words]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_done_when_all_conditions_hold(name: str) -> None:
    """And not before."""
    many = len(TASKS[name].conditions)
    assert [bool(check(name, None, "en", holding(number))) for number in range(many + 1)] == [False] * many + [True]


@pytest.mark.parametrize("name", TASKS)
def test_a_switched_root_is_explained_before_all_else(name: str) -> None:
    """After pivot_root no path of a task exists, which is none of the student's mistakes with these paths."""
    assert check(name, None, "en", holding(-1)).explanation == IN_SIGHT.wrong.english
    assert check(name, None, "zh", holding(-1)).explanation == IN_SIGHT.wrong.chinese


def test_the_answer_about_root_has_the_number_of_capabilities() -> None:
    """The explanation says how many capabilities a cell has, as chapter 5 counts them."""
    words = QUESTIONS["confine.predict"].answers["c"]
    assert f"with {len(DEFAULT_CAPABILITIES)} of some 40" in words.english
    assert f"只有 {len(DEFAULT_CAPABILITIES)} 个" in words.chinese


@pytest.mark.parametrize("form", ["{}", " {}.", "({})", "**{}**", "{}:", "'{}'", "`{}`\n"])
def test_an_answer_may_have_signs_around_it(form: str) -> None:
    """As people write a letter; a full-width one is the same letter."""
    for letter in (QUESTIONS["root.predict"].right, QUESTIONS["root.predict"].right.upper(), "\uff42"):
        assert check("root.predict", form.format(letter), "en", holding(0))


@pytest.mark.parametrize("name", [[], None, 3, "nosuch", {}])
def test_an_unknown_exercise_is_one_line(name: Any) -> None:
    """Whatever is given: the error lists the exercises."""
    with pytest.raises(LaboratoryError, match=r"unknown exercise .*; the exercises are root\.predict"):
        check(name, None, "en", holding(0))


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_answer_to_a_question_has_its_explanation(name: str) -> None:
    """One is right; an answer that is none of them is met with the possible ones."""
    answers = [check(name, letter, "en", holding(0)) for letter in QUESTIONS[name].answers]
    assert [bool(one) for one in answers].count(True) == 1
    assert len({one.explanation for one in answers}) == len(answers)
    for strange in ("?", None, 3, "", "abc"):
        other = check(name, strange, "en", holding(0))
        assert not other
        assert "a, b, c" in other.explanation
    for written in (f" {QUESTIONS[name].right.upper()} ", f"{QUESTIONS[name].right})", f"({QUESTIONS[name].right})."):
        assert check(name, written, "en", holding(0))


@pytest.mark.parametrize(
    ("answer", "passed", "word"),
    [
        (None, False, "lab.run"),
        ("reached", False, "lab.run"),
        (trial("", "MountOverlay", failed="MakeDirectory: no"), False, "the plan failed"),
        (trial("", "InstallSeccomp"), False, "2 more steps stop it"),
        (trial("", "InstallSeccomp", "DropBounding"), False, "1 more step stops it"),
        (trial("reached\n", *ATTACK.steps, "PivotRoot"), False, "PivotRoot"),
        (trial("reached\n", "InstallSeccomp", script=OTHER.script), False, "another program"),
        (trial("", script="mount -t tmpfs none /tmp"), False, "another program"),
        (trial("reached\n", *ATTACK.steps), True, "defence in depth"),
    ],
)
def test_the_attack_needs_three_steps_less(answer: object, passed: bool, word: str) -> None:
    """No more and no fewer; each mistake has its explanation, in both languages."""
    found = check("confine.attack", answer, "en", holding(0))
    assert found.passed is passed
    assert word in found.explanation
    assert check("confine.attack", answer, "zh", holding(0)).explanation != found.explanation


def test_a_check_shows_its_result_in_one_line() -> None:
    """With a mark, in the student's language."""
    assert repr(check("root.predict", "b", "en", holding(0))).startswith("✓ root.predict: done; ")
    assert repr(check("root.predict", "a", "zh", holding(0))).startswith("✗ root.predict：还没完成；")
    assert "\n" not in repr(check("root.tiny", None, "en", holding(0)))


def test_an_unknown_exercise_and_language_are_refused() -> None:
    """The error lists what there is."""
    with pytest.raises(LaboratoryError, match=r"unknown exercise 'root.tini'; the exercises are root.predict"):
        check("root.tini", None, "en", holding(0))
    with pytest.raises(LaboratoryError, match="unknown language 'fr'; write 'en' or 'zh'"):
        check("root.tiny", None, "fr", holding(0))
