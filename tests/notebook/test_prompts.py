"""`-i`, `-t` and `--stdin`: what programs of a cell read, message by message and on terminals."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.requirements import require
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pexpect

    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Cell, Kernel

PATIENCE = 4 * DEADLINE


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
    """The module's kernel, with a frontend that answers."""
    shared_kernel.client.allow_stdin = True
    yield shared_kernel
    shared_kernel.client.allow_stdin = True


def asked(kernel: Kernel) -> dict[str, Any]:
    """The question that comes next."""
    message = kernel.client.get_stdin_msg(timeout=DEADLINE)
    assert message["msg_type"] == "input_request"
    content: dict[str, Any] = message["content"]
    return content


def run(kernel: Kernel, code: str, *answers: str) -> Cell:
    """Runs a cell that asks as often as there are answers."""
    cell = kernel.send(code)
    for answer in answers:
        asked(kernel)
        kernel.client.input(answer)
    return cell.end()


def refused(kernel: Kernel, code: str) -> str:
    """The one line with which a cell fails."""
    error = kernel.run(code).error
    assert error is not None
    assert "\n" not in error["evalue"]
    return str(error["evalue"])


def test_a_program_that_reads_opens_the_input_box(kernel: Kernel) -> None:
    """Its prompt is there before the question, and the answer is its line, shown once: by the frontend."""
    cell = kernel.send("%%container busybox -i\nprintf 'name? '; read name; echo \"hello, $name\"")
    assert asked(kernel) == {"prompt": "", "password": False}
    cell.until("name? ")
    kernel.client.input("Ada Löve")
    assert cell.end().good().stdout == "name? hello, Ada Löve\n"


@pytest.mark.parametrize("secretly", ["read -s x", "stty -echo; read x; stty echo", "read -s x </dev/tty"])
def test_a_secret_is_asked_for_as_a_password(kernel: Kernel, secretly: str) -> None:
    """With the terminal's echo off the frontend hides what is typed; the next question is open again."""
    cell = kernel.send(f'%%container busybox -i\n{secretly}; read y; echo "${{#x}} $y"')
    assert asked(kernel)["password"] is True
    kernel.client.input("swordfish")
    assert asked(kernel)["password"] is False
    kernel.client.input("fish")
    assert cell.end().good().stdout == "9 fish\n"


def test_output_and_errors_stay_two_streams(kernel: Kernel) -> None:
    """With -i alone only the input is a terminal: output is as it was written, errors are errors, colours stay off."""
    cell = run(kernel, "%%container busybox -i\n[ -t 0 ] && [ ! -t 1 ] && echo $TERM; echo err >&2; read x", "")
    assert (cell.good().stdout, cell.stderr) == ("dumb\n", "err\n")


def test_a_command_asks_too(kernel: Kernel) -> None:
    """A line magic and a cell with a command, until the end of the input."""
    assert run(kernel, "%container run -i busybox cat", "one", "two", "\x04").good().stdout == "one\ntwo\n"
    assert run(kernel, "%%container busybox -i cat\n ", "one", "\x04").good().stdout == "one\n"


def test_each_process_of_a_pipeline_may_ask(kernel: Kernel) -> None:
    """The question comes for the process that waits, whoever started it."""
    code = "%%container busybox -i\n(read a; echo $a) | tr a-z A-Z; sh -c 'read b; echo $b' > /tmp/b; cat /tmp/b"
    assert run(kernel, code, "one", "two").good().stdout == "ONE\ntwo\n"


def test_a_cell_may_end_before_the_answer(kernel: Kernel) -> None:
    """A time limit ends a cell that waits, and the answer that comes late is no answer to the next question."""
    cell = kernel.send("%%container busybox -i --timeout 8\nread x")
    asked(kernel)
    assert "time limit" in (cell.end().error or {})["evalue"]
    kernel.client.input("late")
    assert run(kernel, "%%container busybox -i\nread x; echo $x", "now").good().stdout == "now\n"


def test_an_interrupt_ends_a_cell_that_waits(kernel: Kernel) -> None:
    """All of the cell ends, and the next cell asks again."""
    seconds = marker()
    cell = kernel.send(f"%%container busybox -i\nsleep {seconds} & read x")
    asked(kernel)
    watched = pidfds(appear(seconds, 1))
    kernel.interrupt()
    assert (cell.end().error or {})["evalue"] == "interrupted"
    assert all_dead(watched)
    assert run(kernel, "%%container busybox -i\nread x; echo $x", "again").good().stdout == "again\n"


def test_output_comes_while_an_answer_is_due(kernel: Kernel) -> None:
    """Other programs of the cell go on, and what they write shows."""
    behind = "(read go </tmp/go; echo from behind) & echo >/tmp/go &"
    cell = kernel.send(f"%%container busybox -i\nmkfifo /tmp/go; {behind} read x")
    asked(kernel)
    cell.until("from behind")
    kernel.client.input("")
    cell.end().good()


def test_a_frontend_that_cannot_ask_ends_the_cell_at_once(kernel: Kernel) -> None:
    """Without allow_stdin no container runs, and the line says what to write instead."""
    kernel.client.allow_stdin = False
    for code in ("%%container busybox -i\nls", "%%container busybox -it\nls", "%container run -i busybox ls"):
        cell = kernel.run(code)
        assert cell.stdout == ""
        assert (cell.error or {})["evalue"] == (
            "-i cannot ask for input: stdin is not allowed in this frontend; "
            "pass the input with `--stdin TEXT` or `--stdin @FILE`"
        )


def test_a_terminal_has_a_size_and_colours(kernel: Kernel) -> None:
    """With -t all streams are one terminal, whose lines end as the page's do."""
    code = "for fd in 0 1 2; do [ -t $fd ] && echo $fd; done; stty size; echo $TERM; ls --color /"
    lines = kernel.run(f"%%container busybox -t\n{code}").good().stdout.splitlines()
    assert lines[:5] == ["0", "1", "2", "24 80", "xterm-256color"]
    assert any("\x1b[1;34m" in line for line in lines[5:])
    assert not any("\r" in line for line in lines)


def test_a_terminal_without_i_is_at_its_end(kernel: Kernel) -> None:
    """Nobody types: every read finds the end of the input, as without a terminal, and nothing waits."""
    cell = kernel.run("%%container busybox -t\nread x; echo $?; cat; sh -c 'read y'; echo $?")
    assert cell.good().stdout.splitlines() == ["1", "1"]


def test_a_terminal_asks_with_i(kernel: Kernel) -> None:
    """`-it`: the answer is typed into the terminal, and shown by the frontend alone."""
    cell = run(kernel, "%%container busybox -it\nprintf 'name? '; read x; echo $x | tr a-z A-Z", "ada")
    assert cell.good().stdout == "name? ADA\n"


def test_a_text_is_the_input(kernel: Kernel, tmp_path: Path) -> None:
    """`--stdin`: of a script, of a command, and of a terminal, where it is typed; then the input is at its end."""
    kernel.client.allow_stdin = False
    assert kernel.run("%%container busybox --stdin yes\nread x; read y; echo $x $?").good().stdout == "yes 1\n"
    assert kernel.run("%container run --stdin 'a b' busybox cat").good().stdout == "a b\n"
    assert kernel.run("%%container busybox -t --stdin yes\nread x; read y; echo $x $?").good().stdout == "yes\nyes 1\n"
    (tmp_path / "answers").write_bytes(b"one\ntwo")
    kernel.run(f"path, text = '{tmp_path}/answers', '@{tmp_path}/answers'").good()
    assert (
        kernel.run("%%container busybox --stdin @{path}\nod -c").good().stdout
        == kernel.run(f"%%container busybox -v {tmp_path}:/x\nod -c < /x/answers").good().stdout
    )
    assert kernel.run("%%container busybox --stdin {text}\ncat").good().stdout == f"@{tmp_path}/answers\n"


def test_two_inputs_are_one_error(kernel: Kernel) -> None:
    """The line says which two."""
    assert "-i and --stdin" in refused(kernel, "%%container busybox -i --stdin x\ncat")
    assert "the body of the cell" in refused(kernel, "%%container busybox -i cat\nbody")
    assert "the body of the cell" in refused(kernel, "%%container busybox --stdin x cat\nbody")


def test_a_live_container_asks_too(kernel: Kernel) -> None:
    """Its interpreter keeps what was answered; a terminal and a text are for cells of their own."""
    live = "%%container busybox --name prompting --live"
    try:
        assert run(kernel, f"{live} -i\nread name; echo $name", "Ada").good().stdout == "Ada\n"
        assert kernel.run(f"{live}\necho $name").good().stdout == "Ada\n"
        assert "-t cannot be used in a live container" in refused(kernel, f"{live} -t\ntrue")
        kernel.client.allow_stdin = False
        assert "-i cannot ask for input" in refused(kernel, f"{live} -i\nread x")
    finally:
        kernel.run("%container rm -f prompting")


# Other frontends


def notebook_file(*cells: str) -> Any:
    """A notebook with these cells."""
    sources = ["%load_ext nbcontainer", *cells]
    made: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])  # type: ignore[no-untyped-call]
    return made


@pytest.fixture
def env(
    short_path: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _containers_work: str
) -> None:
    """The store and the settings of the tests, for the programs that a test starts."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    for name, value in (
        ("NBCONTAINER_HOME", store_path),
        ("IPYTHONDIR", short_path / "ipython"),
        ("JUPYTER_DATA_DIR", tmp_path / "jupyter"),
        ("JUPYTER_RUNTIME_DIR", short_path),
        ("JUPYTER_CONFIG_DIR", short_path / "config"),
        ("TERM", "dumb"),
    ):
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("env")
def test_nbclient_fails_at_once() -> None:
    """The cell with -i is the error of the notebook; `--stdin` in its place works."""
    good = notebook_file("%%container busybox --stdin Ada\nread x; echo $x")
    NotebookClient(good, timeout=60).execute()
    assert good.cells[1].outputs[0].text == "Ada\n"
    with pytest.raises(CellExecutionError, match="-i cannot ask for input"):
        NotebookClient(notebook_file("%%container busybox -i\nread x"), timeout=60).execute()


@pytest.mark.usefixtures("env")
def test_papermill_fails_at_once(tmp_path: Path) -> None:
    """The program ends with the error, and nothing hangs."""
    require("papermill", available=importlib.util.find_spec("papermill") is not None)
    nbformat.write(notebook_file("%%container busybox -i\nread x"), tmp_path / "in.ipynb")  # type: ignore[no-untyped-call]
    words = ["papermill", "in.ipynb", "out.ipynb", "-k", "python3", "--no-progress-bar"]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode != 0
    assert "-i cannot ask for input: stdin is not allowed in this frontend" in done.stderr


@contextlib.contextmanager
def on_terminal(*words: str, until: str) -> Iterator[pexpect.spawn[str]]:
    """A program of Python's on a terminal of 100 columns, from its first prompt on."""
    for name in ("pexpect", "jupyter_console"):
        require(name, available=importlib.util.find_spec(name) is not None)
    import pexpect

    child = pexpect.spawn(sys.executable, list(words), encoding="utf-8", timeout=PATIENCE, dimensions=(30, 100))
    try:
        child.expect_exact(until)
        yield child
    finally:
        child.close(force=True)


PROMPTS = "%container run -i busybox sh -c 'printf name?; read x; printf secret?; read -s y; echo \"<$x ${#y}>\"'"


@pytest.mark.usefixtures("env")
@pytest.mark.parametrize("program", ["console", "ipython"])
def test_a_terminal_of_a_notebook_answers(program: str) -> None:
    """Jupyter's console and IPython ask on their own terminal, and hide what must not be shown."""
    console = ("-m", "jupyter_console", "--kernel=python3", "--simple-prompt", "--transport=ipc")
    ipython = ("-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor")
    with on_terminal(*(console if program == "console" else ipython), until="In [1]: ") as child:
        child.sendline("%load_ext nbcontainer")
        child.expect_exact("In [2]: ")
        child.sendline(PROMPTS)
        child.expect("\nname\\?")
        child.sendline("Ada")
        child.expect_exact("secret?")
        wait_for_hidden_input(child)
        child.sendline("swordfish")
        child.expect_exact("<Ada 9>")
        assert "swordfish" not in str(child.before)
        child.expect_exact("In [3]: ")


def wait_for_hidden_input(child: pexpect.spawn[str]) -> None:
    """Waits until the terminal does not echo: termios(3) has no event for it."""
    deadline = time.monotonic() + PATIENCE
    while child.getecho():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("env")
def test_in_ipython_it_is_the_terminal_itself() -> None:
    """`-it` passes each key: the cell's terminal has the window's size, edits lines, and ^C is its own."""
    ipython = ("-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor")
    with on_terminal(*ipython, until="In [1]: ") as child:
        child.sendline("%load_ext nbcontainer")
        child.expect_exact("In [2]: ")
        child.sendline("%container run -it busybox sh")
        child.expect_exact("/ # ")
        child.sendline("stty size; trap 'echo caught' INT")
        child.expect_exact("30 100")
        child.expect_exact("/ # ")
        child.sendintr()
        child.expect_exact("/ # ")
        child.sendline("exit 0")
        child.expect_exact("In [3]: ")
        assert child.getecho()


def test_a_program_without_a_terminal_cannot_ask(notebook: Notebook) -> None:
    """IPython whose input is no terminal has nobody to ask, and says so at once."""
    assert "-i cannot ask for input: this program has no terminal" in notebook.fails("%%container busybox -i\nread x")


# The result of a line


def test_a_line_returns_its_result(notebook: Notebook) -> None:
    """`x = %container run …` has the outcome, the container and both streams, which are shown all the same."""
    ran = notebook.run("x = %container run busybox sh -c 'echo out; echo err >&2'\nx")
    assert (ran.stdout.startswith("out\n"), ran.stderr) == (True, "err\n")
    result = ran.value
    assert (result.stdout, result.stderr, result.text) == (b"out\n", b"err\n", "out\n")
    assert result.outcome.ok
    assert result.container.record.image == "busybox"


def test_a_failed_run_that_must_not_fail_has_a_result(notebook: Notebook) -> None:
    """With --no-raise-error the outcome says how the run ended; else the error does, and nothing is assigned."""
    assert notebook.run("x = %container run --no-raise-error busybox sh -c 'exit 3'\nx.outcome.exit_code").value == 3
    assert notebook.fails("y = %container run busybox sh -c 'exit 3'") == "CellFailed: exit code 3"
    assert "y" not in notebook.shell.user_ns


@pytest.mark.parametrize(
    "code",
    [
        "%container run busybox true",
        "for i in (1, 2):\n    %container run busybox true",
        "%container run busybox true\n1",
    ],
)
def test_a_line_that_nobody_assigns_shows_no_result(notebook: Notebook, code: str) -> None:
    """A statement shows what the run writes and nothing else."""
    assert notebook.run(code).value in (None, 1)


def test_a_function_gets_the_result(notebook: Notebook) -> None:
    """A call in an expression uses the value."""
    code = "def f():\n    return get_ipython().run_line_magic('container', 'run busybox echo hi')\nf().text"
    assert notebook.run(code).value == "hi\n"


def test_debug_asks_for_the_lines_of_a_shell(kernel: Kernel) -> None:
    """The shell is in the state of the last failure. Without a frontend that answers, a command still runs."""
    kernel.run("%%container busybox --name debugged\necho seen > /a; false")
    assert run(kernel, "%container debug", "cat /a; rm /a; exit 4").good().stdout.count("seen") == 1
    assert kernel.run("%container debug debugged cat /a").good().stdout == "seen\n"
    kernel.client.allow_stdin = False
    assert refused(kernel, "%container debug").startswith("-i cannot ask for input")
    assert kernel.run("%container rm debugged").good()
    assert "no container" in refused(kernel, "%container debug") or "no cell" in refused(kernel, "%container debug")
