"""`--live`: a container and its interpreter stay from cell to cell."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cells import leftovers
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.live.live_container import LiveContainer
from nbcontainer.containers.live.process import ShellProcess
from nbcontainer.errors import CellFailed
from nbcontainer.linux.procfs import children
from tests.notebook.shell_cells import wait_for
from tests.running import (
    DEADLINE,
    all_dead,
    appear,
    descendants,
    init_of,
    interrupt_beside,
    marker,
    mounts_of,
    pidfds,
    processes_with,
    run_script,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.notebook.conftest import Notebook, Ran
    from tests.notebook.kernels import Kernel

SHELL = "%%container busybox --name dev --live\n"
PYTHON = "%%container host --name dev --live=python\n"
AGAIN = "%%container --name dev --live\n"
JOB = "%%container busybox --name dev --bg"


def failure(ran: Ran) -> str:
    """The error of a cell, as its one line."""
    assert ran.error is not None, ran
    return f"{type(ran.error).__name__}: {ran.error}"


def interrupt_when(mark: str) -> threading.Thread:
    """Interrupts this process when a process with `mark` in its words runs."""

    def wait() -> None:
        appear(mark, 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_live_shell_keeps_its_state(dev: Notebook) -> None:
    """Variables, functions, the working directory and files remain from cell to cell."""
    dev.good(SHELL + "x=5; f() { echo f$x; }; cd /tmp; echo file > here")
    assert dev.good(AGAIN + "f; pwd; cat here").split() == ["f5", "/tmp", "file"]


def test_a_live_python_keeps_its_state(dev: Notebook) -> None:
    """Imports, variables and functions of a Python cell remain for the next one, and streams stay apart."""
    dev.good(PYTHON + "import json, sys\nx = 5\ndef f(): return x + 1")
    ran = dev.run(AGAIN + "print(json.dumps(f()))\nprint('two', file=sys.stderr)")
    assert (ran.stdout, ran.stderr, ran.error) == ("6\n", "two\n", None)


def test_a_live_cell_wakes_no_warm_container(dev: Notebook, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live cell has its container, so that it wakes no other one; a cell of its own container does."""
    woken: list[str] = []
    monkeypatch.setattr(engine, "wake", lambda: woken.append("woken"))
    dev.good(SHELL + "true")
    dev.good(AGAIN + "true")
    assert woken == []
    dev.good("%%container busybox\necho --live")
    assert woken == ["woken"]


@pytest.mark.parametrize("begin", [SHELL, PYTHON], ids=["shell", "python"])
def test_a_short_cell_after_a_long_one_is_all_that_runs(dev: Notebook, begin: str) -> None:
    """Nothing of a cell's text is left in the next one, which is shorter or begins with `#!`."""
    rest = "print(2)\n" * 1000 if begin == PYTHON else "echo 2\n" * 1000
    first = "print(1)\n" if begin == PYTHON else "echo 1\n"
    assert dev.good(begin + rest) == "2\n" * 1000
    assert dev.good(AGAIN + first) == "1\n"
    assert dev.good(AGAIN + "#!/bin/sh\necho 3\n") == "3\n"
    assert dev.good(AGAIN + first) == "1\n"


@pytest.mark.parametrize("begin", [SHELL, PYTHON], ids=["shell", "python"])
def test_an_interpreter_that_is_woken_changes_nothing(dev: Notebook, engine: Engine, begin: str) -> None:
    """A wake for a cell, which rehearses one, writes nothing and leaves the names and the last status as they are."""
    names = "print(sorted(globals()))" if begin == PYTHON else "set | sed -n 's/^\\([a-z][a-z_]*\\)=.*/\\1/p'"
    dev.good(begin + "value = 5" if begin == PYTHON else begin + "value=5")
    before = dev.good(AGAIN + names)
    assert "value" in before
    dev.run(AGAIN + ("value\nraise SystemExit(3)" if begin == PYTHON else "(exit 3)"))
    for _ in range(50):
        engine.live["dev"].wake()
    assert dev.good(AGAIN + ("print(value)" if begin == PYTHON else "echo $?")) == ("5\n" if begin == PYTHON else "3\n")
    assert dev.good(AGAIN + names) == before


def test_background_processes_continue(dev: Notebook) -> None:
    """A process that a cell starts in the background runs on after the cell, and its output comes with a later cell."""
    seconds = marker()
    dev.good(SHELL + f"sleep {seconds} &\n(while [ ! -e /go ]; do sleep 0.01; done; echo late; touch /done) &")
    assert appear(seconds, 1)
    shown = dev.good(AGAIN + "touch /go; while [ ! -e /done ]; do sleep 0.01; done")
    assert shown == "late\n"


def test_output_between_cells_comes_with_the_next_one(dev: Notebook) -> None:
    """What a background process writes while no cell runs is shown by the next cell."""
    seconds = marker()
    waits = marker()
    dev.good(SHELL + f"(sleep {waits}; echo between; exec sleep {seconds}) &")
    (waiting,) = appear(waits, 1)
    os.kill(waiting, signal.SIGKILL)
    appear(seconds, 1)
    assert dev.good(AGAIN + "echo now") == "between\nnow\n"


@pytest.mark.parametrize("start", [SHELL, PYTHON], ids=["shell", "python"])
def test_a_failed_cell_is_an_error_and_keeps_the_state(dev: Notebook, start: str) -> None:
    """A cell that fails, or that exits, is an error with its exit code; the interpreter continues."""
    python = start is PYTHON
    dev.good(start + "x=5")
    assert failure(dev.run(AGAIN + ("1/0" if python else "false"))) == "CellFailed: exit code 1"
    assert dev.fails(AGAIN + ("import sys; sys.exit(7)" if python else "exit 7")) == "CellFailed: exit code 7"
    assert dev.good(AGAIN + ("print(x)" if python else "echo $x")) == "5\n"


def test_a_traceback_shows_the_cells_own_lines(dev: Notebook) -> None:
    """A traceback has the lines and numbers of the cell that defined a function, and nothing of the driver."""
    dev.good(PYTHON + "\ndef f():\n    raise ValueError('why')")
    ran = dev.run(AGAIN + "y = 1\nf()")
    assert ran.stderr.splitlines()[:5] == [
        "Traceback (most recent call last):",
        '  File "<cell 2>", line 2, in <module>',
        "    f()",
        '  File "<cell 1>", line 3, in f',
        "    raise ValueError('why')",
    ]
    assert "ValueError: why" in ran.stderr


def test_a_syntax_error_names_its_line(dev: Notebook) -> None:
    """A syntax error shows the cell's line and nothing of the driver."""
    dev.good(PYTHON + "x = 1")
    ran = dev.run(AGAIN + "x = 2\nif:\n")
    assert '  File "<cell 2>", line 2' in ran.stderr
    assert "driver" not in ran.stderr
    assert "/dev/nbcontainer" not in ran.stderr


def test_python_cells_are_the_main_module(dev: Notebook) -> None:
    """Classes of a cell can be pickled, `await` works at the top, and a forked copy does not continue the cells."""
    dev.good(PYTHON + "import asyncio, os, pickle\nclass C: pass\nassert type(pickle.loads(pickle.dumps(C()))) is C")
    dev.good(AGAIN + "await asyncio.sleep(0)\npid = os.fork()\nif pid: os.waitpid(pid, 0)")
    assert dev.good(AGAIN + "print(bool(pid), __name__)") == "True __main__\n"


@pytest.mark.parametrize("start", [SHELL, PYTHON], ids=["shell", "python"])
def test_an_interrupt_ends_the_statement_and_keeps_the_state(dev: Notebook, start: str) -> None:
    """An interrupt ends the cell's statement and its processes; variables remain, and the container runs."""
    seconds = marker()
    sleep = f"import subprocess; subprocess.run(['sleep', '{seconds}'])" if start is PYTHON else f"sleep {seconds}"
    dev.good(start + "x=5")
    thread = interrupt_when(seconds)
    ran = dev.run(AGAIN + sleep)
    thread.join()
    assert failure(ran).startswith("CellFailed: interrupted")
    assert "/dev/nbcontainer" not in ran.stderr
    assert all_dead(pidfds(processes_with(seconds)))
    assert dev.good(AGAIN + ("print(x)" if start is PYTHON else "echo $x")) == "5\n"


@pytest.mark.parametrize("start", [SHELL, PYTHON], ids=["shell", "python"])
def test_an_interrupt_that_did_not_end_the_wait_is_seen(dev: Notebook, start: str) -> None:
    """A signal that comes just before a system call does not end it (signal(7)): it is seen a moment later."""
    seconds = marker()
    sleep = f"import subprocess; subprocess.run(['sleep', '{seconds}'])" if start is PYTHON else f"sleep {seconds}"
    dev.good(start + "x=5")
    with interrupt_beside(seconds):
        ran = dev.run(AGAIN + sleep)
    assert failure(ran).startswith("CellFailed: interrupted")


def interrupt_at(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts this process, once, when a method of `ShellProcess` begins in the thread of a process."""
    begin, left = getattr(ShellProcess, moment), [signal.SIGINT]

    def interrupted(*arguments: object) -> None:
        if left:
            os.kill(os.getpid(), left.pop())
        begin(*arguments)

    monkeypatch.setattr(ShellProcess, moment, interrupted)


def test_an_interrupt_while_the_interpreter_starts_is_its_cell_s(
    dev: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell ends, and no container is left that the notebook does not know."""
    interrupt_at("_run", monkeypatch)
    ran = dev.run(SHELL + "sleep 1000")
    assert failure(ran).startswith("CellFailed: interrupted")
    assert dev.good(AGAIN + "echo next") == "next\n"


@pytest.mark.parametrize("moment", ["_run", "_on_wait"], ids=["before it waits", "while it waits"])
def test_a_live_cell_that_waits_for_another_notebook_can_be_interrupted(
    dev: Notebook, store_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The interrupt ends the wait, and the next cell has the container when the other cell has ended."""
    dev.good("%%container busybox --name dev\ntrue")
    seconds = marker()
    interrupt_at(moment, monkeypatch)
    with contextlib.closing(Engine(store_path)) as other:
        thread = threading.Thread(target=run_script, args=(other, f"sleep {seconds}"), kwargs={"name": "dev"})
        thread.start()
        appear(seconds, 1)
        ran = dev.run(AGAIN + "echo $x")
        assert failure(ran) == "CellFailed: interrupted"
        assert "waiting for the cell that runs in container 'dev'" in ran.stderr
        for pid in processes_with(seconds):
            os.kill(pid, signal.SIGTERM)
        thread.join()
    assert dev.good(AGAIN + "echo next") == "next\n"


def test_a_time_limit_ends_the_statement_and_keeps_the_state(dev: Notebook) -> None:
    """`--timeout` is a cell's own: the cell ends, the interpreter stays, and the next cell has no limit."""
    dev.good(PYTHON + "x = 5; import time")
    ran = dev.run("%%container --name dev --live --timeout 0.2\ntime.sleep(60)")
    assert failure(ran).startswith("CellFailed: stopped after its time limit (")
    assert dev.good(AGAIN + "time.sleep(0.3); print(x)") == "5\n"
    assert dev.good("%%container --name dev --live --timeout 3e6\ntime.sleep(0.3); print(x)") == "5\n"


@pytest.fixture
def full_disk(dev: Notebook, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveContainer]:
    """A live container that has made a file, while nothing that a container has left can be kept."""
    dev.good(SHELL + "echo > /made")
    live = default_engine().live["dev"]
    assert isinstance(live, LiveContainer)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "keep", full)
        yield live


def kill(live: LiveContainer) -> None:
    """Let the interpreter end by itself, and something notice that."""
    os.kill(children(live.session.init)[0], signal.SIGKILL)
    wait_for(lambda: not live.running)


LOST = "cannot keep what the cell left"


@pytest.mark.parametrize("before", [None, kill], ids=["while it runs", "after its end"])
def test_stop_reports_changes_that_are_lost(
    dev: Notebook, full_disk: LiveContainer, before: Callable[[LiveContainer], None] | None
) -> None:
    """Also if the interpreter had ended by itself, and something had noticed that."""
    if before is not None:
        before(full_disk)
    assert LOST in dev.fails("%container stop dev")
    assert failure(dev.run(AGAIN + "ls /made")).startswith("CellFailed: exit code 1")


def test_a_cell_reports_changes_that_are_lost(
    dev: Notebook, full_disk: LiveContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the next one if the interpreter ended by itself; after that, `stop` has nothing to report."""
    kill(full_disk)
    monkeypatch.undo()
    ran = dev.run(AGAIN + "ls /made")
    assert failure(ran).startswith("CellFailed: exit code 1")
    assert LOST in ran.stderr
    assert str(dev.run("%container stop dev").value) == "dev stopped"


@pytest.mark.usefixtures("full_disk")
def test_a_container_whose_changes_cannot_be_kept_is_removed(dev: Notebook) -> None:
    """Who needs the space removes it by one command."""
    assert str(dev.run("%container rm -f dev").value) == "removed dev"


@pytest.mark.parametrize("start", [SHELL, PYTHON], ids=["shell", "python"])
def test_stop_ends_it_and_makes_one_entry_of_history(dev: Notebook, start: str) -> None:
    """`ps` lists it; `stop` ends it with all its processes; its cells are one entry of the history with one layer."""
    seconds = marker()
    python = start is PYTHON
    dev.good(
        start + (f"import subprocess; p = subprocess.Popen(['sleep', '{seconds}'])" if python else f"sleep {seconds} &")
    )
    dev.good(AGAIN + ("open('/made', 'w').close()" if python else "touch /made"))
    row = next(line for line in str(dev.run("%container ps").value).splitlines() if line.startswith("dev "))
    assert "running" in row
    assert f"live {'python' if python else 'shell'}" in row
    watched = pidfds(appear(seconds, 1))
    assert str(dev.run("%container stop dev").value) == "dev stopped"
    assert all_dead(watched)
    rows = str(dev.run("%container history dev").value).splitlines()
    assert len(rows) == 2, rows
    assert "made" in rows[1] or "…" in rows[1]
    assert "A       /made" in str(dev.run("%container diff dev").value)
    assert dev.good("%%container --name dev\nls /made").strip() == "/made"


def test_history_cannot_change_while_it_runs(dev: Notebook) -> None:
    """`undo`, `rm` and `rename` of a running container fail, and say how to stop it."""
    dev.good("%%container busybox --name dev\ntouch /before")
    dev.good(AGAIN + "touch /now")
    for words in ("undo dev", "rm dev", "rename dev other"):
        assert "stop it first: `%container stop dev`" in dev.fails(f"%container {words}")
    dev.run("%container stop dev")
    dev.run("%container undo dev")
    assert dev.good("%%container --name dev\nls / | grep -e before -e now") == "before\n"


def test_commit_diff_and_export_copy_it(dev: Notebook, tmp_path: Path) -> None:
    """`commit`, `diff` and `export` see the files as they are, and the interpreter continues."""
    dev.good(SHELL + "x=5; echo text > /made")
    for name in ("", " dev"):
        assert "A       /made" in str(dev.run(f"%container diff{name}").value)
    dev.run("%commit dev live-copy")
    dev.run(f"%container export dev -o {tmp_path / 'live.tar'}")
    assert (tmp_path / "live.tar").stat().st_size > 0
    assert dev.good(AGAIN + "echo $x") == "5\n"
    assert dev.good("%%container live-copy\ncat /made") == "text\n"
    dev.run("%container rmi live-copy")


def test_python_remains_if_a_cell_closes_all_descriptors(dev: Notebook) -> None:
    """A cell that closes every descriptor but the streams, and opens others, loses neither its Python nor its files."""
    dev.good(PYTHON + "import os\nos.closerange(3, 4096)\nfiles = [open(f'/tmp/{n}', 'w+') for n in range(9)]\nx = 5")
    assert dev.good(AGAIN + "print(x, [os.fstat(file.fileno()).st_size for file in files])") == f"5 {[0] * 9}\n"


@pytest.mark.parametrize("start", [SHELL, PYTHON], ids=["shell", "python"])
def test_cells_of_any_length_and_kind_follow_each_other(dev: Notebook, start: str) -> None:
    """A long cell, a short one, a script of another program and a short one run in turn, each with its own text."""
    say = "print({})" if start is PYTHON else "echo {}"
    long = "\n".join(["# " + "é" * 60] * 100)
    shown = [dev.good(start + f"{long}\n{say.format(1)}"), dev.good(AGAIN + say.format(2))]
    shown += [dev.good(AGAIN + "#!/bin/sh\necho 3"), dev.good(AGAIN + say.format(4))]
    assert shown == ["1\n", "2\n", "3\n", "4\n"]


def test_an_interpreter_that_ends_is_reported(dev: Notebook) -> None:
    """If the interpreter ends, the cell says how; files remain, and the next cell starts a new one."""
    dev.good(PYTHON + "x = 5; import os; open('/kept', 'w').close()")
    ran = dev.run(AGAIN + "os._exit(3)")
    assert str(ran.error) == "exit code 3"
    assert "the Python ended (exit code 3): the next cell runs in a new one" in ran.stderr
    assert dev.good(PYTHON + "import os; print(os.path.exists('/kept'), 'x' in globals())") == "True False\n"


def test_an_interpreter_killed_between_cells_is_reported(dev: Notebook) -> None:
    """If the container is killed between two cells, the next cell says so and runs in a new one."""
    seconds = marker()
    dev.good(SHELL + f"x=5; sleep {seconds} &")
    init = init_of(seconds)
    watched = [os.pidfd_open(init)]
    os.kill(init, signal.SIGKILL)
    assert all_dead(watched)
    ran = dev.run(SHELL + "echo new$x")
    assert (ran.stdout, ran.error) == ("new\n", None)


def test_the_options_of_a_live_container_are_those_of_its_start(dev: Notebook) -> None:
    """Other options, or another interpreter, are an error; the same options are not."""
    start = "%%container busybox --name dev --live --shm-size 1m\n"
    dev.good(start + "x=5")
    assert dev.good(start + "echo $x") == "5\n"
    assert "runs with other options" in dev.fails("%%container --name dev --live --shm-size 2m\ntrue")
    assert "runs a live shell" in dev.fails("%%container --name dev --live=python\n1")
    assert dev.good(AGAIN + "echo $x") == "5\n"


def test_traits_are_for_containers_that_start(dev: Notebook, tmp_path: Path) -> None:
    """A process in a container that runs has that container's options, whatever the traits are now, or were then."""
    dev.good("%config ContainerMagics.network = 'private'")
    dev.good("%%container busybox --name dev --network none --live\nx=5")
    for volumes in ([], [f"{tmp_path}:/data"]):
        dev.good(f"%config ContainerMagics.volume = {volumes}")
        assert dev.good(AGAIN + "echo $x") == "5\n"
        assert dev.good("%%container --name dev\necho beside") == "beside\n"
        assert dev.good("%container exec dev echo joined") == "joined\n"
    assert "runs with other options" in dev.fails("%%container --name dev --network private\ntrue")
    dev.good("%config ContainerMagics.timeout = 0.5")
    assert "time limit" in dev.fails("%container exec dev sleep 1000")


def test_how_the_interpreter_ended_is_in_the_error(dev: Notebook) -> None:
    """A signal, and a limit of memory, are those that ended the interpreter."""
    ran = dev.run(SHELL + "kill -9 $$")
    assert failure(ran) == "CellFailed: ended by SIGKILL"
    assert isinstance(ran.error, CellFailed)
    assert ran.error.outcome.signal == signal.SIGKILL
    assert ran.error.outcome.wall_time > 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("%%container busybox --live\ntrue", "UsageError: --live requires --name"),
        ("%%container busybox --name dev --live=ruby\ntrue", "UsageError: unknown interpreter 'ruby' for --live"),
        ("%%container busybox --name dev --live --rm\ntrue", "UsageError: --rm cannot be used with --live"),
        ("%%container busybox --name dev --live cat\ntrue", "UsageError: --live runs the cell's body"),
        ("%container run busybox --name dev --live", "UsageError: --live runs the cell's body"),
        ("%%container busybox --name dev --live=python\n1", "SetupFailed: cannot run"),
        ("%%container busybox --name dev --live\na\0b", "UsageError: invalid cell: NUL character at position 1"),
    ],
)
def test_a_wrong_request_is_refused(dev: Notebook, engine: Engine, line: str, error: str) -> None:
    """A request that cannot be live fails in one line, and leaves nothing that runs."""
    assert dev.fails(line).startswith(error)
    assert engine.live == {}
    assert engine.active == {}


def test_output_goes_to_variables(dev: Notebook) -> None:
    """`--out` and `--err` take the streams of one live cell."""
    dev.good(SHELL + "true")
    dev.good("%%container --name dev --live --out o --err e\necho out; echo err >&2")
    assert (dev["o"], dev["e"]) == ("out\n", "err\n")
    assert dev.good(AGAIN + "echo shown") == "shown\n"


@pytest.mark.parametrize("start", [SHELL, PYTHON], ids=["shell", "python"])
def test_a_flood_is_cut_and_the_state_remains(dev: Notebook, start: str) -> None:
    """A cell that floods is cut on the page, as in any cell, and the interpreter continues."""
    flood = "print('y\\n' * 5_000_000, end='')" if start is PYTHON else "yes | head -c 10000000"
    dev.good(start + "x=5")
    shown = dev.good(AGAIN + flood)
    assert len(shown) < 5 << 20
    assert dev.good(AGAIN + ("print(x)" if start is PYTHON else "echo $x")) == "5\n"


def test_display_works_in_a_live_cell(dev: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    """`display` in a live shell shows data in the notebook, after the output that came before it."""
    dev.good(SHELL + "true")
    assert dev.good(AGAIN + "echo before; echo '{\"a\": 1}' | display -t json; echo after").split("\n") == [
        "before",
        "<application/json, 9 bytes>",
        "after",
        "",
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, 0], ids=["killed", "terminated", "shut down"])
def test_nothing_outlives_the_notebook(kernel: Kernel, store_path: Path, number: int) -> None:
    """However the notebook ends, nothing of its live containers runs; if it is shut down, the changes are kept."""
    seconds = marker()
    name = f"live-{seconds}"
    kernel.run(
        f"%%container busybox --name {name} --live\ntouch /made; setsid sleep {seconds} & trap '' HUP TERM"
    ).good()
    kernel.run(f"%%container host --name {name}-py --live=python\nimport time, threading").good()
    watched = pidfds([*descendants(kernel.pid), *appear(seconds, 1)])
    if number:
        os.kill(kernel.pid, number)
    else:
        kernel.manager.shutdown_kernel(now=False)
    assert all_dead(watched, DEADLINE)
    assert processes_with(seconds) == []
    assert mounts_of(store_path) == []


def test_a_cell_without_live_joins_by_a_new_process(dev: Notebook) -> None:
    """In a running container, a cell without `--live` is a new process: it sees the files, and not the variables."""
    dev.good(SHELL + "x=5; cd /tmp; echo made > /made")
    assert dev.good("%%container --name dev\necho new$x; pwd; cat /made; touch /joined").split() == ["new", "/", "made"]
    assert dev.good(AGAIN + "echo $x; ls /joined") == "5\n/joined\n"
    dev.run("%container stop dev")
    assert len(str(dev.run("%container history dev").value).splitlines()) == 2


def test_a_joined_cell_has_its_own_options(dev: Notebook) -> None:
    """`-e`, `-w`, `-s`, `-u`, `#!`, `--timeout` and `--out` are a joined cell's own; its exit code is its error's."""
    dev.good(SHELL + "true")
    line = "%%container --name dev -e A=b -w /etc --out o -s arg\n#!/bin/sh\necho $A $1; pwd"
    dev.good(line)
    assert dev["o"] == "b arg\n/etc\n"
    assert failure(dev.run("%%container --name dev\nexit 3")).startswith("CellFailed: exit code 3")
    failed = failure(dev.run("%%container --name dev --timeout 0.2\nsleep 60"))
    assert failed.startswith("CellFailed: stopped after its time limit (")
    assert "runs with other options" in dev.fails("%%container --name dev -m 64m\ntrue")
    user = "0" if default_engine().single_id else "1000"
    assert dev.good(f"%%container --name dev -u {user}\nid -u") == f"{user}\n"
    assert dev.good(AGAIN + "ls /dev/nbcontainer/shown") == ""


@pytest.mark.parametrize("start", ["--live", "--bg"])
def test_a_joined_cell_has_what_other_cells_have(dev: Notebook, start: str) -> None:
    """`--stdin`, the program `display`, and the line that failed; `-i` and `--rm` are refused and not ignored."""
    dev.good("%%container busybox --name dev --live\ntrue" if start == "--live" else f"{JOB}\nsleep 1000")
    assert dev.good("%%container --name dev --stdin given\nread x; echo [$x]") == "[given]\n"
    assert dev.good("%container run --name dev --stdin given busybox cat") == "given\n"
    if start == "--live":
        shown = dev.good("%%container --name dev\necho '{\"a\": 1}' | display -t json; echo after")
        assert shown.splitlines() == ["<application/json, 9 bytes>", "after"]
    assert "line 2: nosuch" in failure(dev.run("%%container --name dev\ntrue\nnosuch"))
    assert "-i cannot be used in container 'dev'" in dev.fails("%%container --name dev -i\nread x")
    assert "--rm cannot be used in container 'dev'" in dev.fails("%%container --name dev --rm\ntrue")
    dev.run("%container stop dev")


def test_exec_runs_a_command(dev: Notebook) -> None:
    """`%container exec NAME COMMAND` runs a command in the running container, and fails in one line where it cannot."""
    dev.good(SHELL + "touch /made")
    assert dev.good("%container exec dev ls /made") == "/made\n"
    assert failure(dev.run("%container exec dev false")).startswith("CellFailed: exit code 1")
    assert dev.fails("%container exec dev nosuch").startswith("SetupFailed: cannot run nosuch")
    assert dev.fails("%container exec dev").startswith("UsageError: exec: missing command")
    assert dev.fails("%container exec nosuch true").startswith("ContainerNotFound: no container 'nosuch' runs")
    assert "exec [OPTIONS] NAME COMMAND" in dev.good("%container exec --help")


def test_an_interrupt_ends_a_joined_cell_alone(dev: Notebook) -> None:
    """An interrupt ends the new process; the interpreter and its state remain."""
    seconds = marker()
    dev.good(SHELL + "x=5")
    thread = interrupt_when(seconds)
    assert failure(dev.run(f"%%container --name dev\nsleep {seconds}")).startswith("CellFailed: interrupted")
    thread.join()
    assert all_dead(pidfds(processes_with(seconds)))
    assert dev.good(AGAIN + "echo $x") == "5\n"


def test_a_python_cell_joins_any_live_container(dev: Notebook) -> None:
    """`--python` without `--live` is a new Python in the running container."""
    dev.good("%%container host --name dev --live\nx=5")
    assert dev.good("%%container --name dev --python\n1 + 1") == "2\n"
    assert "ZeroDivisionError" in dev.run("%%container --name dev --python\n1/0").stderr


def test_a_container_that_ends_ends_what_has_joined(dev: Notebook, engine: Engine) -> None:
    """If the container ends, the joined process ends with it, and its cell says so."""
    seconds = marker()
    dev.good(SHELL + "true")

    def kill() -> None:
        os.kill(init_of(seconds), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    ran = dev.run(f"%%container --name dev\nsleep {seconds}")
    thread.join()
    assert "ended with its container" in failure(ran)
    assert all_dead(pidfds(processes_with(seconds)))


@pytest.mark.parametrize("live", ["--live", "--live=shell", "--live=python"])
def test_arguments_are_refused_in_a_live_container(dev: Notebook, engine: Engine, live: str) -> None:
    """`-s` fails with a hint: the interpreter started before the cell. A new process beside it has arguments."""
    refused = f"%%container busybox --name dev {live} -s a b\ntrue"
    assert "-s cannot be used with --live" in dev.fails(refused)
    assert not engine.live
    dev.good("%%container busybox --name dev --live\ntrue")
    assert "-s cannot be used with --live" in dev.fails(refused)
    assert dev.good('%%container --name dev -s a --live\necho "$1 $2"') == "a --live\n"


def test_values_are_refused_in_a_live_container(dev: Notebook) -> None:
    """`--in`, `--get` and `--show` fail with a hint in a live container."""
    assert "cannot be used in a live container" in dev.fails("%%container busybox --name dev --live --show\ntrue")
