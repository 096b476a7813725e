"""Which line of a script an error shows."""

from __future__ import annotations

import pytest

from nbcontainer.commands.failing_line import TAIL, Tail, failing_line

SCRIPT = "echo a\n\nmake   all\nif\n"


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ("/dev/cell: line 3: make: not found\n", "line 3: make all"),
        ("/dev/cell: 3: make: not found\n", "line 3: make all"),
        ("bash: /dev/nbcontainer/cell: line 3: make: command not found", "line 3: make all"),
        ("sh: /dev/nbcontainer/cell: line 4: syntax error: unexpected end of file", "line 4: if"),
        ("other\n/dev/cell: line 3: x\n", "line 3: make all"),
        ("/dev/cell: line 3: x\nother\n", ""),
        ("/dev/cell: line 2: x\n", ""),
        ("/dev/cell: line 5: x\n", ""),
        ("/dev/cell: line 0: x\n", ""),
        ("/dev/cell: line 99999999999999999999: x\n", ""),
        ("see /dev/cell: line 3: x\n", ""),
        ("/bin/other: line 3: x\n", ""),
        ("", ""),
    ],
)
def test_the_line_of_a_shells_report(errors: str, line: str) -> None:
    """The last line of standard error counts, if it is a shell's report about a line that the script has."""
    assert failing_line(SCRIPT, errors.encode()) == line


PYTHON = "#!/usr/bin/env python3\nimport x\nf(1)\n"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "/dev/cell", line {}, in <module>\n    code\n{}ZeroDivisionError: x\n'
)


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        (TRACEBACK.format(3, ""), "line 3: f(1)"),
        (TRACEBACK.format(3, '  File "/usr/lib/x.py", line 2, in f\n'), "line 3: f(1)"),
        (
            TRACEBACK.format(2, "") + "\nDuring handling of the above exception:\n\n" + TRACEBACK.format(3, ""),
            "line 3: f(1)",
        ),
        ('  File "/dev/cell", line 2\n    import x\n           ^\nSyntaxError: invalid syntax\n', "line 2: import x"),
    ],
)
def test_the_line_of_a_traceback(errors: str, line: str) -> None:
    """The innermost frame in the script counts, of the last traceback."""
    assert failing_line(PYTHON, errors.encode()) == line


@pytest.mark.parametrize("character", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_lines_end_where_the_interpreter_ends_them(character: str) -> None:
    """A shell's lines end at a line feed; Python's at a carriage return, too, and at nothing else."""
    script = f"true {character} true\nmake\n"
    assert failing_line(script, b"/dev/cell: line 2: make: not found") == "line 2: make"
    number = 3 if character == "\r" else 2
    assert failing_line(script, TRACEBACK.format(number, "").encode()) == f"line {number}: make"


def test_a_container_chooses_a_line_and_nothing_else() -> None:
    """What the container wrote is not in the error: the text is that of the user's script, short and printable."""
    script = "echo '\x1b[2J'" + "x" * 200
    line = failing_line(script, b"/dev/cell: line 1: \x1b[31m evil\xff")
    assert line.startswith("line 1: echo '")
    assert len(line) < 80
    assert failing_line(None, b"/dev/cell: line 1: x") == ""


def test_the_end_of_a_stream_is_kept() -> None:
    """However the bytes come, the last ones are there, and no more of them."""
    tail = Tail(8)
    for part in (b"abc", b"", b"defgh", b"ijklmnopqrstuvwxyz"):
        tail(part)
    assert bytes(tail.data) == b"stuvwxyz"
    one_by_one = Tail()
    for _ in range(TAIL + 5):
        one_by_one(b"x")
    assert len(one_by_one.data) == TAIL
