"""The kernel by its messages, as a frontend sees it: what the outside suite leaves out."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nbcontainer.containers import startup
from nbcontainer.containers.engine import Engine
from tests.notebook.shell_cells import wait_for
from tests.notebook.shell_kernels import ShellKernel
from tests.requirements import require
from tests.running import DEADLINE, all_dead, descendants, marker, mounts, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
)


@pytest.fixture
def make_kernel(short_path: Path, store_path: Path, _containers_work: str) -> Iterator[Callable[..., ShellKernel]]:
    """Starts kernels by the words of their container."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    made: list[ShellKernel] = []

    def make(*run: str, shell: str = "", store: Path = store_path) -> ShellKernel:
        made.append(ShellKernel(short_path, store, run or ("busybox",), shell))
        made[-1].__enter__()
        return made[-1]

    yield make
    for kernel in made:
        kernel.__exit__()


def asked(kernel: ShellKernel) -> dict[str, Any]:
    """The question that the kernel asks next."""
    message = kernel.client.get_stdin_msg(timeout=DEADLINE)
    assert message["msg_type"] == "input_request"
    content: dict[str, Any] = message["content"]
    return content


def reply(kernel: ShellKernel, request: str) -> dict[str, Any]:
    """The content of the reply to a request on the shell channel."""
    while True:
        message = kernel.client.get_shell_msg(timeout=DEADLINE)
        if message["parent_header"].get("msg_id") == request:
            content: dict[str, Any] = message["content"]
            return content


def matches(kernel: ShellKernel, text: str) -> list[str]:
    """The completions at the end of a text, as the whole of what the text would be."""
    content = reply(kernel, kernel.client.complete(text))
    assert content["cursor_end"] == len(text)
    return [text[: content["cursor_start"]] + match for match in content["matches"]]


# Input


def test_a_program_that_reads_asks_the_frontend(shell_kernel: ShellKernel) -> None:
    """Its prompt is there before the question, and the answer is its line."""
    cell = shell_kernel.send("printf 'name? '; read name; echo \"hello, $name\"")
    assert asked(shell_kernel) == {"prompt": "", "password": False}
    cell.until("name? ")
    shell_kernel.client.input("Ada Löve")
    assert cell.end().good().stdout == "name? hello, Ada Löve\n"


def test_a_secret_is_asked_for_as_a_password(shell_kernel: ShellKernel) -> None:
    """With the terminal's echo off, the frontend hides what is typed, and it is shown nowhere."""
    cell = shell_kernel.send("stty -echo; read secret; stty echo; echo ${#secret}")
    assert asked(shell_kernel)["password"] is True
    shell_kernel.client.input("swordfish")
    assert cell.end().good().stdout == "9\n"


def test_a_frontend_that_cannot_ask_is_not_asked(shell_kernel: ShellKernel) -> None:
    """Without allow_stdin, standard input is empty, as when a notebook is executed by nbclient."""
    shell_kernel.client.allow_stdin = False
    assert shell_kernel.run('read x; cat; echo "[$x]"').good().stdout == "[]\n"


def test_a_program_that_copies_its_input_asks_too(shell_kernel: ShellKernel) -> None:
    """busybox's cat waits in sendfile(2), which holds the pipe that its output is read from."""
    cell = shell_kernel.send("echo before; cat")
    for line in ("one", "two"):
        asked(shell_kernel)
        shell_kernel.client.input(line)
    asked(shell_kernel)
    shell_kernel.client.input("\x04")
    assert cell.end().good().stdout == "before\none\ntwo\n"


# Output


def test_output_comes_while_the_cell_runs(shell_kernel: ShellKernel) -> None:
    """What is written shows before the cell ends, unfinished lines too, each stream as itself."""
    cell = shell_kernel.send("printf out; printf err >&2; read x").until("out").until("err", "stderr")
    asked(shell_kernel)
    shell_kernel.client.input("")
    assert cell.end().good().stdout == "out"


def test_a_character_in_two_parts_arrives_whole(shell_kernel: ShellKernel) -> None:
    """Bytes of one character that come apart are one character; bytes of none are replaced."""
    cell = shell_kernel.send(r"printf '\303'; read x; printf '\251\377'")
    asked(shell_kernel)
    shell_kernel.client.input("")
    assert cell.end().good().stdout == "é\ufffd"


def test_many_small_writes_are_few_messages(shell_kernel: ShellKernel) -> None:
    """Two thousand lines do not make two thousand messages."""
    cell = shell_kernel.run("i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i + 1)); done").good()
    assert cell.stdout.splitlines() == [str(number) for number in range(2000)]
    assert len(cell.messages) < 400


def test_a_flood_is_cut_and_kept(shell_kernel: ShellKernel) -> None:
    """Of fifty megabytes a few are shown, with the end, and where all of it is; the next cell is as always."""
    cell = shell_kernel.run("yes 0123456789 | head -c 50000000").good()
    assert 1 << 20 < len(cell.stdout) < 8 << 20
    place = re.search(r" are in (\S+)", cell.stdout)
    assert place is not None
    assert Path(place[1]).stat().st_size == 50_000_000
    assert shell_kernel.run("echo after").good().stdout == "after\n"


def test_what_a_job_says_after_its_cell_belongs_to_it(shell_kernel: ShellKernel) -> None:
    """A background job's late output is that cell's, and not of the one before."""
    cell = shell_kernel.run("mkfifo /tmp/go; (read x < /tmp/go; echo late) &").good()
    shell_kernel.run("echo now > /tmp/go; wait").good()
    assert cell.stdout == ""


SVG = f'<img src="data:image/svg+xml;base64,{base64.b64encode(b"<svg/>" + bytes([10])).decode()}" alt="SVG picture">'


@pytest.mark.parametrize(
    ("code", "mime", "value"),
    [
        ("cat {png} | display -t png", "image/png", base64.b64encode(PNG).decode()),
        ("echo '<svg/>' > /tmp/a.svg; display /tmp/a.svg", "text/html", SVG),
        ("echo '<b>é</b>' | display -t html", "text/html", "<b>é</b>\n"),
        ("echo '{{\"a\": [1]}}' | display -t json", "application/json", {"a": [1]}),
        ("echo '# a' | display -t markdown", "text/markdown", "# a\n"),
        ("echo '$a^2$' | display -t latex", "text/latex", "$a^2$\n"),
    ],
)
def test_display_shows_rich_output(
    make_kernel: Callable[..., ShellKernel], tmp_path: Path, code: str, mime: str, value: object
) -> None:
    """`display` sends what a frontend wants: pictures in base64, text as text, JSON as a value."""
    (tmp_path / "dot.png").write_bytes(PNG)
    tmp_path.chmod(0o755)
    kernel = make_kernel("busybox", "-v", f"{tmp_path}:/data:ro")
    cell = kernel.run(code.format(png="/data/dot.png")).good()
    shown = [message["data"] for message in cell.messages if message["type"] == "display_data"]
    assert len(shown) == 1
    assert shown[0][mime] == value
    assert "text/plain" in shown[0]


@pytest.mark.parametrize("kind", ["application/javascript", "application/vnd.jupyter.widget-view+json", "text/x-own"])
def test_what_could_run_code_in_the_page_is_refused(shell_kernel: ShellKernel, kind: str) -> None:
    """One line on standard error says so; HTML is shown without its scripts."""
    html = "<b onclick=x()>b</b><script>x()</script>"
    cell = shell_kernel.run(f"echo 1 | display -t {kind}; echo '{html}' | display -t html")
    shown = [message["data"]["text/html"].strip() for message in cell.messages if message["type"] == "display_data"]
    assert shown == ["<b>b</b>"]
    assert cell.stderr.startswith(f"display: {kind} is not shown: ")
    assert cell.stderr.count("\n") == 1


def test_what_is_shown_is_in_order_with_what_is_written(shell_kernel: ShellKernel) -> None:
    """Text, a picture, text again, cleared: in the order in which the cell did it, each time."""
    for _ in range(20):
        cell = shell_kernel.run("echo a; echo x | display -t html; echo b; clear; echo c").good()
        kinds = [message["type"] for message in cell.messages if message["type"] not in ("status", "execute_input")]
        assert kinds == ["stream", "display_data", "stream", "clear_output", "stream"]


def test_what_is_not_what_it_says_is_an_error_in_words(shell_kernel: ShellKernel) -> None:
    """JSON that is none is not shown, and told on standard error."""
    for text in ("{", r'["\ud83d"]', r'{"\ud83d": 1}', "[1e999]"):
        cell = shell_kernel.run(f"n=5; printf %s '{text}' > /tmp/it.json; display /tmp/it.json")
        assert "invalid application/json" in cell.stderr
        assert not [message for message in cell.messages if message["type"] == "display_data"]
    assert shell_kernel.run("echo $n").good().stdout == "5\n"


# Errors


def test_a_failing_cell_stops_what_was_sent_after_it(shell_kernel: ShellKernel) -> None:
    """Its error is one short line, and Run All stops there."""
    failing = shell_kernel.send("echo said; read x; exit 3")
    following = shell_kernel.send("echo not")
    asked(shell_kernel)
    shell_kernel.client.input("x")  # the kernel has what was sent long before
    failing.end()
    assert failing.status == "error"
    assert failing.error is not None
    assert failing.error["traceback"] == ["\x1b[31mCellFailed\x1b[0m: exit code 3"]
    assert following.end().status == "aborted"
    assert shell_kernel.run("echo again").good().stdout == "again\n"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (("nosuch.localhost/image", "--pull", "never"), "no image"),
        (("busybox", "--nosuch"), "unknown option '--nosuch'"),
        (("busybox", "-v", "/nonexistent:/data"), "/nonexistent"),
        (("--network", "none"), "missing image"),
    ],
)
def test_a_container_that_cannot_be_is_told_by_the_first_cell(
    make_kernel: Callable[..., ShellKernel], run: tuple[str, ...], said: str
) -> None:
    """The kernel starts all the same, and each cell says in one line what is wrong."""
    kernel = make_kernel(*run)
    cell = kernel.run("echo not")
    assert cell.status == "error"
    assert cell.error is not None
    assert said in cell.error["evalue"]
    assert cell.stdout == ""
    assert matches(kernel, "ec") == []


def test_a_silent_cell_says_nothing(shell_kernel: ShellKernel) -> None:
    """`silent` has no output and no place in the history; its expressions are evaluated."""
    client = shell_kernel.client
    request = client.execute("x=5; echo not", silent=True, user_expressions={"x": "$x", "y": "a b"})
    content = reply(shell_kernel, request)
    values = {name: value["data"]["text/plain"] for name, value in content["user_expressions"].items()}
    assert values == {"x": "5", "y": "a b"}
    assert shell_kernel.run("echo $x").good().stdout == "5\n"


# What the container knows


def test_completion_knows_the_container(shell_kernel: ShellKernel) -> None:
    """Files, directories, variables, functions, commands and options of this container and this shell."""
    shell_kernel.run(
        "mkdir -p '/tmp/a dir'; touch '/tmp/a file' /tmp/b.txt; my_var=1; my_function() { :; }; cd /tmp"
    ).good()
    assert matches(shell_kernel, "cat /tmp/b") == ["cat /tmp/b.txt"]
    assert matches(shell_kernel, "cat a") == ["cat a\\ dir/", "cat a\\ file"]
    assert matches(shell_kernel, "cat 'a f") == ["cat 'a file"]
    assert matches(shell_kernel, 'cat "a f') == ['cat "a file']
    assert matches(shell_kernel, "cd a") == ["cd a\\ dir/"]
    assert matches(shell_kernel, "cat --file=b") == ["cat --file=b.txt"]
    assert matches(shell_kernel, "echo > b") == ["echo > b.txt"]
    assert matches(shell_kernel, "echo $my_v") == ["echo $my_var"]
    assert matches(shell_kernel, 'echo "${my_v') == ['echo "${my_var}']
    assert matches(shell_kernel, "unset my_v") == ["unset my_var"]
    assert matches(shell_kernel, "true; my_f") == ["true; my_function"]
    assert matches(shell_kernel, "ls | mkfi") == ["ls | mkfifo"]
    assert "grep --help" not in matches(shell_kernel, "grep -")
    assert "grep -i" in matches(shell_kernel, "grep -")
    assert matches(shell_kernel, "_nb") == []
    assert matches(shell_kernel, "echo nothing-like-that") == []


def test_completion_in_bash_knows_its_keywords_and_arrays(
    make_kernel: Callable[..., ShellKernel], shells_tar: Path
) -> None:
    """bash is asked itself."""
    kernel = make_kernel(str(shells_tar))
    kernel.run("declare -A my_map=([a]=1); alias my_alias=ls; function my_function { :; }").good()
    assert matches(kernel, "echo $my_") == ["echo $my_map"]
    assert matches(kernel, "my_") == ["my_alias", "my_function"]
    assert "ls --all" in matches(kernel, "ls --a")


def test_inspection_tells_of_variables_functions_and_programs(
    make_kernel: Callable[..., ShellKernel], shells_tar: Path
) -> None:
    """What `?` and the tooltip show comes from the shell, its help, and the programs' own words."""
    kernel = make_kernel(str(shells_tar))
    kernel.run("my_var='a b'; my_function() { echo inside; }").good()
    for text, said in (("$my_var", "a b"), ("my_function", "echo inside"), ("cd", "directory"), ("wc", "line")):
        content = reply(kernel, kernel.client.inspect(text))
        assert content["found"], text
        assert said in content["data"]["text/plain"]
    assert not reply(kernel, kernel.client.inspect("nothing_of_that_name"))["found"]


def test_inspection_runs_no_file_that_is_named_by_its_path(make_kernel: Callable[..., ShellKernel]) -> None:
    """A script that ignores `--help` would do all that it does, for a look at a tooltip."""
    kernel = make_kernel()
    kernel.run("cd /tmp; echo 'echo ran >> /tmp/log' > clean.sh; chmod +x clean.sh").good()
    for text in ("./clean.sh", "/tmp/clean.sh", "../tmp/clean.sh -rf"):
        found = reply(kernel, kernel.client.inspect(text, 4))
        assert "clean.sh" in found["data"]["text/plain"]
    kernel.run("./clean.sh?").good()
    assert kernel.run("cat /tmp/log").error


def test_history_goes_from_kernel_to_kernel(make_kernel: Callable[..., ShellKernel]) -> None:
    """The next kernel finds what was run in the one before, which has written all when it answers about its history."""
    word = f"echo {marker()}"
    first = make_kernel()
    first.run(word).good()
    reply(first, first.client.history(hist_access_type="tail", n=1))
    kernel = make_kernel()
    found = reply(kernel, kernel.client.history(hist_access_type="search", pattern=f"{word[:-2]}*", n=5))
    assert [entry[2] for entry in found["history"]] == [word]


# Magics


def test_what_cells_did_becomes_an_image_while_the_shell_goes_on(make_kernel: Callable[..., ShellKernel]) -> None:
    """%commit takes the files as they are now; the shell keeps its state, and a new kernel has the files."""
    kernel = make_kernel()
    kernel.run("echo 1 > /made; rm /etc/passwd; x=1; sleep 1000 &").good()
    assert "2 layers" in kernel.run("%commit kernel-made").good().result
    assert "/etc/passwd" in kernel.run("%container diff").good().result
    assert kernel.run("echo 2 > /made; echo $x; jobs | grep -c Running").good().stdout == "1\n1\n"
    other = make_kernel("kernel-made")
    assert other.run("cat /made; ls /etc").good().stdout.split()[0] == "1"
    assert "passwd" not in other.run("ls /etc").stdout
    assert "kernel-made" in other.run("%container images").good().result


def test_magics_may_stand_above_a_script(shell_kernel: ShellKernel) -> None:
    """The first lines of a cell are magics, the rest is the shell's; help and errors are in words."""
    cell = shell_kernel.run("%container diff\n\necho rest").good()
    assert (cell.result, cell.stdout) == ("no changes", "rest\n")
    assert "verbs" in shell_kernel.run("%container").good().result or shell_kernel.run("%container").good().result
    for code, said in (
        ("%nosuch", "unknown magic %nosuch"),
        ("%%bash", "#!"),
        ("%container run x", "in a cell"),
        ("%container undo", "is running"),
    ):
        error = shell_kernel.run(code).error
        assert error is not None
        assert said in error["evalue"]


# Ends


def test_restarts_leave_nothing_of_the_kernel_before(shell_kernel: ShellKernel) -> None:
    """Five restarts: each time no process of before, no variable, and no file."""
    for _ in range(5):
        seconds = marker()
        shell_kernel.run(f"x=1; echo 1 > /file; setsid sleep {seconds} & trap '' HUP TERM").good()
        with shell_kernel.watched():
            shell_kernel.restart()
        assert not processes_with(seconds)
        assert shell_kernel.run('echo "[$x]"; ls /file 2>&1').stdout.startswith("[]\n")


def test_a_shutdown_leaves_nothing(make_kernel: Callable[..., ShellKernel], tmp_path: Path) -> None:
    """No process, no mount, no socket, and in the store neither container, layer nor unfinished work."""
    store = tmp_path / "store"
    kernel = make_kernel(store=store)
    kernel.run("echo 1 > /file; (trap '' INT TERM HUP; sleep 1000) & setsid sleep 1000 &").good()
    kernel.client.stop_channels()
    with kernel.watched():
        kernel.manager.shutdown_kernel()
    assert not [line for line in mounts() if str(tmp_path) in line]
    assert not Path(kernel.manager.connection_file).exists()
    for name in ("containers", "tmp", "sessions"):
        assert list((store / name).iterdir()) == [], name


def test_a_shutdown_while_a_cell_runs_ends_it(make_kernel: Callable[..., ShellKernel]) -> None:
    """Nobody need wait for a cell that never ends."""
    kernel = make_kernel()
    kernel.send("trap '' INT TERM; echo ready; while :; do :; done").until("ready")
    with kernel.watched():
        kernel.manager.shutdown_kernel()


@pytest.mark.parametrize("code", ["sleep 1000", "yes", "read x", "trap '' INT TERM HUP; while :; do :; done"])
def test_a_killed_kernel_takes_everything_with_it(
    make_kernel: Callable[..., ShellKernel], tmp_path: Path, code: str
) -> None:
    """SIGKILL to the kernel in the middle of a cell: every process ends, and the next start clears the files away."""
    store = tmp_path / "store"
    kernel = make_kernel(store=store)
    kernel.send(f"echo 1 > /file; setsid sleep 1000 & echo ready; {code}").until("ready")
    with kernel.watched():
        kernel.kill()
    engine = Engine(store)
    try:
        startup.start(engine)
        engine.background.wait()
        assert not [path for path in (store / "tmp").iterdir() if not path.name.startswith(engine.store.session)]
        assert list((store / "containers").iterdir()) == []
    finally:
        engine.close()


@pytest.mark.usefixtures("engine")
def test_a_killed_server_takes_everything_with_it(short_path: Path, store_path: Path) -> None:
    """SIGKILL to what started the kernel: the kernel sees it and ends, and all of its container."""
    kernel = ShellKernel(short_path, store_path, ("busybox",))
    folder = kernel.manager.kernel_spec_manager.kernel_dirs[0]
    seconds = marker()
    script = f"""
import sys
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="ours", transport="ipc", connection_file={kernel.manager.connection_file!r},
                        kernel_spec_manager=KernelSpecManager(kernel_dirs=[{folder!r}]))
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute("setsid sleep {seconds} & sleep {seconds}")
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], env=kernel.env, stdin=subprocess.PIPE) as server:
        wait_for(lambda: len(processes_with(seconds)) == 2)
        watched = pidfds(descendants(server.pid))
        os.kill(server.pid, signal.SIGKILL)
        assert all_dead(watched)
    assert not processes_with(seconds)


@pytest.mark.usefixtures("engine")
def test_nbclient_executes_a_notebook(short_path: Path, store_path: Path) -> None:
    """Run All from top to bottom, without anybody to ask: outputs are in the notebook, and an error ends it."""
    kernel = ShellKernel(short_path, store_path, ("busybox",))
    cells = ['x=1; echo "$x"', "echo '<b>2</b>' | display -t html", 'read y; echo "[$y]"', "echo 3 >&2; exit 4", "echo"]
    v4: Any = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(code) for code in cells])
    client = NotebookClient(notebook, km=kernel.manager)
    try:
        with pytest.raises(CellExecutionError, match="exit code 4"):
            client.execute(env=kernel.env)
    finally:
        assert client.kc is not None
        client.kc.stop_channels()
        kernel.manager.shutdown_kernel(now=True)
    first, second, third, fourth, fifth = (cell.outputs for cell in notebook.cells)
    assert first[0].text == "1\n"
    assert second[0].data["text/html"] == "<b>2</b>\n"
    assert third[0].text == "[]\n"
    assert [output.output_type for output in fourth] == ["stream", "error"]
    assert fifth == []
