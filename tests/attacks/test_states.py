"""What a container could have made in a layer never leads `diff` and `restore` out of the container's files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers import lookup as containers
from nbcontainer.errors import ContainerError
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

NAME = "states-attack"


@pytest.fixture
def do(engine: Engine) -> Iterator[Callable[..., Any]]:
    """Runs a verb, and removes the container at the end."""
    yield lambda verb, *words: VERBS[verb].answer(Invocation(engine, parse(VERBS[verb].command, words)))
    containers.get(engine, NAME).remove()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host with a file in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("of the host\n")
    return folder


def cells(engine: Engine, *scripts: str) -> None:
    """Run scripts in the container."""
    for script in scripts:
        ran = run_script(engine, script, image="busybox", name=NAME)
        assert ran.outcome.ok, ran.stderr


def test_a_link_in_a_state_does_not_lead_to_the_host(engine: Engine, do: Any, outside: Path) -> None:
    """A directory that became a link to the host's is compared as a link, and nothing is read or restored behind it."""
    cells(engine, "mkdir /d; echo inside > /d/secret", f"rm -r /d; ln -s {outside} /d")
    found = str(do("diff", f"{NAME}@1", NAME, "--text"))
    assert "of the host" not in found
    assert f"C /d: a directory -> a link, target (none) -> {outside}" in found
    assert "D /d/secret" in found
    for number in (1, 2):
        with pytest.raises(ContainerError, match="it is a link"):
            do("restore", f"{NAME}@{number}", "/d/secret")
    do("restore", f"{NAME}@1", "/d")
    do("restore", f"{NAME}@2", "/d")
    assert sorted(os.listdir(outside)) == ["secret"]
    assert (outside / "secret").read_text() == "of the host\n"
    assert (outside / "secret").stat().st_nlink == 1
    assert run_script(engine, "readlink /d; cat /d/secret || true", name=NAME).text == str(outside)


def test_what_a_container_wrote_does_not_control_a_terminal_or_a_page(engine: Engine, do: Any) -> None:
    """Escape sequences and markup in names, contents and targets of links are shown as text."""
    cells(
        engine,
        "true",
        "cd /; printf 'a\\33]0;x\\7<b>\\r\\n' > \"$(printf 'n\\33[31m<i>')\"; ln -s \"$(printf 't\\33c')\" l",
    )
    view = do("diff", f"{NAME}@0", NAME, "--text")
    for shown in (str(view), view._repr_html_(), str(do("diff", f"{NAME}@0", NAME))):
        assert not {"\x1b", "\x07", "\r"} & set(shown)
    assert "+a\\x1b]0;x\\x07<b>\\r" in str(view)
    assert "<i>" not in view._repr_html_()
    assert "+a" in view._repr_html_()


def test_no_file_of_a_state_keeps_diff_waiting(engine: Engine, do: Any) -> None:
    """A pipe in the place of a file is not read, and a file of a terabyte is named."""
    cells(engine, "echo 1 > /p; echo 1 > /big", "rm /p; mkfifo /p; truncate -s 1099511627776 /big")
    found = str(do("diff", f"{NAME}@1", NAME, "--text"))
    assert "C /p: a file -> a named pipe" in found
    assert "C /big: large file, 2 -> 1099511627776 bytes" in found
