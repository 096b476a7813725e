"""A laboratory that ends, hangs, floods, or is asked for what it does not have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import LaboratoryError, SandboxError
from nbcontainer.lab.laboratory import Laboratory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def laboratory(engine: Engine) -> Iterator[Laboratory]:
    """A laboratory of the test's own."""
    made = Laboratory(engine)
    yield made
    made.close()


def test_a_laboratory_that_is_killed_from_inside_is_an_error_of_one_line(laboratory: Laboratory) -> None:
    """The next request starts a new one."""
    with pytest.raises(LaboratoryError, match="the laboratory has ended"):
        laboratory.ask("sh", script="kill -9 $PPID", timeout=20)
    assert laboratory.ask("sh", script="echo new", timeout=20)["output"] == "new\n"


def test_a_flood_is_cut_and_a_hang_is_ended(laboratory: Laboratory) -> None:
    """At most a mebibyte of output, and at most the time that was given."""
    assert len(laboratory.ask("sh", script="yes | head -c 5000000", timeout=20)["output"]) == 1 << 20
    assert laboratory.ask("sh", script="sleep 100", timeout=0.2)["status"] == 137


def test_a_step_that_the_plan_has_not_is_an_error(laboratory: Laboratory) -> None:
    """With the steps that it has."""
    with pytest.raises(LaboratoryError, match="no step Nonsense") as raised:
        laboratory.run(laboratory.plan("true"), "true", ["Nonsense"], 20)
    assert "PivotRoot" in raised.value.hint


@pytest.mark.parametrize("ended", [False, True])
def test_a_laboratory_that_cannot_start_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    """The error is the same if its container has ended before the first request is sent."""

    def answer(laboratory: Laboratory, do: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        if ended:
            assert laboratory._running is not None
            laboratory._running.wait()
        return answered(laboratory, do, arguments)

    answered = Laboratory._answer
    monkeypatch.setattr(Laboratory, "_answer", answer)
    monkeypatch.setattr("nbcontainer.lab.agent.serve.__name__", "not_there")
    with contextlib.closing(Laboratory(engine)) as made:
        with pytest.raises(SandboxError, match="the laboratory cannot start"):
            made.ask("mounts")
        assert made.upper is None


def test_an_interrupt_of_its_start_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the first request would come to the next one."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.closing(Laboratory(engine)) as made:
        with monkeypatch.context() as patched:
            patched.setattr(Laboratory, "_answer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                made.ask("mounts")
        assert made.upper is None
        assert "overlay" in made.ask("mounts")


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda lab: lab.plan("id", volumes=["/tmp:/d"]), "the option volumes is about this machine"),
        (lambda lab: lab.plan("id", here="rw"), "the option here is about this machine"),
        (lambda lab: lab.plan("id", cap_add=["SYS_ADMIN"]), "the option cap_add is about this machine"),
        (lambda lab: lab.plan("id", userns="host"), "the option userns is about this machine"),
        (lambda lab: lab.run(lab.plan("id"), "id", ("CloneInit",), 5), "the laboratory itself would be the container"),
        (lambda lab: lab.ask("sh", "/bin/sh", script=b"ls", timeout=5), "text is expected, not bytes"),
        (lambda lab: lab.ask("umount", 5, target=5, lazy=False), "text is expected, not int"),
    ],
)
def test_what_a_laboratory_cannot_do_is_one_line(laboratory: Laboratory, call: Any, problem: str) -> None:
    """And it works on: the next plan runs."""
    with pytest.raises(LaboratoryError, match=problem):
        call(laboratory)
    assert laboratory.run(laboratory.plan("id -u"), "id -u", (), 30).output == "0\n"
