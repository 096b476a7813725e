"""`{expression}` in a magic's words."""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path
from typing import Any

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.notebook.interpolation import expand, filler, plain, split, split_for_expansion, unix_lines

NAMES = {
    "data": Path("/srv/data"),
    "n": 3,
    "d": {"k": "v", "n": "data"},
    "words": ["a", "b"],
    "x": "{n}",
    "c": ":",
    "größe": 17,
    "file": "ligature",
}


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{data}:/data", "/srv/data:/data"),
        ("{data / 'in'}:/in", "/srv/data/in:/in"),
        ("{n + 1}", "4"),
        ("{n:03d}", "003"),
        ("{d['k']}", "v"),
        ('{d["k"]}', "v"),
        ("{len(words)}", "2"),
        ("{words[0]}{words[-1]}", "ab"),
        ("{n!r}", "3"),
        ("{d['k']!r:>5}", "  'v'"),
        ("{{print}}", "{print}"),
        ("{{{n}}}", "{3}"),
        ("{x}", "{n}"),
        ("$HOME", "$HOME"),
        ("{sum([1, 2])}", "3"),
        ("{n:>{n}}", "  3"),
        ("a{n}b{{{n}c}}", "a3b{3c}"),
    ],
)
def test_an_expression_is_filled(word: str, filled: str) -> None:
    """Names, attributes, keys, calls and formats are filled in; doubled braces, `$` and what was filled are left."""
    assert filler(NAMES)(word) == filled


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "{nope}",
            "cannot evaluate '{nope}': NameError: name 'nope' is not defined; write {{ and }} for literal braces",
        ),
        ("{", "cannot evaluate '{': SyntaxError: '{' was never closed"),
        ("{n", "cannot evaluate '{n': SyntaxError: '{' was never closed"),
        ("}", "cannot evaluate '}': SyntaxError: single '}'"),
        ("{n}}", "cannot evaluate '{n}}': SyntaxError: single '}'"),
        ("{}", "cannot evaluate '{}': SyntaxError: "),
        ("{n:x{n}", "cannot evaluate '{n:x{n}': "),
        ("{n:q}", "cannot evaluate '{n:q}': ValueError: Unknown format code 'q'"),
        ("{n\0}", "cannot evaluate '{n\\x00}': SyntaxError"),
        ("{1/0}", "cannot evaluate '{1/0}': ZeroDivisionError: "),
        ("{d.nope}", "cannot evaluate '{d.nope}': AttributeError: "),
        ("{if}", "cannot evaluate '{if}': SyntaxError: "),
        ('{"port":80}', "cannot evaluate '{\"port\":80}': SyntaxError: a text with a format, or JSON; write {{ and }}"),
    ],
)
def test_what_cannot_be_filled(word: str, message: str) -> None:
    """An expression that fails is named, in one line, with how braces are written."""
    with pytest.raises(UsageError) as raised:
        filler(NAMES)(word)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_an_expression_cannot_change_the_notebook() -> None:
    """What an expression assigns is its own."""
    names = {"n": 1}
    assert filler(names)("{(n := 2)}") == "2"
    assert names == {"n": 1}


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("{d['a:b']}", "ok"),
        ("{words[0:2]}", "['a', 'b']"),
        ("{n if n != 3 else 0}", "0"),
        ("{(lambda: 5)()}", "5"),
        ("{ {'a': 1}['a'] }", "1"),
        ("{'}'}", "}"),
        ("{words[0:1]!r:>6}", " ['a']"),
        ("{'a' + \"b\"}", "ab"),
        ("{(lambda k: lambda: k)(4)()}", "4"),
        ("{'''}'''}", "}"),
        ("{r'\\}'}", "\\}"),
        ("{ {n: {1: '}'} for n in [1]} }", "{1: {1: '}'}}"),
        ("{'}' + f'{n}}}'}", "}3}"),
        ("{n:'>3}", "''3"),
        ("{n:}", "3"),
    ],
)
def test_colons_and_braces_of_the_expression_are_its_own(word: str, filled: str) -> None:
    """A slice, `!=`, a lambda, a dictionary and a brace in quotes are Python's, as they are in an f-string."""
    assert filler({**NAMES, "d": {"a:b": "ok"}})(word) == filled


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("{a b} ", 1),
        ("{a b:} ", 2),
        ("{a:b c", 0),
        ("{lambda ", 0),
        ("{lambda x:", 0),
        ("{a {b:c} d} ", 3),
        ("}", 0),
        ("{(", 0),
        ("{'a", 0),
    ],
)
def test_a_line_of_many_braces_is_parsed_once(text: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's parser reads each text that braces enclose a few times, however many of them the line has."""
    read: list[str] = []
    parse = ast.parse

    def count(code: str, **options: Any) -> Any:
        read.append(code)
        assert len(read) <= calls * 500
        return parse(code, **options)

    monkeypatch.setattr(ast, "parse", count)
    with contextlib.suppress(UsageError):
        split_for_expansion(text * 500)
    assert sum(map(len, read)) <= calls * 500 * len(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("a  b", ["a", "b"]),
        ("'a b' \"c d\" e\\ f", ["a b", "c d", "e f"]),
        ("-v {data / 'in'}:/in busybox", ["-v", "{data / 'in'}:/in", "busybox"]),
        ('-e A={d["k"]} x', ["-e", 'A={d["k"]}', "x"]),
        ("{ {'a': 1}['a'] }b c", ["{ {'a': 1}['a'] }b", "c"]),
        ("'{a b}' \"{'x y'}\"", ["{a b}", "{'x y'}"]),
        ("awk '{print $1}' {print}", ["awk", "{print $1}", "{print}"]),
        ("{a b} {", ["{a", "b}", "{"]),
        ("find -exec rm {} ;", ["find", "-exec", "rm", "{}", ";"]),
        ("{{a b}}", ["{{a", "b}}"]),
        ("\\{a + 1}", ["{a", "+", "1}"]),
    ],
)
def test_a_line_is_words(line: str, words: list[str]) -> None:
    """Words are the shell's, but that an expression in braces is one piece with its spaces and quotes as they are."""
    assert split(line) == words


def test_a_line_has_no_nul() -> None:
    """The character marks a dollar sign that stays: one in the line would become that."""
    with pytest.raises(UsageError, match="NUL character"):
        split("sh -c 'echo a\0b'")


@pytest.mark.parametrize("line", ["'a", 'b "', "c \\"])
def test_what_is_no_line(line: str) -> None:
    """A quote that never ends is refused, and named."""
    with pytest.raises(UsageError, match="check its quotes"):
        split(line)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("$n", "3"),
        ("${n}", "3"),
        ("$data:/w", "/srv/data:/w"),
        ("${data}x:/w", "/srv/datax:/w"),
        ('"$data/a b":/w', "/srv/data/a b:/w"),
        ("'$n'", "$n"),
        (r"\$n", "$n"),
        (r'"\$n"', "$n"),
        ("A='$n'$n", "A=$n3"),
        ("$FROM_SHELL", "outside"),
        ("$x", "{n}"),
        ("{d['k']}$n", "v3"),
        ("{'$n'}", "$n"),
        ("{{$n}}", "{3}"),
        ("a$", "a$"),
        ("$$", "$$"),
        ("$1", "$1"),
        ("$größe", "17"),
        ("${größe}", "17"),
        ("$ﬁle", "ligature"),
        ("$n目录", "3目录"),
        ("$n目录/$größe", "3目录/17"),
    ],
)
def test_a_variable_is_expanded(line: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$NAME` is the notebook's variable or else the environment's, unless it is quoted as in a shell; values stay."""
    monkeypatch.setenv("FROM_SHELL", "outside")
    monkeypatch.setenv("n", "not this one")
    (found,) = split_for_expansion(line)
    assert filler(NAMES)(expand(found, NAMES)) == word


def test_pwd_is_where_the_notebook_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of directory does not change the environment, and `$PWD` follows it nonetheless."""
    monkeypatch.setenv("PWD", "/elsewhere")
    monkeypatch.chdir(tmp_path)
    assert expand("$PWD:/w", {}) == f"{tmp_path}:/w"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("$nowhere", "variable 'nowhere' is not set in the notebook; write '$nowhere' in single"),
        ("$(id", "cannot expand '$(': only $NAME and ${NAME} are expanded; write {expression}"),
        ("${n:-1}", "cannot expand '${n:-1}': only $NAME"),
        ("${}", "cannot expand '${}': only $NAME"),
        ("$目录", "variable '目录' is not set in the notebook"),
        ("${n目录}", "variable 'n目录' is not set in the notebook"),
    ],
)
def test_what_cannot_be_expanded(word: str, message: str) -> None:
    """A variable that is not set, and what else a shell expands, are errors in one line."""
    with pytest.raises(UsageError) as raised:
        expand(word, NAMES)
    assert str(raised.value).startswith(message)


def test_a_command_keeps_its_dollar_signs() -> None:
    """The arguments of a command for the container are as they were written."""
    assert [plain(word) for word in split_for_expansion(r"echo $n '$n' \$n")] == ["echo", "$n", "$n", "$n"]


@pytest.mark.parametrize(
    ("cell", "lines"),
    [
        ("if true\r\nthen echo a\r\nfi\r\n", "if true\nthen echo a\nfi\n"),
        ("a\r\nb\n", "a\nb\n"),
        ("a\r\n\r\nb", "a\n\nb"),
        ("a\r\n", "a\n"),
        ("printf 'a\r\n'\necho b\n", "printf 'a\r\n'\necho b\n"),
        ("a\rb\n", "a\rb\n"),
        ("a\n", "a\n"),
        ("", ""),
    ],
)
def test_a_cell_of_a_file_of_windows(cell: str, lines: str) -> None:
    """A shell reads the cell as Python reads one: without carriage returns, if all lines end with them."""
    assert unix_lines(cell) == lines
