"""The end of a program, and a copy of it by fork(2), with a map or a stream that was not read to its end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.running import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path


def ended(folder: Path, text: str, *arguments: str) -> tuple[int, str]:
    """The exit code of a program with this text, and what it wrote last to standard error."""
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, str(folder / "program.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stderr.strip().rpartition("\n")[2]


UNFINISHED = """
import nbcontainer, sys
for result in (results := nbcontainer.map("busybox", sys.argv[1:], [""] * 6, workers=2)):
    raise ZeroDivisionError("the loop")
"""


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("command", [["true"], ["sh", "-c", "[ -e /in ] || sleep 0.2"]], ids=["short", "long"])
def test_a_program_ends_with_a_map_that_was_not_read_to_its_end(tmp_path: Path, command: list[str]) -> None:
    """An error in the loop ends the program with its traceback, whatever is left of the map."""
    assert ended(tmp_path, UNFINISHED, *command) == (1, "ZeroDivisionError: the loop")


OPEN = """
import nbcontainer, sys
results = nbcontainer.map("busybox", ["sleep", "100000"], [""] * 6, workers=2)
events = [nbcontainer.stream("busybox", script="while :; do echo x; sleep 0.01; done") for _ in range(3)]
next(events[0])
"""


@pytest.mark.usefixtures("default")
def test_a_program_ends_the_items_that_run(tmp_path: Path) -> None:
    """At the end of a program, all its containers end: Python does not wait for items that run, or for streams."""
    assert ended(tmp_path, OPEN) == (0, "")


FORKED = """
import nbcontainer, os, sys
results = nbcontainer.map("busybox", ["sh", "-c", "sleep 1; echo done"], ["", ""])
events = nbcontainer.stream("busybox", script="echo begun; sleep 1; echo done")
next(events)
if os.fork() == 0:
    results.close()
    del results, events
    sys.exit()
os.wait()
print([one.text for one in results], [event.text for event in events], file=sys.stderr)
"""


@pytest.mark.usefixtures("default")
def test_a_fork_ends_nothing_of_its_parents(tmp_path: Path) -> None:
    """A copy of this process drops its copies of a map and of a stream: the items and the run belong to the parent."""
    assert ended(tmp_path, FORKED) == (0, "['done\\n', 'done\\n'] ['done\\n']")


USED_IN_A_CHILD = """
import multiprocessing, nbcontainer, os, sys
def work(name):
    try:
        return objects[name].run(["sh", "-c", "echo > /mine"]).text
    except nbcontainer.NbcontainerError as error:
        return f"{error.message[:30]}"
objects = {name: nbcontainer.create("busybox", name=f"{name}-{os.getpid()}") for name in "ab"}
for one in objects.values():
    one.run(["true"])
with multiprocessing.get_context("fork").Pool(2) as pool:
    said = pool.map(work, objects)
    again = [one.run(script="echo again").text for one in objects.values()]
    job = objects["a"].start(["sleep", "1000"])
with multiprocessing.get_context("fork").Pool(2) as pool:
    objects["a"].stop()
    again += [one.run(script="echo free").text for one in objects.values()]
for one in objects.values():
    one.remove()
print(said, again, file=sys.stderr)
"""


@pytest.mark.usefixtures("default")
def test_a_container_belongs_to_the_process_that_opened_it(tmp_path: Path) -> None:
    """A child by fork(2) that uses one gets an error and changes nothing; while a child lives, its parent goes on."""
    said = (["a container, or an engine, was"] * 2, ["again\n"] * 2 + ["free\n"] * 2)
    assert ended(tmp_path, USED_IN_A_CHILD) == (0, f"{said[0]} {said[1]}")
