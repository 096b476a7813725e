"""A cell's body as a file, its streams, and what is said where it cannot run."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.errors import SetupFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.running import Ran

    Cell = Callable[..., Ran]


def test_a_read_does_not_eat_the_body(cell: Cell) -> None:
    """The body is a file: `read` gets the end of standard input, and the next line is run."""
    ran = cell('read x; echo "x=$x"\necho next')
    assert ran.lines == ["x=", "next"]


def test_a_body_is_written_as_it_is(cell: Cell) -> None:
    """Nothing in the body is filled in, quoted or translated: braces, dollars, tabs, CR, and letters of any script."""
    body = "cat <<'END'\n{x} {{y}} $HOME %s \\n `true` \t é 中文 🙂 \r\n'\"\nEND\n"
    assert cell(body).stdout.decode() == body.removeprefix("cat <<'END'\n").removesuffix("END\n")


def test_the_shells_words_are_the_shells(cell: Cell) -> None:
    """`$HOME` is the container's, and `{}` is find's."""
    assert cell("echo $HOME; find /etc/hosts -exec echo {} \\;").lines == ["/root", "/etc/hosts"]


def test_a_body_of_a_megabyte(cell: Cell) -> None:
    """A body has no length of a command line's: a megabyte of it arrives whole."""
    body = "x=" + "y" * (1 << 20) + "\necho ${#x}\n"
    assert cell(body).text == str(1 << 20)


def test_an_empty_body_is_a_cell(cell: Cell) -> None:
    """A body of nothing, or of comments, ends with exit code 0 and says nothing."""
    for body in ("", "\n", "# nothing\n"):
        ran = cell(body)
        assert (ran.outcome.exit_code, ran.stdout, ran.stderr) == (0, b"", b"")


def test_a_body_with_a_nul_is_refused(cell: Cell) -> None:
    """Shells drop a NUL without a word: the error says how to write one."""
    with pytest.raises(UsageError, match=r"NUL character.*printf"):
        cell("echo a\0b")
    assert cell("printf 'a\\0b'").stdout == b"a\0b"


def test_a_body_that_is_no_text_is_refused(cell: Cell) -> None:
    """Half of a surrogate pair cannot be written as UTF-8: the error says where it is."""
    with pytest.raises(UsageError, match="not Unicode text, at position 5"):
        cell("echo \udc80")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("#!/bin/sh -x", "+ echo hi"),
        ("#! /usr/bin/env sh", "hi"),
        ("#!/bin/cat", "#!/bin/cat"),
        ("#!/usr/bin/awk -f", None),
    ],
)
def test_the_first_line_picks_the_interpreter(cell: Cell, line: str, words: str | None) -> None:
    """A `#!` line is read by the kernel, as in any script."""
    body = f"{line}\necho hi\n" if words else f'{line}\nBEGIN {{ print "from awk" }}\n'
    ran = cell(body)
    assert ran.outcome.ok
    assert (words or "from awk") in (ran.stdout + ran.stderr).decode().splitlines()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("#!/usr/bin/python9\nprint()\n", "cannot run /usr/bin/python9: No such file or directory"),
        ("#!/bin/sh\r\necho\r\n", r"cannot run '/bin/sh\r': No such file or directory"),
        ("#!/etc/hosts\n", "Permission denied; it is not executable"),
    ],
)
def test_an_interpreter_that_is_not_there_is_named(cell: Cell, body: str, words: str) -> None:
    """What cannot be run is the interpreter, and that is what the error names; the cell never began."""
    with pytest.raises(SetupFailed) as raised:
        cell(body)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), "cannot run no-such-program: No such file or directory; the image has no such program"),
        (("/etc/passwd",), "cannot run /etc/passwd: Permission denied; it is not executable in the image"),
        (("/etc",), "cannot run /etc: Permission denied"),
        (("sh", "x" * (3 << 20)), "Argument list too long; the arguments and the environment are too long"),
    ],
    ids=["missing", "not executable", "directory", "too long"],
)
def test_a_program_that_cannot_run_is_named(cell: Cell, command: tuple[str, ...], words: str) -> None:
    """The error names the program, the reason, and what to do next."""
    with pytest.raises(SetupFailed) as raised:
        cell(None, command=command)
    assert words in str(raised.value)[:2000] + str(raised.value)[-2000:]


def test_a_file_that_is_no_program(cell: Cell) -> None:
    """A file without a `#!` line that is no ELF is named as such."""
    cell("echo hello > /prog; chmod 755 /prog", name="holds-prog")
    with pytest.raises(SetupFailed, match="it is built for another architecture, or is not a program"):
        cell(None, name="holds-prog", image="", command=("/prog",))


def test_with_a_command_the_body_is_its_input(cell: Cell) -> None:
    """As in %%script: the body is what the command reads, from the start, in any length."""
    assert cell("b\na\n", command=("sort",)).lines == ["a", "b"]
    assert cell("x" * (3 << 20), command=("wc", "-c")).text == str(3 << 20)


def test_without_a_command_there_is_no_input(cell: Cell) -> None:
    """A body's standard input is empty, and never the notebook's."""
    assert cell("wc -c; readlink /proc/$$/fd/0").lines == ["0", "/dev/null"]


def test_input_can_be_a_descriptor(cell: Cell, tmp_path: Path) -> None:
    """What the caller opens is what the cell reads, and stays the caller's."""
    (tmp_path / "in").write_text("from a file\n")
    with (tmp_path / "in").open("rb") as file:
        assert cell("cat", stdin=file.fileno()).text == "from a file"
        assert file.tell() == len("from a file\n")


def test_two_streams_stay_two(cell: Cell) -> None:
    """What goes to standard error is not in standard output, nor the other way round."""
    ran = cell("echo a; echo b >&2; echo c; echo d >&2")
    assert (ran.stdout, ran.stderr) == (b"a\nc\n", b"b\nd\n")


def test_output_without_a_newline_shows_at_once(cell: Cell, tmp_path: Path) -> None:
    """A prompt arrives before its line ends: the cell waits until the test has seen it."""
    os.mkfifo(tmp_path / "go")
    keep = os.open(tmp_path / "go", os.O_RDWR)
    seen: list[bytes] = []

    def answer(data: bytes) -> None:
        seen.append(data)
        if b"".join(seen) == b"name? ":
            os.write(keep, b"you\n")

    (tmp_path / "go").chmod(0o666)
    cell("printf 'name? '; read x < /go; echo hi $x", stdout=answer, volumes=(parse_volume(f"{tmp_path}/go:/go"),))
    os.close(keep)
    assert b"".join(seen) == b"name? hi you\n"


def test_half_a_character_is_passed_on(cell: Cell) -> None:
    """Streams are bytes: a character written in two halves arrives whole, and bytes that are no text arrive too."""
    assert cell("printf '\\303'; printf '\\251\\n'").stdout == "é\n".encode()
    assert cell("printf '\\377\\000\\200'").stdout == b"\xff\0\x80"


def test_a_flood_takes_no_memory(cell: Cell) -> None:
    """200 MB of output pass through: this process grows by no more than a few pipes."""
    passed = 0

    def count(data: bytes) -> None:
        nonlocal passed
        passed += len(data)

    cell("true")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = cell("head -c 200000000 /dev/zero", stdout=count)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert ran.outcome.ok
    assert passed == 200_000_000
    assert grown < 16 << 20


def test_what_is_written_at_the_very_end_arrives(cell: Cell) -> None:
    """Nothing of the output is lost when the cell ends with full pipes, on both streams."""
    ran = cell("head -c 900000 /dev/zero >&2 & head -c 900000 /dev/zero; wait")
    assert (len(ran.stdout), len(ran.stderr)) == (900000, 900000)


def test_a_sink_that_raises_ends_the_cell(cell: Cell) -> None:
    """An error of whoever takes the output comes out, and the cell does not go on without a reader."""

    class NoRoomError(Exception):
        pass

    def refuse(_: bytes) -> None:
        raise NoRoomError

    with pytest.raises(NoRoomError):
        cell("while :; do echo x; done", stdout=refuse)
    assert cell("echo still here").text == "still here"


def test_a_closed_output_is_the_cells_own_affair(cell: Cell) -> None:
    """A cell that closes its streams goes on and ends as it likes."""
    ran = cell("exec >&- 2>&-; exit 3")
    assert (ran.outcome.reason, ran.outcome.exit_code, ran.stdout) == ("exited", 3, b"")


def test_a_writer_without_a_reader_dies_of_sigpipe(cell: Cell) -> None:
    """SIGPIPE does what it does in a terminal: `yes | head` ends."""
    ran = cell("yes | head -n 1; set -o pipefail; yes | true; echo $?")
    assert ran.lines == ["y", "141"]
