"""The shell of a kernel, in containers: what cells keep, and how they end, in busybox's ash, dash and bash."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.live.cell_watch import CellEnd
from nbcontainer.containers.live.session import ShellSession
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from tests.notebook.shell_cells import Heard, Typist
from tests.requirements import require_root
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from tests.notebook.shell_cells import Cells


def test_a_shell_keeps_what_a_person_expects_it_to_keep(cells: Cells) -> None:
    """Variables, exports, functions, aliases, the working directory, the mask and the arguments go on."""
    cells.good("a='x  y'; export b=2; f() { echo \"f $1\"; }; alias g='echo alias'; cd /etc; umask 027; set -- p 'q r'")
    assert cells.good("echo \"$a\"; sh -c 'echo $b'; f 3") == "x  y\n2\nf 3\n"
    assert cells.good('g; pwd; umask; echo $# "$2"') == "alias\n/etc\n0027\n2 q r\n"


@pytest.mark.parametrize("word", ["over", "interrupt 1", "started"])
def test_a_cell_cannot_say_what_the_kernel_says_to_itself(word: str, make_cells: Callable[..., Cells]) -> None:
    """That it was interrupted, or its container is dead, is nothing that a cell makes the kernel believe."""
    cells = make_cells("ash")
    assert cells(f"echo {word} > /dev/nbcontainer/channel; sleep 0.5; false").end == CellEnd(1)
    assert cells.good("echo still there") == "still there\n"


def test_a_cell_is_written_to_no_file_that_was_mounted_in_its_place(make_cells: Callable[..., Cells]) -> None:
    """With SYS_ADMIN a cell can mount a setting of the machine's there, which root's kernel could write: it refuses."""
    require_root()
    setting = Path("/proc/sys/kernel/printk_ratelimit_burst")
    before = setting.read_text()
    cells = make_cells("ash", capabilities=(*DEFAULT_CAPABILITIES, "SYS_ADMIN"))
    cells.good(f"mkdir /new && mount -t proc none /new && mount -o bind /new{str(setting)[5:]} /dev/nbcontainer/cell")
    try:
        with pytest.raises(ContainerError, match="the container changed /dev/nbcontainer/"):
            cells(str(int(before) + 1))
        assert setting.read_text() == before
    finally:
        setting.write_text(before)


def test_the_last_exit_status_is_there_in_the_next_cell(cells: Cells) -> None:
    """`$?` is what the last cell ended with."""
    assert cells("(exit 7)").status == 7
    assert cells.good("echo $?") == "7\n"


def test_background_jobs_go_on_and_can_be_waited_for(cells: Cells) -> None:
    """A job of one cell is there in the next: in `jobs`, for `wait`, with its exit status."""
    cells.good("mkfifo /tmp/go; (read x < /tmp/go; exit 5) & pid=$!")
    assert "Running" in cells.good("jobs")
    assert cells.good('echo go > /tmp/go; wait $pid; echo "waited $?"') == "waited 5\n"


def test_traps_go_on(cells: Cells) -> None:
    """A trap of one cell acts in the next."""
    cells.good("trap 'echo caught' USR1")
    assert cells.good("kill -USR1 $$; true") == "caught\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("echo 'unbalanced", 2, id="an unbalanced quote"),
        pytest.param("if true; then echo", 2, id="an unfinished if"),
        pytest.param("f( {", 2, id="a syntax error"),
        pytest.param("exit 3; echo not", 3, id="exit"),
        pytest.param("f() { exit 4; }; while :; do f; done; echo not", 4, id="exit deep in a function"),
        pytest.param("exit; echo not", 0, id="exit without a number"),
        pytest.param("(exit 9)", 9, id="exit in a subshell"),
        pytest.param("return 8", 8, id="return"),
        pytest.param("set -e; false; echo not", 1, id="set -e"),
        pytest.param("set -e; f() { (exit 6); echo not; }; f; echo not", 6, id="set -e in a function"),
        pytest.param("set -u; echo $nothing; echo not", None, id="set -u"),
        pytest.param("echo ${nothing?is missing}; echo not", None, id="an expansion's error"),
        pytest.param("echo $((1 / 0)); echo not", None, id="an arithmetic error"),
        pytest.param("readonly r=1; r=2; echo not", None, id="a readonly variable"),
        pytest.param("nosuchcommand", 127, id="an unknown command"),
        pytest.param("/etc", 126, id="a directory as a command"),
        pytest.param("break; break 9; continue 2; true", 0, id="break outside a loop"),
        pytest.param("exec /nonexistent", 127, id="exec of nothing"),
        pytest.param("cat <<END\nunfinished", 0, id="an unfinished here-document"),
        pytest.param("( : ${nothing?gone} ); (exit 5)", 5, id="an error in a subshell"),
        pytest.param("exec 2>/tmp/log; echo x >&2; exec 2>&1", 0, id="exec of redirections"),
    ],
)
def test_a_cell_that_ends_early_ends_alone(cells: Cells, code: str, status: int | None) -> None:
    """The cell ends there with its status, never hangs, and the shell is what it was: this and the next are one."""
    cells.good("kept=yes; keep() { echo function; }")
    ran = cells(code)
    assert "not" not in ran.out.split()
    assert ran.end.reason == Reason.EXITED
    assert ran.status == status if status is not None else ran.status != 0
    assert ran.end.note == ""
    after = cells("set +eu; echo $kept; keep")
    assert (after.out, after.end.note) == ("yes\nfunction\n", "")


def test_set_e_holds_from_cell_to_cell_and_again_and_again(cells: Cells) -> None:
    """What `set -e` ends, each time, is the cell. In ash what that one cell did may be lost, and it says so."""
    cells.good("kept=1; set -e")
    for number in range(5):
        ran = cells(f"last={number}; false; echo not")
        assert (ran.status, ran.out) == (1, "")
    ran = cells("case $- in *e*) echo strict;; esac; echo $kept")
    assert ran.out == "strict\n1\n"


def test_exec_replaces_the_shell_and_a_new_one_comes(cells: Cells) -> None:
    """After `exec PROGRAM` the cell is the program's, and the next cell has a new shell on the same files."""
    cells.good("x=1; echo kept > /file")
    ran = cells("exec sh -c 'echo replaced; exit 42'")
    assert (ran.status, ran.out) == (42, "replaced\n")
    assert "shell" in ran.end.note
    assert cells.good('cat /file; echo "[$x]"') in ("kept\n[]\n", "kept\n[1]\n")


def test_a_killed_shell_comes_back_with_a_note(cells: Cells) -> None:
    """SIGKILL to the shell ends its cell with a note; the next one runs in a new shell on the same files."""
    cells.good("echo kept > /file")
    ran = cells("kill -9 $$; sleep 60")
    assert ran.status == 137
    assert "a new one" in ran.end.note
    assert cells.good("cat /file") == "kept\n"


def test_a_cell_may_be_huge(cells: Cells) -> None:
    """Four megabytes of script run to their last line."""
    filler = "".join(f": line {number} of a very long script, none of it of any use\n" for number in range(65000))
    assert len(filler) > 3 << 20
    assert cells.good(filler + "echo end") == "end\n"


def test_a_cell_with_a_nul_is_refused(cells: Cells) -> None:
    """What no shell can read is an error that says where, before anything runs; half a character too."""
    with pytest.raises(UsageError, match="NUL character at position 5"):
        cells("echo \0")
    with pytest.raises(UsageError, match="that is not Unicode text, at position 5"):
        cells("echo \ud800")
    cells.good("true")


def test_text_of_any_kind_arrives_as_it_was_written(cells: Cells) -> None:
    """Quotes, braces, dollars, backslashes, carriage returns and characters of all lengths."""
    text = "\"' {} $HOME \\n % € 𝄞 \t\r"
    assert cells.good(f"cat <<'END'\n{text}\nEND") == text + "\n"


def test_the_programs_of_a_cell_inherit_nothing(cells: Cells) -> None:
    """A program has 0, 1 and 2 and no descriptor besides, in front and in the background."""
    listing = cells.good("ls /proc/self/fd; ls /proc/self/fd & wait")
    numbers = [int(word) for word in listing.split()]
    assert numbers == [0, 1, 2, 3] * 2  # 3 is of `ls` itself


def test_nothing_of_the_kernels_is_in_a_programs_environment(cells: Cells) -> None:
    """No variable of the shell's own loop is exported, with `set -a` neither."""
    assert "_nb_" not in cells.good("set -a; x=1")
    assert "_nb_" not in cells.good("env")


def test_tracing_shows_the_cell_and_nothing_else(cells: Cells) -> None:
    """With `set -x`, what is traced are the cell's commands, in that cell and the next."""
    assert re.fullmatch(r"\++ echo a\n", cells("set -x; echo a").err)
    assert re.fullmatch(r"\++ echo b\n\++ set \+x\n", cells("echo b; set +x").err)
    assert cells("echo c").err == ""


def test_a_first_line_picks_another_interpreter(cells: Cells) -> None:
    """A cell that begins with `#!` is that program's, in the shell's directory, with its exported variables."""
    cells.good("cd /tmp; export e=1; v=2")
    ran = cells('#!/bin/sh\necho "$e$v $(pwd)"; exit 3')
    assert (ran.out, ran.status) == ("1 /tmp\n", 3)
    assert cells.good("echo $v") == "2\n"


def test_both_streams_come_apart_and_raw(cells: Cells) -> None:
    """Standard output and error are two streams; colours and unfinished lines come as they are."""
    ran = cells("printf '\\033[31mred\\033[0m'; printf err >&2")
    assert (ran.out, ran.err) == ("\x1b[31mred\x1b[0m", "err")


def test_a_cell_without_a_keyboard_reads_nothing(cells: Cells) -> None:
    """Where nobody can be asked, standard input is at its end at once."""
    assert cells('read x; echo "[$x]"; cat').out == "[]\n"


def test_a_program_that_reads_is_given_what_a_person_types(cells: Cells) -> None:
    """Each read of the shell's, or of a program's, asks once; ^D is the end of the input."""
    typist = Typist("one two", "three", "four", "\x04")
    code = 'read a; echo "<$a>"; read b; echo "<$b>"; cat; echo end'
    assert cells.good(code, typist) == "<one two>\n<three>\nfour\nend\n"
    assert typist.asked == [False] * 4


def test_a_password_is_asked_for_as_one(cells: Cells) -> None:
    """A program that turns the echo off has the line read as a secret."""
    typist = Typist("hidden", "seen")
    assert cells.good("stty -echo; read p; stty echo; read q; echo $p $q", typist) == "hidden seen\n"
    assert typist.asked == [True, False]


def test_a_script_is_not_eaten_by_read(cells: Cells) -> None:
    """`read` takes a line from the person and not the cell's next one."""
    assert cells.good("read x\necho next", Typist("typed")) == "next\n"


def test_display_shows_a_file_as_it_was(cells: Cells) -> None:
    """`display` shows a file by its ending, or by -t, as it was at that moment, in order with the output."""
    cells.good("printf 'PNG' > /tmp/a.png; display /tmp/a.png; rm /tmp/a.png; printf '{\"a\": 1}' | display -t json")
    assert cells.heard.things == [("image/png", b"PNG"), ("application/json", b'{"a": 1}')]
    ran = cells("display /tmp/nothing.svg")
    assert ran.status == 1
    assert "cannot read /tmp/nothing.svg" in ran.err
    assert cells("display /tmp").status == 2


def test_clear_clears(cells: Cells) -> None:
    """`clear` takes the cell's output away, and `display --clear --wait` does when more comes."""
    cells.good("clear; display --clear --wait")
    assert cells.heard.clears == [False, True]


def test_a_plain_user_of_the_container_has_all_of_it(make_cells: Callable[..., Cells], engine: Engine) -> None:
    """Cells run as --user: state, questions, input, display and clear work for one who owns none of it."""
    if engine.single_id:
        pytest.skip("a container has a single user here")
    cells = make_cells("ash", user="1000")
    assert cells.good("id -u; x=1") == "1000\n"
    assert cells.good("read y; echo $x$y", Typist("2")) == "12\n"
    cells.good("printf x | display -t png")
    assert cells.heard.things == [("image/png", b"x")]
    assert cells.shell.ask("echo $x") == "1\n"


def test_files_stay_when_the_container_is_a_named_one(make_cells: Callable[..., Cells], engine: Engine) -> None:
    """With --name, the next kernel's shell finds the files of the one before."""
    for code, said in (("echo 1 > /kept; cat /kept", "1\n"), ("cat /kept", "1\n")):
        heard = Heard()
        shell = ShellSession(engine, Request("busybox", "kernel-of-tests"), heard)
        assert shell.run(code) == CellEnd(0)
        assert b"".join(heard.out).decode() == said
        shell.close()
    assert shell.container is not None
    shell.container.remove()


def test_everything_of_a_shell_ends_with_it(make_cells: Callable[..., Cells]) -> None:
    """Closing a shell runs its exit trap, and leaves no process of its container."""
    seconds = marker()
    cells = make_cells("ash")
    cells.good(f"setsid sleep {seconds} & trap 'echo bye' EXIT")
    watched = pidfds(appear(seconds, 1))
    cells.shell.close(DEADLINE)
    assert all_dead(watched)
    assert b"bye\n" in cells.heard.out


def test_what_is_asked_is_answered_by_the_shell_itself(cells: Cells) -> None:
    """A question sees the shell's variables, functions and directory, and changes none of them."""
    cells.good("x=1; f() { echo f; }; cd /tmp")
    assert cells.shell.ask("f; echo $x; pwd; x=2; cd /; exit 3") == "f\n1\n/tmp\n"
    assert cells.good("echo $x; pwd") == "1\n/tmp\n"


def test_a_question_that_takes_too_long_has_no_answer(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and not begun again: the shell is what it was, and answers at once."""
    monkeypatch.setattr("nbcontainer.containers.live.session._QUESTION_LIMIT", 2.0)
    cells.good("x=1")
    assert cells.shell.ask("echo a; echo asked >>/asked; sleep 60") == ""
    assert cells.good("echo $x; cat /asked") == "1\nasked\n"


def test_bash_is_chosen_where_there_is_one(engine: Engine, shells_tar: Path) -> None:
    """Without a name, an image's bash runs the cells, and else its sh; a shell that is not there is named."""
    for image, program, said in ((str(shells_tar), "", "bash"), ("busybox", "", ""), (str(shells_tar), "zsh", None)):
        heard = Heard()
        shell = ShellSession(engine, Request(image), heard, program)
        end = shell.run("echo ${BASH_VERSION:+bash}")
        shell.close()
        if said is None:
            assert end.status == 127
            assert b"the image has no zsh" in b"".join(heard.err)
        else:
            assert b"".join(heard.out).decode() == f"{said}\n"
