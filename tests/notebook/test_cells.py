"""Cells in IPython: the founding story, what they leave for each other, their bodies and their options."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import CellFailed

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


def test_the_founding_cell(notebook: Notebook, tmp_path: Path) -> None:
    """A cell says hello, leaves a file on the host that belongs to the user, and cannot touch its image."""
    data, archive = tmp_path / "data", tmp_path / "mine.tar"
    data.mkdir()
    notebook["data"], notebook["archive"] = data, archive
    said = notebook.good(
        "%%container busybox -v {data}:/tmp\n"
        'echo "hello from $(hostname), pid $$"\necho kept > /tmp/on-the-host\nrm -rf /etc /bin/vi\n'
    )
    name = notebook.run("%container inspect").value.value["name"]
    assert said == f"hello from {name}, pid 2\n"
    kept = data / "on-the-host"
    assert kept.read_text() == "kept\n"
    assert (kept.stat().st_uid, kept.stat().st_gid) == (os.geteuid(), os.getegid())
    assert [str(line) for line in notebook.run("%container diff").value.rows] == [
        "('C', '/bin')",
        "('D', '/bin/vi')",
        "('D', '/etc')",
    ]
    assert "mine" in notebook.good("%commit mine -o {archive}")
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    assert {"bin/sh", "tmp"} <= names
    assert not {"etc", "etc/passwd", "bin/vi", "tmp/on-the-host"} & names
    assert notebook.good("%%container busybox\nls -d /etc /bin/vi") == "/bin/vi\n/etc\n"
    ran = notebook.run("%%container mine\nls -d /etc /bin/vi /bin/sh")
    assert ran.stdout == "/bin/sh\nCellFailed: exit code 1\n"
    notebook.good("%container rmi mine")


def test_cells_do_not_see_each_other(notebook: Notebook) -> None:
    """An image's next cell starts from the image again; a named container's next cell goes on where it ended."""
    look = "ls -d /made 2>/dev/null || echo nothing; echo > /made"
    assert notebook.good(f"%%container busybox\n{look}") == "nothing\n"
    assert notebook.good(f"%%container busybox\n{look}") == "nothing\n"
    assert notebook.good(f"%%container busybox --name dev\n{look}") == "nothing\n"
    assert notebook.good(f"%%container --name dev busybox\n{look}") == "/made\n"
    assert notebook.good(f"%%container --name dev\n{look}") == "/made\n"
    assert notebook.good(f"%%container busybox\n{look}") == "nothing\n"
    notebook.good("%container rm dev")
    assert notebook.good(f"%%container busybox --name dev\n{look}") == "nothing\n"
    notebook.good("%container rm dev")


def test_a_containers_processes_do_not_go_on(notebook: Notebook) -> None:
    """A named container keeps its files and none of its processes: each cell is pid 2 again."""
    notebook.good("%%container busybox --name dev\nsleep 1000 &\necho $! > /pid")
    assert notebook.good("%%container --name dev\necho $$; ps | grep -c '[s]leep' ; cat /pid") != ""
    ran = notebook.run("%%container --name dev\n[ $$ = 2 ] && ! pidof sleep && echo alone")
    assert ran.stdout == "alone\n"
    notebook.good("%container rm dev")


@pytest.mark.parametrize(
    "body",
    [
        "$HOME ${PATH} $$ `x` $(y)",
        "{} {data} {{x}} {1/0}",
        "a 'b \"c\" d' \\' \\\\ \\n",
        "tab\there, non-breaking\u00a0space, é ü 漢字 😀",
        "%magic !shell ?help ; & | > < * ? [a-z] ~ #",
        " leading and trailing ",
        "\u2028line separator\u2029",
    ],
)
def test_a_body_arrives_as_it_was_written(notebook: Notebook, body: str) -> None:
    """Nothing of a body is IPython's: dollar signs, braces, quotes, magics and any character are the script's."""
    notebook["data"] = "WRONG"
    assert notebook.good(f"%%container busybox\ncat <<'END'\n{body}\nEND\n") == f"{body}\n"


def test_a_carriage_return_arrives(notebook: Notebook) -> None:
    """A carriage return inside a line reaches the script as it is."""
    ran = notebook.run("%%container busybox cat\na\rb\n")
    assert ran.stdout.replace("\r", "\n") == "a\nb\n"


def test_a_nul_is_refused_or_arrives(notebook: Notebook) -> None:
    """A NUL character reaches a command's input, and a script that has one gets a clear word."""
    assert notebook.good("%%container busybox od -c\na\0b\n").split("\n")[0].split() == [
        "0000000",
        "a",
        "\\0",
        "b",
        "\\n",
    ]
    assert "NUL" in notebook.fails("%%container busybox\necho a\0b\n")


def test_a_body_that_is_no_unicode_is_refused(notebook: Notebook) -> None:
    """Half of a surrogate pair is no character: the cell is refused in one line."""
    assert "is not Unicode text" in notebook.fails("%%container busybox\necho \ud800\n")


def test_a_long_script_runs(notebook: Notebook) -> None:
    """A script of a megabyte runs to its last line."""
    filler = "# " + "x" * 97 + "\n"
    body = "echo first\n" + filler * (1 + (1 << 20) // len(filler)) + "echo last\n"
    assert len(body) > 1 << 20
    assert notebook.good(f"%%container busybox\n{body}") == "first\nlast\n"


def test_reading_does_not_eat_the_script(notebook: Notebook) -> None:
    """The script is a file and not the standard input: `read` finds nothing to read, and the next line runs."""
    assert notebook.good('%%container busybox\nread x || echo nothing\necho "got <$x>"\ncat\necho end') == (
        "nothing\ngot <>\nend\n"
    )


def test_a_command_reads_the_body(notebook: Notebook) -> None:
    """With COMMAND, the body is its standard input."""
    assert notebook.good("%%container busybox sed s/a/b/\naaa\nend") == "baa\nend\n"


def test_an_interpreter_line_is_followed(notebook: Notebook) -> None:
    """A body that begins with `#!` runs by that interpreter."""
    assert notebook.good('%%container busybox\n#!/usr/bin/awk -f\nBEGIN { print 6 * 7, "{}", "$1" }\n') == "42 {} $1\n"


@pytest.mark.parametrize("cell", ["%%container busybox", "%%container busybox\n", "%%container busybox\n \n\n"])
def test_an_empty_body_is_no_cell(notebook: Notebook, cell: str) -> None:
    """A cell without a body says how one is written."""
    ran = notebook.run(cell)
    assert type(ran.error).__name__ == "UsageError"
    assert "body is empty" in str(ran.error)


@pytest.mark.parametrize(
    ("options", "body", "said"),
    [
        ("-e A=1 -e 'B=two words'", 'echo "$A $B"', "1 two words\n"),
        ("-e A={1 + 1}", "echo $A", "2\n"),
        ("-w /srv/new", "pwd", "/srv/new\n"),
        ("-u daemon", "id -un; id -u", "daemon\n1\n"),
        ("--hostname box", "hostname; echo $HOSTNAME", "box\nbox\n"),
        ("--tmpfs /scratch:size=1m", "grep -c ' /scratch tmpfs ' /proc/mounts", "1\n"),
        ("--read-only", "echo > /x 2>/dev/null || echo refused", "refused\n"),
        ("--network none", "ls /sys/class/net", "lo\n"),
        ("--rm", "echo here", "here\n"),
    ],
)
def test_options_reach_the_cell(notebook: Notebook, engine: Engine, options: str, body: str, said: str) -> None:
    """What an option asks for is so in the container, with IMAGE before or after it."""
    if "-u " in options and engine.single_id:
        pytest.skip("a container of this user has no other users")
    assert notebook.good(f"%%container busybox {options}\n{body}") == said
    assert notebook.good(f"%%container {options} busybox\n{body}") == said


def test_a_cell_that_ends_badly_fails(notebook: Notebook) -> None:
    """A non-zero exit is an error that carries the outcome; `--no-raise-error` keeps it from being one."""
    ran = notebook.run("%%container busybox\necho out; exit 7")
    assert isinstance(ran.error, CellFailed)
    assert ran.error.outcome.exit_code == 7
    assert ran.stdout == "out\nCellFailed: exit code 7\n"
    assert notebook.good("%%container busybox --no-raise-error\necho out; exit 7") == "out\n"
    ran = notebook.run("%%container busybox --no-raise-error --timeout 0.2\nsleep 100")
    assert ran.error is None
    assert ran.stderr.startswith("stopped after its time limit")


def test_a_signal_of_its_own_is_named(notebook: Notebook) -> None:
    """A cell that dies of a signal says which."""
    assert notebook.fails("%%container busybox\nkill -SEGV $$") == "CellFailed: ended by SIGSEGV"


def test_output_goes_to_variables(notebook: Notebook) -> None:
    """`--out` and `--err` take a stream each instead of showing it, also of a cell that fails."""
    assert notebook.good("%%container busybox --out x\necho 5; printf 'é\\377'; echo err >&2") == ""
    assert notebook["x"] == "5\né\ufffd"
    ran = notebook.run("%%container busybox --out a --err b\necho out; echo err >&2; exit 1")
    assert (notebook["a"], notebook["b"]) == ("out\n", "err\n")
    assert ran.stdout == "CellFailed: exit code 1\n"
    assert "invalid variable name" in notebook.fails("%%container busybox --out 1x\necho")
    assert "invalid variable name" in notebook.fails("%%container busybox --err class\necho")


def test_braces_are_filled_in_options_only(notebook: Notebook, tmp_path: Path) -> None:
    """Expressions are filled in options and in IMAGE; what follows IMAGE is the command's own."""
    notebook["image"], notebook["where"] = "busybox", tmp_path
    (tmp_path / "file").write_text("found\n")
    assert notebook.good("%%container {image} -v {where / '.'}:/d:ro\ncat /d/file") == "found\n"
    assert notebook.good("%container run busybox echo {image} $HOME '{x}'") == "{image} $HOME {x}\n"
    assert "NameError: name 'nope'" in notebook.fails("%%container busybox -v {nope}:/x\nls")


def test_the_line_magic_runs_a_command(notebook: Notebook) -> None:
    """`%container run` runs the image's own command or one, with the options of cells."""
    assert notebook.good("%container run busybox -e A=b env").splitlines()[-1]
    assert notebook.good("%container run -e A=b busybox sh -c 'echo $A'") == "b\n"
    assert notebook.fails("%container run busybox sh -c 'exit 4'") == "CellFailed: exit code 4"


def test_help_is_given(notebook: Notebook) -> None:
    """`--help` of the cell, of the line magic, of a verb and of %commit say how they are written."""
    assert "--timeout SECONDS" in notebook.good("%%container --help\n#")
    assert "usage: %%container" in notebook.good("%%container busybox --help\n#") + notebook.good("%container")
    assert notebook.good("%container rm --help").startswith("usage: %container rm [OPTIONS] CONTAINER...")
    assert notebook.good("%container run --help").startswith("usage: %container run")
    assert notebook.good("%commit --help").startswith("usage: %commit")


def test_the_last_container_is_what_the_last_cell_left(notebook: Notebook) -> None:
    """Without a name, diff, history, inspect and %commit mean the container of the cell before, changed or not."""
    assert "no container yet" in notebook.fails("%container diff")
    assert "no container yet" in notebook.fails("%commit x")
    notebook.good("%%container busybox\necho > /one")
    assert notebook.run("%container diff").value.rows == (("A", "/one"),)
    assert [row[-1] for row in notebook.run("%container history").value.rows] == ["echo > /one"]
    notebook.good("%%container busybox\ntrue")
    assert notebook.run("%container diff").value.rows == ()
    assert [row[-1] for row in notebook.run("%container history").value.rows] == ["true"]
    rows = notebook.run("%container ps").value.rows
    assert len(rows) == 1, rows
    row = rows[0]
    assert (row[1], row[2], row[5]) == ("busybox", "stopped", "true")


def test_undo_takes_back_the_last_change(notebook: Notebook) -> None:
    """The next cell sees what the undone one saw, in a named container and in the last one; then there is no more."""
    for words in ("busybox --name dev", "--name dev"):
        notebook.good(f"%%container {words}\necho x >> /lines; rm -f /bin/vi")
    notebook.good("%%container --name dev\nrm -rf /etc")
    notebook.good("%%container --name dev\ntrue")
    assert str(notebook.run("%container undo dev").value) == "dev: undid: rm -rf /etc"
    assert notebook.good("%%container --name dev\nls -d /etc; wc -l </lines") == "/etc\n2\n"
    notebook.run("%container undo dev")
    assert notebook.good("%%container --name dev\nwc -l </lines") == "1\n"
    notebook.good("%container rm dev")
    notebook.good("%%container busybox\necho > /one")
    assert str(notebook.run("%container undo").value).endswith(": undid: echo > /one")
    assert notebook.run("%container diff").value.rows == ()
    assert "nothing to undo: no cell changed container" in notebook.fails("%container undo")


def test_a_commit_of_nothing_is_the_image(notebook: Notebook) -> None:
    """A cell that changed nothing commits to the image it ran in, layer for layer."""
    notebook.good("%%container busybox\ntrue")
    notebook.good("%commit same")
    base, same = (notebook.run(f"%container inspect {name}").value.value for name in ("busybox", "same"))
    assert base["layers"] == same["layers"]
    notebook.good("%container rmi same")


def test_commit_changes_the_configuration(notebook: Notebook) -> None:
    """`--change`, `-m` and `--author` are in the image that is made, and its next cell runs by them."""
    notebook.good("%%container busybox --name dev\necho > /x")
    notebook.good("""%commit dev app:1 -m "why" --author me --change 'ENV A=b' --change 'WORKDIR /srv' """)
    config = notebook.run("%container inspect app:1").value.value["config"]
    assert config["author"] == "me"
    assert config["history"][-1]["comment"] == "why"
    assert notebook.good("%%container app:1\necho $A; pwd") == "b\n/srv\n"
    notebook.good("%container rm dev")
    notebook.good("%container rmi app:1")
