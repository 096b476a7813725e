"""Which roots a launcher has mounted, and what becomes of their descriptors."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.errors import ContainerLost
from nbcontainer.sandbox.launcher.root_mounts import RootMounts
from nbcontainer.sandbox.spec import Overlay
from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.steps.namespaces import SetHostname

if TYPE_CHECKING:
    from nbcontainer.sandbox.launcher.connection import Connection

ROOT = Overlay(("a/diff",), "../tmp/s.1/diff", "../tmp/s.1/work")
ATTACH = AttachRoot(("a/diff",), "../tmp/s.1/diff")


class Answers:
    """A connection whose launcher mounts every root, or refuses to."""

    def __init__(self) -> None:
        self.observers: list[Any] = []
        self.sent: list[dict[str, Any]] = []
        self.refuses = 0
        self.given: list[int] = []

    def number(self) -> int:
        return len(self.sent)

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def receive(self, number: int) -> tuple[dict[str, Any], list[int]]:
        if self.refuses:
            return {"order": number, "failed": [self.refuses, os.strerror(self.refuses)]}, []
        files = [os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)]
        self.given += files
        return {"order": number}, files

    def are_open(self) -> bool:
        """Whether all that was given is open still."""
        return all(Path(f"/proc/self/fd/{fd}").exists() for fd in self.given)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def roots(answers: Answers) -> RootMounts:
    return RootMounts(cast("Connection", answers))


def test_an_order_gets_the_descriptors_of_its_root(answers: Answers, roots: RootMounts) -> None:
    """By the upper directory in its plan; a plan that mounts its own root gets none."""
    assert roots.mount(ROOT)
    assert answers.sent[0]["upper"] == "../tmp/s.1/diff"
    assert roots.files((SetHostname("x"), ATTACH)) == answers.given
    assert roots.files((SetHostname("x"),)) == []
    roots.on_closed()


def test_a_root_is_found_where_its_directory_is(answers: Answers, roots: RootMounts) -> None:
    """After a move it has the new name alone; what is not mounted cannot be moved."""
    roots.mount(ROOT)
    assert roots.move("../tmp/s.1/diff", "../tmp/s.2/diff")
    assert not roots.move("../tmp/s.1/diff", "../tmp/s.3/diff")
    assert roots.files((AttachRoot(("a/diff",), "../tmp/s.2/diff"),)) == answers.given
    with pytest.raises(ContainerLost):
        roots.files((ATTACH,))
    roots.on_closed()


def test_an_unmounted_root_is_closed(answers: Answers, roots: RootMounts) -> None:
    """Its descriptors are closed once; another call does nothing."""
    roots.mount(ROOT)
    assert answers.are_open()
    roots.unmount("../tmp/s.1/diff")
    roots.unmount("../tmp/s.1/diff")
    assert not answers.are_open()
    assert roots.mounted == 0


def test_a_launcher_that_refuses_is_not_asked_again(answers: Answers, roots: RootMounts) -> None:
    """Until the next one, which may be able to."""
    answers.refuses = errno.EINVAL
    assert not roots.mount(ROOT)
    assert not roots.mount(ROOT)
    assert len(answers.sent) == 1
    answers.refuses = 0
    roots.on_ready()
    assert roots.mount(ROOT)
    roots.on_closed()


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE])
def test_a_launcher_that_is_short_of_something_is_asked_again(answers: Answers, roots: RootMounts, number: int) -> None:
    """What it cannot do now, it may be able to do for the next container."""
    answers.refuses = number
    with pytest.raises(OSError, match=os.strerror(number)):
        roots.mount(ROOT)
    answers.refuses = 0
    assert roots.mount(ROOT)
    roots.on_closed()


def test_the_roots_of_a_launcher_that_ended_are_closed(answers: Answers, roots: RootMounts) -> None:
    """A cell whose plan has one of them is told that its container is lost, and gets another."""
    roots.mount(ROOT)
    roots.on_closed()
    assert not answers.are_open()
    with pytest.raises(ContainerLost, match="the launcher that had mounted its root ended"):
        roots.files((ATTACH,))
