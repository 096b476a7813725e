"""`-t`: a terminal of the container's own, typed into and read."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import termios
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import run as running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.options import run_options
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


class Typist:
    """A keyboard, and a screen that types when it has seen something."""

    def __init__(self, **answers: bytes) -> None:
        self.keyboard, self.keys = os.pipe2(os.O_CLOEXEC)
        self.seen = b""
        self.answers = {word.encode(): typed for word, typed in answers.items()}

    def __call__(self, data: bytes) -> None:
        self.seen += data
        for word in [word for word in self.answers if word in self.seen]:
            os.write(self.keys, self.answers.pop(word))

    def close(self) -> None:
        for fd in {self.keyboard, self.keys} - {-1}:
            os.close(fd)


def run(cell: Cell, script: str, **answers: bytes) -> tuple[Ran, bytes]:
    typist = Typist(**answers)
    try:
        return cell(script, terminal=True, stdout=typist, keyboard=typist.keyboard), typist.seen
    finally:
        typist.close()


def test_all_three_streams_are_a_terminal(cell: Cell) -> None:
    """Programs find a terminal on 0, 1 and 2, of the container's own devpts."""
    ran = cell("for fd in 0 1 2; do [ -t $fd ] && echo tty; done; tty; echo $TERM; echo err >&2", terminal=True)
    assert ran.stdout == b"tty\r\n" * 3 + b"/dev/pts/0\r\nxterm-256color\r\nerr\r\n"
    assert ran.stderr == b""


def test_a_terminal_has_a_size_from_its_beginning(cell: Cell) -> None:
    """Where the notebook sets none, too: a program that asks first does not find 0 rows."""
    assert cell("stty size", terminal=True).text == "24 80\r"


def test_it_is_the_sessions_own(cell: Cell) -> None:
    """/dev/tty is it, and the cell is in its foreground."""
    ran = cell("echo to the terminal > /dev/tty; cut -d' ' -f 5-8 /proc/self/stat", terminal=True)
    lines = ran.stdout.decode().splitlines()
    group, session, _, foreground = lines[1].split()
    assert lines[0] == "to the terminal"
    assert (group, foreground) == (session, session)


def test_another_user_has_a_terminal_too(cell: Cell, engine: Engine) -> None:
    """A plain user in the container may open the terminal by its name."""
    if not engine.idmap.setgroups:
        pytest.skip("needs a range of ids")
    ran = cell("echo x > /dev/tty; echo y > $(tty)", terminal=True, user="33")
    assert ran.stdout == b"x\r\ny\r\n"


def test_what_is_typed_is_read(cell: Cell) -> None:
    """A line typed at a prompt is the cell's, and is echoed."""
    ran, seen = run(cell, "printf 'name? '; read x; echo hi $x", **{"name? ": b"you\r"})
    assert ran.outcome.ok
    assert seen == b"name? you\r\nhi you\r\n"


def test_ctrl_c_interrupts_the_foreground(cell: Cell) -> None:
    """^C typed is SIGINT to what runs in the foreground."""
    ran, _ = run(cell, "echo ready; sleep 1000", ready=b"\x03")
    assert (ran.outcome.reason, ran.outcome.signal) == ("signal", 2)


def test_the_end_of_the_keyboard_is_the_end_of_input(cell: Cell) -> None:
    """A keyboard that is closed types ^D."""
    typist = Typist()
    os.write(typist.keys, b"a line\n")
    os.close(typist.keys)
    typist.keys = -1
    ran = cell("cat; echo done", terminal=True, stdout=typist, keyboard=typist.keyboard)
    typist.close()
    assert ran.outcome.ok
    assert typist.seen.endswith(b"a line\r\ndone\r\n")


def test_the_window_has_the_size_that_is_set(engine: Engine) -> None:
    """Who hears of the terminal may set its size, and the cell is told of a change."""
    seen: list[bytes] = []
    terminals: list[int] = []

    def look(data: bytes) -> None:
        seen.append(data)
        if b"ready" in data:
            fcntl.ioctl(terminals[0], termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))

    request = Request(
        "busybox",
        script="trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 1000 & wait; done",
        options=run_options({"terminal": True}),
    )
    _, outcome = running.run(engine, request, Streams(look, look, on_terminal=terminals.append))
    assert outcome.ok
    assert b"".join(seen) == b"ready\r\n50 132\r\n"


def test_a_flood_comes_through_a_terminal(cell: Cell) -> None:
    """A megabyte of output is read to its end, in order."""
    ran = cell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", terminal=True)
    assert ran.stdout.decode().splitlines() == [f"line {number}" for number in range(20000)]


def test_typing_to_a_cell_that_does_not_read(cell: Cell) -> None:
    """More is typed than the terminal holds, to a cell that only writes: neither waits for the other."""
    typist = Typist()
    writer = threading.Thread(target=lambda: os.write(typist.keys, b"x" * 60000 + b"\n"))
    writer.start()
    ran = cell(
        "stty -echo raw; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done",
        terminal=True,
        stdout=typist,
        keyboard=typist.keyboard,
        timeout=60,
    )
    writer.join()
    typist.close()
    assert ran.outcome.reason == "exited"
    assert b"2999" in typist.seen


def test_what_was_typed_arrives_whole(cell: Cell) -> None:
    """A paste that is longer than the terminal holds arrives when the cell reads it, byte for byte."""
    typist = Typist(ready=bytes(range(32, 127)) * 500)
    ran = cell(
        "stty -echo raw; echo ready; head -c 47500 | md5sum", terminal=True, stdout=typist, keyboard=typist.keyboard
    )
    typist.close()
    assert ran.outcome.ok
    assert hashlib.md5(bytes(range(32, 127)) * 500).hexdigest().encode() in typist.seen


def test_a_cell_that_waits_for_a_key_can_be_stopped(engine: Engine) -> None:
    """A time limit ends a cell that waits at its terminal."""
    typist = Typist()
    ran = run_script(engine, "read x", terminal=True, stdout=typist, keyboard=typist.keyboard, timeout=0.3)
    typist.close()
    assert ran.outcome.reason == "timeout"
