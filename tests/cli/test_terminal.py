"""`nbcontainer run -it` on a real terminal."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import PROGRAM
from tests.requirements import require, require_private_network
from tests.running import DEADLINE, all_dead, appear, marker, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pexpect

    from tests.cli.conftest import Program

PROMPT = "/ # "


@pytest.fixture
def terminal(program: Program) -> Iterator[Callable[..., pexpect.spawn[str]]]:
    """Starts the program on a terminal of 33 lines and 99 columns: `terminal("run", "-it", …)`."""
    require("pexpect", available=importlib.util.find_spec("pexpect") is not None)
    import pexpect

    started = []

    def start(*words: str, command: list[str] = PROGRAM) -> pexpect.spawn[str]:
        name, *arguments = command
        child = pexpect.spawn(
            name, [*arguments, *words], env=program.env, encoding="utf-8", timeout=DEADLINE, dimensions=(33, 99)
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def ended(child: pexpect.spawn[str]) -> int:
    """The exit code of a program that comes to its end."""
    import pexpect

    child.expect(pexpect.EOF)
    child.close()
    return int(child.exitstatus if child.exitstatus is not None else 128 + int(child.signalstatus or 0))


def test_a_terminal_has_the_network_that_it_asks_for(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """A private one, say: before the first prompt."""
    require_private_network()
    child = terminal("run", "-it", "--network", "private", "busybox", "sh")
    child.expect_exact(PROMPT)
    child.sendline("cat /etc/resolv.conf; ls /sys/class/net | wc -l; exit 3")
    child.expect_exact("nameserver 10.0.2.3")
    child.expect_exact("2\r\n")
    assert ended(child) == 3


def test_a_shell_in_a_container(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """The container's terminal is as large as this one, is its shell's own, and gives back its exit code."""
    child = terminal("run", "-it", "busybox", "sh")
    child.expect_exact(PROMPT)
    child.sendline("stty size; tty; echo $TERM; echo \u00e9\u6f22")
    for text in ("33 99\r\n", "/dev/pts/0\r\n", "xterm-256color\r\n", "\u00e9\u6f22\r\n"):
        child.expect_exact(text)
    child.expect_exact(PROMPT)
    child.sendline("exit 7")
    assert ended(child) == 7


def test_work_in_a_closed_terminal_is_kept(terminal: Callable[..., pexpect.spawn[str]], program: Program) -> None:
    """If its window is closed, the shell gets SIGTERM and is killed, and the program ends. Its files stay."""
    child = terminal("run", "-it", "--name", "closed", "busybox", "sh")
    child.expect_exact(PROMPT)
    child.sendline("echo work > /file; echo 'do''ne'")
    child.expect_exact("done\r\n")
    watched = pidfds([child.pid])
    child.ptyproc.fileobj.close()
    assert all_dead(watched)
    assert program.good("diff", "closed").split() == ["CHANGE", "PATH", "A", "/file"]
    program.good("rm", "closed")


def test_ctrl_c_is_for_the_program_inside(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """Ctrl-C ends what the shell runs and neither the shell nor the container; Ctrl-D ends the shell."""
    mark = marker()
    child = terminal("run", "-it", "busybox", "sh")
    child.expect_exact(PROMPT)
    child.sendline(f"sleep {mark}")
    sleeping = pidfds(appear(mark, 1))
    child.sendcontrol("c")
    child.expect_exact(PROMPT)
    assert all_dead(sleeping)
    child.sendline("echo $?")
    child.expect_exact("130\r\n")
    child.expect_exact(PROMPT)  # before it, ^D is for no line that the shell edits
    child.sendcontrol("d")
    assert ended(child) == 0


def test_jobs_can_be_controlled(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """Ctrl-Z stops the program inside, and `fg` goes on with it."""
    child = terminal("run", "-it", "busybox", "sh")
    child.expect_exact(PROMPT)
    child.sendline("sh -c 'echo beg''un; exec cat'")
    child.expect_exact("begun\r\n")  # the shell no longer edits what is typed
    child.sendline("one")
    child.expect_exact("one\r\none\r\n")
    child.sendcontrol("z")
    child.expect("Stopped")
    child.expect_exact(PROMPT)
    child.sendline("fg")
    child.expect(r"exec cat.\r\n")  # the job's name, once it has the terminal
    child.sendline("two")
    child.expect_exact("two\r\ntwo\r\n")
    child.sendcontrol("d")
    child.expect_exact(PROMPT)
    child.sendline("exit")
    assert ended(child) == 0


def test_a_change_of_size_goes_in(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """When the window changes its size, the container's terminal does, and its programs hear of it."""
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do usleep 10000; done"
    child = terminal("run", "-it", "busybox", "sh", "-c", script)
    child.expect_exact("ready\r\n")
    child.setwinsize(41, 123)
    child.expect_exact("41 123\r\n")
    assert ended(child) == 0


def test_a_full_screen_program(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """An editor draws itself, takes single keys, and writes its file."""
    child = terminal("run", "-it", "busybox", "sh")
    child.expect_exact(PROMPT)
    child.sendline("vi /file")
    for keys, shown in (("i", "I /file"), ("hello", "hello"), ("\x1b", "- /file [Modified]")):
        child.send(keys)
        child.expect_exact(shown)
    child.send(":wq\r")
    child.expect_exact(PROMPT)
    child.sendline("cat /file")
    child.expect_exact("hello\r\n")
    child.sendline("exit")
    assert ended(child) == 0


def test_the_terminal_is_as_it_was(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """Whatever the container did to its terminal, and however it ended, this one is as it was before."""
    main = " ".join(f"'{word}'" for word in PROGRAM)
    script = (
        f'before=$(stty -g); {main} run -it busybox sh -c "stty raw -echo; exit 3"; echo "code $?";'
        f'{main} run -it --timeout 0.5 busybox sleep 100; echo "code $?";'
        'if [ "$(stty -g)" = "$before" ]; then echo same; else echo changed; fi'
    )
    child = terminal("-c", script, command=["/bin/sh"])
    for text in ("code 3\r\n", "stopped after its time limit", "code 124\r\n", "same\r\n"):
        child.expect_exact(text)
    assert ended(child) == 0


def test_the_terminal_is_as_it_was_after_sigterm(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """A program that is told to end puts the terminal in order first."""
    mark = marker()
    child = terminal("run", "-it", "busybox", "sh", "-c", f"echo up; sleep {mark}; true")
    before = termios.tcgetattr(child.child_fd)
    child.expect_exact("up\r\n")
    assert not termios.tcgetattr(child.child_fd)[3] & (termios.ICANON | termios.ECHO)
    child.kill(signal.SIGTERM)
    assert ended(child) == 143
    assert before[3] & (termios.ICANON | termios.ECHO)
    assert not processes_with(mark)


def test_a_closed_terminal_ends_the_container(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    """When the window is closed, the container ends with it."""
    mark = marker()
    child = terminal("run", "-it", "busybox", "sh", "-c", f"trap '' HUP INT TERM; sleep {mark}; sleep {mark}")
    sleeping = pidfds(appear(mark, 1))
    child.ptyproc.fileobj.close()
    assert all_dead(sleeping)
    assert not processes_with(mark)


def test_a_terminal_to_write_to(program: Program) -> None:
    """`-t` alone gives the program a terminal for its output, whose lines end as a terminal's do."""
    words = ("run", "-t", "busybox", "sh", "-c", "[ -t 1 ] && echo yes; echo also >&2")
    with program.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.communicate(timeout=60) == (b"yes\r\nalso\r\n", b"")
    assert process.returncode == 0


def test_debug_opens_a_shell_where_the_last_cell_failed(
    terminal: Callable[..., pexpect.spawn[str]], program: Program
) -> None:
    """It shows which state that is, and has a prompt. What is changed there is discarded."""
    assert program("run", "--name", "debugged", "busybox", "sh", "-c", "echo seen > /a; exit 3").returncode == 3
    try:
        child = terminal("debug", "debugged")
        child.expect_exact("debugged@1, after: exit code 3; changes are discarded")
        child.expect_exact(PROMPT)
        child.sendline("cat /a; rm /a; tty")
        child.expect_exact("seen")
        child.expect_exact("/dev/pts/0")
        child.sendline("exit 5")
        assert ended(child) == 5
        assert program.good("debug", "debugged", "cat", "/a") == "seen\n"
        assert program.good("debug", "debugged", stdin="cat /a\n") == "seen\n"
    finally:
        program.good("rm", "debugged")
