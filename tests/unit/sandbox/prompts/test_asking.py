"""One question for each wait."""

from __future__ import annotations

from nbcontainer.sandbox.prompts.asking import Prompter
from nbcontainer.sandbox.prompts.waits import Wait

FIRST, SECOND = Wait(7, 1, False), Wait(7, 2, False)


class Scene:
    """A keyboard, and a program that waits as it is told."""

    def __init__(self, secret: bool = False) -> None:
        self.wait: Wait | None = None
        self.reply: str | None = None
        self.events: list[object] = []
        self.prompter = Prompter(self, lambda: self.wait, lambda: secret, self.events.append)

    def ask(self, secret: bool) -> None:
        self.events.append(("asked", secret))

    def answer(self) -> str | None:
        reply, self.reply = self.reply, None
        return reply

    def look(self, wait: Wait | None, reply: str | None = None) -> list[object]:
        """What happens at one look."""
        self.wait, self.reply, before = wait, reply, len(self.events)
        self.prompter.look()
        return self.events[before:]


def test_each_wait_is_asked_for_once() -> None:
    """Nothing is asked while an answer is due, nor for a wait that is answered and has not ended yet."""
    scene = Scene()
    assert scene.look(None) == []
    assert scene.look(FIRST) == [("asked", False)]
    assert scene.look(FIRST) == []
    assert scene.look(FIRST, "a") == ["a"]
    assert scene.look(FIRST) == []
    assert scene.look(SECOND) == [("asked", False)]


def test_an_answer_is_typed_though_the_wait_has_ended() -> None:
    """A program that gave up waiting loses no line that its terminal takes, and the next wait is asked for."""
    scene = Scene()
    scene.look(FIRST)
    assert scene.look(None, "late") == ["late"]
    assert scene.look(SECOND) == [("asked", False)]


def test_a_secret_is_asked_for_as_one() -> None:
    """The question says whether the terminal shows what is typed."""
    assert Scene(secret=True).look(FIRST) == [("asked", True)]
