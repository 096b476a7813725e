"""`nbcontainer explain` and `run --explain`: what is done for a run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Program

CALL = re.compile(r"[a-z_0-9]+\(.*\)")


def test_explain_prints_a_call_in_each_line(program: Program) -> None:
    """Without running anything: no container is made, and the calls are in the order of the plan."""
    before = program.good("ps", "-q")
    lines = program.good("explain", "busybox", "ls", "-l").splitlines()
    assert all(CALL.fullmatch(line) for line in lines)
    assert lines[0].startswith("clone(")
    assert lines.index('pivot_root(".", ".")') < lines.index("setsid()")
    assert re.fullmatch(r'execve\("/bin/ls", \["ls", "-l"\], /\* [45] vars \*/\)', lines[-1])  # 5 for a single id
    assert program.good("ps", "-q") == before


def test_the_options_of_a_run_change_the_plan(program: Program) -> None:
    """A volume, a host name, a limit and a read-only root are calls of their own."""
    plain = program.good("explain", "busybox").splitlines()
    more = program.good(
        "explain", "--read-only", "--hostname", "box", "--tmpfs", "/t:size=1m", "--ulimit", "nofile=99", "busybox"
    ).splitlines()
    added = [line for line in more if line not in plain]
    assert 'sethostname("box", 3)' in added
    assert 'mount("tmpfs", "stage/tmpfs", "tmpfs", MS_NOSUID|MS_NODEV, "mode=1777,size=1048576")' in added
    assert any("RLIMIT_NOFILE, {rlim_cur=99" in line for line in added)
    assert any(
        line.startswith('mount_setattr(AT_FDCWD, "stage/root", 0, {attr_set=MOUNT_ATTR_RDONLY') for line in added
    )


def test_what_ran_is_explained_after_its_output(program: Program) -> None:
    """The output of the cell first, then the calls that were made for it."""
    said = program.good("run", "--explain", "busybox", "echo", "hello").splitlines()
    assert said[0] == "hello"
    assert all(CALL.fullmatch(line) for line in said[1:])
    assert re.fullmatch(r'execve\("/bin/echo", \["echo", "hello"\], /\* [45] vars \*/\)', said[-1])


@pytest.mark.parametrize(("language", "word"), [("en", "switch the root"), ("zh", "切换根目录，并卸下旧的根")])
def test_the_words_are_english_or_chinese(program: Program, language: str, word: str) -> None:
    """As JSON, each step has its description, its purpose and what an attacker could do without it."""
    steps = json.loads(program.good("--json", "explain", "--language", language, "busybox"))
    pivot = next(step for step in steps if step["step"] == "PivotRoot")
    assert pivot["description"] == word
    assert pivot["why"]
    assert pivot["risk"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["explain"], "missing image"),
        (["explain", "./no-such-image"], "no file no-such-image"),
        (["explain", "--language", "fr", "busybox"], "invalid language 'fr'"),
        (["explain", "--explain", "busybox"], "--explain"),
        (["explain", "--network", "moon", "busybox"], "moon"),
    ],
)
def test_what_cannot_be_explained_is_one_line(program: Program, words: list[str], problem: str) -> None:
    """The problem, and what to write instead."""
    said = program.fails(2 if "no-such" not in words[-1] else 1, *words)
    assert problem in said
    assert len(said.strip().splitlines()) == 1
