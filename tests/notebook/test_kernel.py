"""Cells in a real kernel: streams as they come, interrupts, restarts."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import all_dead, appear, descendants, marker, pidfds, processes_with

if TYPE_CHECKING:
    from tests.notebook.kernels import Kernel
    from tests.notebook.shell_kernels import ShellKernel


def gate(folder: Path) -> tuple[str, Path]:
    """What a cell does to wait at a gate, with `folder` as its volume /gate, and the file that opens it."""
    return "while [ ! -e /gate/open ]; do usleep 10000; done", folder / "open"


def test_output_comes_before_the_cell_ends(shared_kernel: Kernel, tmp_path: Path) -> None:
    """A line is on the page while the cell still runs; the cell goes on only after it was seen."""
    wait, opener = gate(tmp_path)
    cell = shared_kernel.send(f"%%container busybox -v {tmp_path}:/gate\necho first\n{wait}\necho second")
    cell.until("first\n")
    assert not cell.ended
    opener.touch()
    assert cell.end().good().stdout == "first\nsecond\n"


def test_output_without_a_newline_comes_at_once(shared_kernel: Kernel, tmp_path: Path) -> None:
    """A prompt without an end of line is shown before the cell goes on."""
    wait, opener = gate(tmp_path)
    cell = shared_kernel.send(f"%%container busybox -v {tmp_path}:/gate\nprintf 'name: '\n{wait}\necho you")
    cell.until("name: ")
    opener.touch()
    assert cell.end().good().stdout == "name: you\n"


def test_a_character_in_two_halves_arrives_whole(shared_kernel: Kernel, tmp_path: Path) -> None:
    """The two halves of a character, with a wait between them, are shown as the one character, and what follows too."""
    wait, opener = gate(tmp_path)
    body = f"printf 'a\\303'\necho seen >&2\n{wait}\nprintf '\\251z'"
    cell = shared_kernel.send(f"%%container busybox -v {tmp_path}:/gate\n{body}")
    cell.until("seen", "stderr").until("a")
    opener.touch()
    assert cell.end().good().stdout == "aéz"


def test_the_two_streams_are_two(shared_kernel: Kernel, tmp_path: Path) -> None:
    """Standard output and standard error are streams of the page of their own, in the order they were written."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    wait, _ = gate(first)
    body = f"echo one\n{wait}\necho two >&2\n{wait.replace('/gate', '/next')}\necho three"
    cell = shared_kernel.send(f"%%container busybox -v {first}:/gate -v {second}:/next\n{body}")
    cell.until("one")
    (first / "open").touch()
    cell.until("two", "stderr")
    (second / "open").touch()
    cell.end().good()
    assert cell.streams == [("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n")]


def test_a_progress_bar_stays_one_line(shared_kernel: Kernel) -> None:
    """Carriage returns reach the page as they are: it is the page that goes back to the beginning of the line."""
    cell = shared_kernel.run("%%container busybox\nfor i in 1 2 3; do printf '%d%%\\r' $i; done; echo done")
    assert cell.good().stdout == "1%\r2%\r3%\rdone\n"


def test_an_error_is_one_line(shared_kernel: Kernel) -> None:
    """A cell that ends badly is an error of the page, whose traceback is one line that says how it ended."""
    cell = shared_kernel.run("%%container busybox\necho before\nexit 3")
    assert cell.stdout == "before\n"
    assert cell.status == "error"
    assert cell.error is not None
    assert (cell.error["ename"], cell.error["evalue"]) == ("CellFailed", "exit code 3")
    assert cell.error["traceback"] == ["\x1b[31mCellFailed\x1b[0m: exit code 3"]
    assert not cell.stderr


@pytest.mark.parametrize(
    "body",
    [
        "sleep MARK",
        "sleep MARK & sleep MARK",
        "setsid sleep MARK & sleep MARK",
        "(trap '' HUP; exec sleep MARK) & sleep MARK",
        "trap '' INT TERM HUP QUIT; sleep MARK & sleep MARK",
        "(trap '' INT TERM; exec setsid sleep MARK) & wait",
    ],
)
def test_an_interrupt_ends_everything(shared_kernel: Kernel, body: str) -> None:
    """The stop button fails the cell with one short error, and leaves no process of it, however it tries to stay."""
    mark = marker()
    cell = shared_kernel.send(f"%%container busybox\necho up\n{body.replace('MARK', mark)}")
    cell.until("up")
    sleeping = pidfds(appear(mark, body.count("MARK")))
    shared_kernel.interrupt()
    assert all_dead(sleeping)
    cell.end()
    assert cell.error is not None
    assert cell.error["traceback"] == ["\x1b[31mCellFailed\x1b[0m: interrupted"]
    assert not processes_with(mark)


def test_an_interrupt_reaches_the_cell(shared_kernel: Kernel) -> None:
    """The cell has a moment to clean up after itself: it hears SIGINT."""
    grace = shared_kernel.value("__import__('nbcontainer').sandbox.supervisor.GRACE")
    shared_kernel.run("import nbcontainer.sandbox.supervisor as supervisor; supervisor.GRACE = 30").good()
    cell = shared_kernel.send(
        "%%container busybox\ntrap 'echo cleaned; exit 1' INT\necho up\nwhile :; do usleep 10000; done"
    )
    cell.until("up")
    shared_kernel.interrupt()
    assert cell.end().stdout == "up\ncleaned\n"
    shared_kernel.run(f"supervisor.GRACE = {grace}").good()
    assert cell.error is not None
    assert cell.error["evalue"] == "interrupted"


def test_an_interrupt_while_idle_harms_nothing(shared_kernel: Kernel) -> None:
    """The stop button pressed twice with nothing running leaves the notebook and its launcher as they were."""
    launcher = shared_kernel.value("get_ipython().magics_manager.registry['ContainerMagics'].engine.launcher.pid")
    shared_kernel.interrupt()
    shared_kernel.interrupt()
    assert shared_kernel.run("%%container busybox\necho fine").good().stdout == "fine\n"
    assert launcher == shared_kernel.value(
        "get_ipython().magics_manager.registry['ContainerMagics'].engine.launcher.pid"
    )


def test_an_interrupt_is_always_a_failure(shared_kernel: Kernel) -> None:
    """The stop button stops Run All, also where a cell's bad end is no error."""
    cell = shared_kernel.send("%%container busybox --no-raise-error\necho up\nsleep 1000; true").until("up")
    shared_kernel.interrupt()
    cell.end()
    assert cell.error is not None
    assert cell.error["traceback"] == ["\x1b[31mCellFailed\x1b[0m: interrupted"]


def test_an_impatient_person_interrupts_twice(shared_kernel: Kernel) -> None:
    """A second interrupt does not wait for a cell that ignores the first, and the next cell runs."""
    mark = marker()
    cell = shared_kernel.send(f"%%container busybox\ntrap '' INT TERM\necho up\nsleep {mark}; sleep {mark}")
    cell.until("up")
    shared_kernel.interrupt()
    shared_kernel.interrupt()
    cell.end()
    assert cell.error is not None
    assert cell.error["evalue"] == "interrupted"
    assert not processes_with(mark)
    assert shared_kernel.run("%%container busybox\necho fine").good().stdout == "fine\n"


def test_a_time_limit_ends_everything(shared_kernel: Kernel) -> None:
    """`--timeout` ends what ignores signals and what left its session, and says that it was the time."""
    mark = marker()
    cell = shared_kernel.run(
        f"%%container busybox --timeout 0.5\nsetsid sleep {mark} &\ntrap '' INT TERM\nsleep {mark}; sleep {mark}"
    )
    assert cell.error is not None
    assert re.match(r"stopped after its time limit \(\d+\.\d s\);", cell.error["evalue"])
    assert cell.error["evalue"].endswith("; set a longer one with `--timeout`")
    assert not processes_with(mark)


def test_what_a_cell_leaves_in_the_background_ends_with_it(shared_kernel: Kernel) -> None:
    """When the cell's own process ends, what it left behind is gone before the notebook goes on."""
    mark = marker()
    body = f"sleep {mark} &\nsetsid sleep {mark} &\n(trap '' INT TERM HUP; exec sleep {mark}) &\necho over"
    assert shared_kernel.run(f"%%container busybox\n{body}").good().stdout == "over\n"
    assert not processes_with(mark)


def test_a_restart_ends_everything_and_begins_anew(kernel: Kernel) -> None:
    """The restart button in the middle of a cell leaves no process of the old kernel; a fresh one runs cells."""
    mark = marker()
    kernel.send(f"%%container busybox\ntrap '' INT TERM\necho up\nsleep {mark}").until("up")
    with kernel.watched():
        kernel.restart()
    assert not processes_with(mark)
    kernel.run("%load_ext nbcontainer").good()
    assert kernel.run("%%container busybox\necho again").good().stdout == "again\n"
    assert not processes_with(mark)


def test_a_kernel_that_shuts_down_leaves_nothing(short_path: Path, tmp_path: Path) -> None:
    """A kernel that ends in good order leaves no process, and no session, container or work in its store."""
    from tests.notebook.kernels import Kernel

    store = tmp_path / "store"
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        kernel.run("%%container busybox\necho > /file").good()
        below = pidfds(descendants(kernel.pid))
        kernel.manager.shutdown_kernel()
        assert all_dead(below)
    for folder in ("sessions", "containers", "tmp"):
        assert not list((store / folder).iterdir())
    assert [path.name for path in (store / "layers").iterdir() if path.name != "sha256"] == [
        path.readlink().name for path in (store / "layers" / "sha256").iterdir()
    ]


def test_a_kernel_that_is_short_of_descriptors_answers_each_request(shell_kernel: ShellKernel) -> None:
    """A cell that cannot start is an error of one line, and the next one runs when there are descriptors again."""
    limits, errors = resource.prlimit(shell_kernel.pid, resource.RLIMIT_NOFILE), []
    shell_kernel.run("exit")
    for room in range(-16, 24):  # some that are there may be closed at this moment: they are of the shell before
        there = len(list(Path(f"/proc/{shell_kernel.pid}/fd").iterdir()))
        resource.prlimit(shell_kernel.pid, resource.RLIMIT_NOFILE, (there + room, limits[1]))
        cell = shell_kernel.run("echo x")
        assert cell.status in ("ok", "error")
        errors += [] if cell.error is None else [str(cell.error["evalue"])]
        resource.prlimit(shell_kernel.pid, resource.RLIMIT_NOFILE, limits)
        shell_kernel.run("exit")
    assert errors
    assert not any("\n" in error for error in errors)
    assert shell_kernel.run("echo fine").good().stdout == "fine\n"
