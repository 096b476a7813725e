"""`--stdin`: a text, or a file of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.standard_input import parse_stdin
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("hello", b"hello\n"),
        ("a\n", b"a\n"),
        ("", b"\n"),
        ("@@home", b"@home\n"),
        ("@@@x", b"@@x\n"),
        ("ä", b"\xc3\xa4\n"),
    ],
)
def test_a_text_is_lines(text: str, data: bytes) -> None:
    """It ends with a new line, and a doubled @ is one."""
    assert parse_stdin(text).data == data


def test_a_text_can_have_any_bytes_of_a_terminal() -> None:
    """Arguments that are not UTF-8 are passed on as they are; what stands for no byte is one error."""
    assert parse_stdin(os.fsdecode(b"\xff")).data == b"\xff\n"
    with pytest.raises(UsageError, match="not Unicode; use --stdin @FILE"):
        parse_stdin("\ud800")


def test_a_file_is_read_when_the_run_begins(tmp_path: Path) -> None:
    """Its content is passed byte for byte, without being read into memory."""
    (tmp_path / "x").write_bytes(b"\0\1")
    found = parse_stdin(f"@{tmp_path / 'x'}")
    (tmp_path / "x").write_bytes(b"\2no new line")
    opened = found.open(None)
    assert os.read(opened, 100) == b"\2no new line"
    os.close(opened)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "empty", "nul"])
def test_a_file_that_cannot_be_read_is_named_before_the_run(kind: str, tmp_path: Path) -> None:
    """One line names the file, and nothing waits for a pipe."""
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    written = {"empty": "@", "nul": "@a\0b"}.get(kind, f"@{path}")
    with pytest.raises(UsageError) as raised:
        parse_stdin(written)
    assert "--stdin" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_value_of_a_variable_names_no_file() -> None:
    """Only an @ that is written is a file: a variable may have come from anywhere."""
    words = parse(RUN, ["--stdin", "{x}", "busybox"], fill=lambda word: word.replace("{x}", "@/etc/passwd"))
    found = request_of(words).stdin
    assert found is not None
    assert (found.path, found.data) == (None, b"@/etc/passwd\n")
    words = parse(RUN, ["--stdin=@{x}", "busybox"], fill=lambda word: word.replace("{x}", "/etc/passwd"))
    found = request_of(words).stdin
    assert found is not None
    assert found.path == Path("/etc/passwd")


def test_a_command_has_one_input() -> None:
    """The body of a cell and `--stdin` cannot both be it."""
    with pytest.raises(UsageError, match="both the input"):
        request_of(parse(RUN, ["--stdin", "x", "busybox", "cat"]), script="body")
