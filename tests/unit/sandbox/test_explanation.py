"""What is explained of a run: the words of its steps, and the calls that they made."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from nbcontainer.errors import SandboxError
from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.linux.watched import WatchedKernel
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.explanation import ExplainedRun, Explanation, explain_plan, explain_run
from nbcontainer.sandbox.launcher import init, server  # noqa: F401 - all steps are loaded
from nbcontainer.sandbox.spec import Overlay, Program, Spec
from nbcontainer.sandbox.steps.base import Language, Plan, Step
from nbcontainer.sandbox.steps.devices import DEVICES
from nbcontainer.sandbox.userns.idmap import host_map

PLAN = plan.PlanTemplate(Spec(Program(("/bin/sh", "-c", "true"), ("SECRET=x",), "/w")), host_map()).on(
    Overlay(("a/diff", "b/diff"), "up", "work")
)
CHINESE = re.compile("[\u4e00-\u9fff]")


def kernel() -> RecordingKernel:
    """Return a kernel with the devices that steps expect."""
    return RecordingKernel(devices={f"/dev/{name}": numbers for name, numbers in DEVICES.items()})


def notes_of(todo: Plan) -> dict[str, Any]:
    """Return what init notes when it runs a plan."""
    watched = WatchedKernel(kernel(), 5)
    for step in todo.steps[1:]:
        watched.begin(type(step).__name__)
        step.apply(watched.as_kernel(), range(9))
        watched.end()
    return dict(json.loads(watched.take_json()))


EVERY_STEP = [step for step in Step.by_name.values() if step.__module__.startswith("nbcontainer.")]
"""All steps but those of other tests."""


@pytest.mark.parametrize("step", EVERY_STEP, ids=str)
def test_every_step_has_words_in_both_languages(step: type[Step]) -> None:
    """A step without a purpose, or without what an attacker could do without it, fails here, and so in Chinese."""
    for text in (step.phrase, step.why, step.risk):
        assert text
        assert not CHINESE.search(text)
    for text in step.chinese:
        assert CHINESE.search(text)


@pytest.mark.parametrize("step", PLAN.steps, ids=lambda step: type(step).__name__)
def test_the_words_of_a_step_name_what_it_is_about(step: Step) -> None:
    """The description has the step's own fields, in both languages."""
    for language in Language:
        words = step.words(step.shown(), language)
        assert words.description
        assert "{" not in words.description


def test_what_ran_is_explained_by_what_was_noted() -> None:
    """Each step has its own calls in order, and what was done before the plan was sent was done before the cell."""
    notes = notes_of(PLAN)
    sent = notes["steps"][20][1]
    explanation = explain_run(PLAN, json.dumps(notes), sent)
    assert [step.step for step in explanation] == list(PLAN)
    assert explanation.steps[0].texts[0].startswith("clone(")
    assert 'pivot_root(".", ".")' in explanation.steps[[s.name for s in explanation].index("PivotRoot")].texts
    assert [step.ahead for step in explanation] == [True] * 21 + [False] * (len(PLAN.steps) - 21)
    assert all(step.begun < 0 for step in explanation if step.ahead)
    assert "SECRET" not in str(explanation)
    assert "=x" not in json.dumps(explanation.as_json())


def test_what_ran_is_explained_in_parts() -> None:
    """What was done ahead comes first; with the last part, the explanation is that of all notes at once."""
    watched, parts = WatchedKernel(kernel(), 5), []
    for number, step in enumerate(PLAN.steps[1:]):
        watched.begin(type(step).__name__)
        step.apply(watched.as_kernel(), range(9))
        watched.end()
        if number in (20, 30, len(PLAN.steps) - 2):
            parts.append(watched.take_json())
    run = ExplainedRun(PLAN, 0)
    found = [run.add(part) for part in parts]
    assert [len(one.steps) for one in found] == [22, 32, len(PLAN.steps)]
    assert [one.whole for one in found] == [False, False, True]
    notes = [json.loads(part) for part in parts]
    together = {"cloned": notes[0]["cloned"], "steps": [step for part in notes for step in part["steps"]]}
    assert found[-1] == explain_run(PLAN, json.dumps(together), 0)


def test_more_steps_than_the_plan_has_are_an_error_of_one_line() -> None:
    """Init cannot make the notebook keep more than its plan."""
    notes = json.dumps(notes_of(PLAN))
    run = ExplainedRun(PLAN, 0)
    run.add(notes)
    with pytest.raises(SandboxError, match="cannot explain the run"):
        run.add(notes)


def test_a_plan_is_explained_by_the_same_calls() -> None:
    """Without running it, its steps make the calls that they make when they run."""
    ran, planned = explain_run(PLAN, json.dumps(notes_of(PLAN)), 0), explain_plan(PLAN, kernel(), 3)
    assert _without_descriptors(str(planned)) == _without_descriptors(str(ran))
    assert [step.ahead for step in planned][:4] == [True, True, True, False]


def _without_descriptors(text: str) -> str:
    return re.sub(r"\b1\d\d\b", "FD", text)


def test_each_line_of_the_text_is_a_call() -> None:
    """So that a program can read it."""
    assert all(re.fullmatch(r"[a-z_0-9]+\(.*\)", line) for line in str(explain_plan(PLAN, kernel())).splitlines())


@pytest.mark.parametrize(
    ("called", "went"),
    [
        ('[["no-such-call", [], {}]]', [[1, 0]]),
        ('[["mount", [], {}]]', [[1, 0]]),
        ('[["mount"]]', [[1, 0]]),
        ('["mount"]', [[1, 0]]),
        ("[null]", [[1, 0]]),
        ('[["write", [3, 5], {}]]', [[1, 0]]),
        ('[["open", ["x", "y"], {}]]', [[1, 0]]),
        ('[["umask", [18], {}]]', []),
        ('[["umask", [18], {}]]', [[1]]),
        ('[["umask", [18], {}]]', [[1, "0"]]),
        ('[["umask", [18], {}]]', 5),
        ("", []),
        ("[" * 100_000, []),
        ("5", []),
        (5, []),
        ([], []),
        ({}, []),
    ],
)
def test_notes_that_init_did_not_write_are_an_error_of_one_line(called: Any, went: Any) -> None:
    """An init that a cell has taken over cannot make this side fail in another way."""
    notes = notes_of(PLAN)
    notes["steps"][0][3:] = called, went
    with pytest.raises(SandboxError, match="cannot explain the step SlaveMounts"):
        str(explain_run(PLAN, json.dumps(notes), 0))


@pytest.mark.parametrize("notes", [{}, {"cloned": 1, "steps": []}, {"cloned": [1, 2], "steps": [[]]}, None, []])
def test_notes_of_another_plan_are_an_error_of_one_line(notes: Any) -> None:
    """Too few steps, other steps, or none at all."""
    with pytest.raises(SandboxError, match="cannot explain"):
        explain_run(PLAN, json.dumps(notes), 0)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800", " " * (1 << 20) + "{}"])
def test_notes_that_are_not_json_are_an_error_of_one_line(text: str) -> None:
    """Whatever init sent, or something that took it over."""
    with pytest.raises(SandboxError, match="cannot explain"):
        explain_run(PLAN, text, 0)


def test_an_explanation_of_other_steps_is_refused() -> None:
    """Names are compared: what is shown is what this plan's steps did."""
    notes = notes_of(PLAN)
    notes["steps"][3][0] = "PivotRoot"
    with pytest.raises(SandboxError, match="PivotRoot"):
        explain_run(PLAN, json.dumps(notes), 0)


def test_an_explanation_is_iterated_by_step() -> None:
    """The value is a sequence of steps for Python callers."""
    explanation = explain_plan(PLAN, kernel())
    assert isinstance(explanation, Explanation)
    assert next(iter(explanation)).name == "CloneInit"
