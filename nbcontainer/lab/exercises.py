"""Exercises of the course: what a student has made in the laboratory, checked condition by condition.

The first condition that does not hold is named, with the reason and the next step. Texts are in English and Chinese.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import LaboratoryError
from nbcontainer.lab.attacks import ATTACKS
from nbcontainer.lab.laboratory import Trial
from nbcontainer.lab.questions import QUESTIONS, Words
from nbcontainer.lab.tasks import IN_SIGHT, TASKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.lab.laboratory import Shown

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Checked:
    """The result of a check: whether the exercise is done, and the explanation."""

    name: str
    passed: bool
    explanation: str
    language: str = "en"

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        mark = {"en": ("not yet", "done"), "zh": ("还没完成", "完成")}[self.language][self.passed]
        colon, semicolon = {"en": (": ", "; "), "zh": ("：", "；")}[self.language]
        return f"{'✓' if self.passed else '✗'} {self.name}{colon}{mark}{semicolon}{self.explanation}"


def check(name: str, answer: Any, language: str, run: Callable[[str], Shown]) -> Checked:
    """Return whether an exercise is done or a question is answered, and why not.

    `run` runs a script in the laboratory. Raises `LaboratoryError` for an unknown exercise or language.
    """
    if language not in LANGUAGES:
        raise LaboratoryError(f"unknown language {language!r}", call="check", hint="write 'en' or 'zh'")
    if not isinstance(name, str):
        raise LaboratoryError(f"unknown exercise {name!r}", call="check", hint=_known())
    if name in QUESTIONS:
        passed, words = _answered(name, answer)
    elif name in TASKS:
        passed, words = _made(name, run)
    elif name == "confine.attack":
        passed, words = _attacked(answer)
    else:
        raise LaboratoryError(f"unknown exercise {name!r}", call="check", hint=_known())
    return Checked(name, passed, words.chinese if language == "zh" else words.english, language)


def _known() -> str:
    return f"the exercises are {', '.join((*QUESTIONS, *TASKS, 'confine.attack'))}"


def _answered(name: str, answer: Any) -> tuple[bool, Words]:
    """Return whether the answer to a question is right, and the explanation of this very answer."""
    question = QUESTIONS[name]
    text = unicodedata.normalize("NFKC", answer) if isinstance(answer, str) else ""  # a full-width letter, too
    given = text.strip(" .:()*\"'`\n").lower()
    letters = "、".join(question.answers), ", ".join(question.answers)
    unknown = Words(f"write one of these letters: {letters[1]}", f"请填写其中一个字母：{letters[0]}")
    return given == question.right, question.answers.get(given, unknown)


def _made(name: str, run: Callable[[str], Shown]) -> tuple[bool, Words]:
    """Return whether all conditions of a task hold, and the explanation of the first one that does not."""
    task = TASKS[name]
    for condition in (IN_SIGHT, *task.conditions):
        if run(f"cd /lab; {{ {condition.script}\n}} >/dev/null 2>&1").status:
            return False, condition.wrong
    return True, task.done


def _attacked(answer: Any) -> tuple[bool, Words]:
    """Return whether a run of "mount a file system" succeeded, with no more steps left out than needed."""
    attack = ATTACKS["mount a file system"]
    if not isinstance(answer, Trial):
        return False, Words(
            "the second argument is the result of lab.run(…): store it in a variable and pass it",
            "第二个参数应是 lab.run(…) 的结果：先存进变量，再传进来",
        )
    if answer.failed:
        return False, Words(
            f"the plan failed before the attack ran ({answer.failed}): leave out other steps",
            f"计划在攻击运行之前就失败了（{answer.failed}）：换别的步骤省略",
        )
    if answer.script != attack.script:
        return False, Words(
            f"this is the result of another program: pass that of lab.run(lab.attacks[{attack.name!r}], without=…)",
            f"这是另一个程序的结果：请传 lab.run(lab.attacks[{attack.name!r}], without=…) 的结果",
        )
    if not attack.succeeded(answer.output):
        missing = [step for step in attack.steps if step not in answer.without]
        return False, Words(
            f"the attack did not succeed: {len(missing)} more step{'s stop' if len(missing) > 1 else ' stops'} it; "
            "look for steps about capabilities and system calls in %container explain busybox",
            f"攻击没有成功：还有 {len(missing)} 个步骤在阻止它；"
            "在 %container explain busybox 里找与权能和系统调用有关的步骤",
        )
    extra = [step for step in answer.without if step not in attack.steps]
    if extra:
        return False, Words(
            f"the attack succeeded, but {', '.join(extra)} did not stop it: leave out only what is needed",
            f"攻击成功了，但 {'、'.join(extra)} 并没有阻止它：只省略必要的步骤",
        )
    return True, Words(
        "three steps stop this attack, and each of them is enough alone: that is defence in depth",
        "有三个步骤阻止这个攻击，每一个单独就够了：这叫纵深防御",
    )
