"""The grammar of commands: where options, operands and the container's own words are told apart."""

from __future__ import annotations

import pytest

from nbcontainer.commands.grammar import Command, Option, Words, parse
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC
from nbcontainer.errors import UsageError

RUN = Command(
    "run",
    "IMAGE [COMMAND [ARG...]]",
    "Runs.",
    (
        Option(("-i", "--interactive"), "", "reads"),
        Option(("-t", "--tty"), "", "has a terminal"),
        Option(("-e", "--env"), "NAME=VALUE", "sets"),
        Option(("--name",), "NAME", "names"),
    ),
    most=1,
    tail=True,
)
MOVE = Command("move", "FROM TO", "Moves.", (Option(("-f", "--force"), "", "forces"),), least=2, most=2)
BARE = Command("ps", "", "Lists.")


@pytest.mark.parametrize(
    ("line", "options", "operands", "tail"),
    [
        ("", {}, [], []),
        ("busybox", {}, ["busybox"], []),
        ("--name dev busybox", {"name": ["dev"]}, ["busybox"], []),
        ("busybox --name dev", {"name": ["dev"]}, ["busybox"], []),
        ("-i busybox -t ls", {"interactive": [""], "tty": [""]}, ["busybox"], ["ls"]),
        ("busybox ls -i --name x", {}, ["busybox"], ["ls", "-i", "--name", "x"]),
        ("busybox ls -- -i", {}, ["busybox"], ["ls", "--", "-i"]),
        ("-it busybox", {"interactive": [""], "tty": [""]}, ["busybox"], []),
        ("-ti busybox", {"interactive": [""], "tty": [""]}, ["busybox"], []),
        ("-eA=1 busybox", {"env": ["A=1"]}, ["busybox"], []),
        ("-e A=1 busybox", {"env": ["A=1"]}, ["busybox"], []),
        ("-e=A=1 busybox", {"env": ["A=1"]}, ["busybox"], []),
        ("-iteA=1 busybox", {"interactive": [""], "tty": [""], "env": ["A=1"]}, ["busybox"], []),
        ("-ie A=1 busybox", {"interactive": [""], "env": ["A=1"]}, ["busybox"], []),
        ("--env=A=1 --env B=2 -e C busybox", {"env": ["A=1", "B=2", "C"]}, ["busybox"], []),
        ("--name= busybox", {"name": [""]}, ["busybox"], []),
        ("--name -- busybox", {"name": ["--"]}, ["busybox"], []),
        ("--name -i busybox", {"name": ["-i"]}, ["busybox"], []),
        ("-- busybox -i", {}, ["busybox"], ["-i"]),
        ("busybox -- -i", {}, ["busybox"], ["-i"]),
        ("-- -busybox", {}, ["-busybox"], []),
        ("- ls", {}, ["-"], ["ls"]),
    ],
)
def test_words_go_where_they_belong(
    line: str, options: dict[str, list[str]], operands: list[str], tail: list[str]
) -> None:
    """Options stand before, between and after IMAGE; from the first word after it that is none, all is COMMAND's."""
    assert parse(RUN, line.split()) == Words(options, operands, tail)


@pytest.mark.parametrize(
    ("line", "on", "off"),
    [
        ("--tty=false busybox", [], {"tty"}),
        ("--tty --tty=false busybox", [], {"tty"}),
        ("--tty=false --tty busybox", ["tty"], set()),
        ("--tty busybox --tty=0", [], {"tty"}),
        ("-it=false busybox", ["interactive"], {"tty"}),
        ("-ti=F busybox", ["tty"], {"interactive"}),
        ("-it=true busybox", ["interactive", "tty"], set()),
    ],
)
def test_the_last_value_of_a_flag_counts(line: str, on: list[str], off: set[str]) -> None:
    """As with Docker, a flag with `=false` turns off what was before it, also as the last letter of several."""
    assert parse(RUN, line.split()) == Words({name: [""] for name in on}, ["busybox"], [], off)


@pytest.mark.parametrize("line", ["image -sS URL", "image --version", "image -e"])
def test_an_option_of_the_images_program_has_its_place(line: str) -> None:
    """As for an image with an entrypoint: after the image, an option that is wrong may be meant for that."""
    with pytest.raises(UsageError, match=r"; an option of the image's own program comes after `--`$"):
        parse(RUN, line.split())
    with pytest.raises(UsageError) as raised:
        parse(RUN, ["--version", "image"])
    assert "own program" not in str(raised.value)
    with pytest.raises(UsageError) as raised:  # of a container, no entrypoint runs
        parse(PROGRAM_EXEC, ["box", "--no-such-option"])
    assert "own program" not in str(raised.value)


def test_an_empty_word_is_a_word() -> None:
    """`''` in quotes reaches an operand and a command as it is, for a person has written it."""
    assert parse(RUN, ["busybox", "echo", "", "a  b"]).tail == ["echo", "", "a  b"]
    assert parse(RUN, [""]).operands == [""]


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        (RUN, "--nam dev", "run: unknown option '--nam'; did you mean --name"),
        (RUN, "--quite busybox", "run: unknown option '--quite'; the options are"),
        (RUN, "-x busybox", "run: unknown option '-x'; "),
        (RUN, "-ix busybox", "run: unknown option '-x'; "),
        (
            RUN,
            "--xyzzy=3",
            "run: unknown option '--xyzzy'; the options are -i --interactive -t --tty -e --env --name -h --help",
        ),
        (BARE, "--all", "ps: unknown option '--all'; the options are -h --help"),
        (RUN, "--name", "missing value for --name; write `--name NAME`"),
        (RUN, "busybox -e", "missing value for --env; write `-e, --env NAME=VALUE`"),
        (RUN, "-ie", "missing value for --env"),
        (RUN, "--tty=yes", "--tty takes no value; write `--tty`"),
        (RUN, "-it=yes", "-t takes no value; write `-t`"),
        (MOVE, "a", "move: missing argument; write `move [OPTIONS] FROM TO`"),
        (MOVE, "a b c", "move: unexpected argument 'c'; write `move [OPTIONS] FROM TO`"),
        (MOVE, "-- a b -f", "move: unexpected argument '-f'"),
        (BARE, "a", "ps: unexpected argument 'a'; write `ps`"),
    ],
)
def test_wrong_words_are_named(command: Command, line: str, message: str) -> None:
    """What is unknown, missing or too much is named in one line with what to write instead."""
    with pytest.raises(UsageError) as raised:
        parse(command, line.split())
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_options_and_operands_are_filled_and_the_tail_is_not() -> None:
    """The notebook's variables reach options and IMAGE; braces in COMMAND are the container's."""
    words = parse(RUN, ["-e", "A={x}", "--name={x}", "{x}", "awk", "{print}"], fill=lambda word: word.replace("x", "1"))
    assert words == Words({"env": ["A={1}"], "name": ["{1}"]}, ["{1}"], ["awk", "{print}"])


def test_a_value_that_cannot_be_filled_is_the_options_own() -> None:
    """It is an option of this command, also after the image: nothing is said of the image's own program."""

    def fill(word: str) -> str:
        if word == "image":
            return word
        raise UsageError(f"cannot evaluate {word}", hint="fix it")

    with pytest.raises(UsageError) as raised:
        parse(RUN, ["image", "--name", "{x}"], fill=fill)
    assert str(raised.value) == "cannot evaluate {x}; fix it"


def test_words_answer_for_what_was_not_said() -> None:
    """An option that was not given has no values, the default, and is not there."""
    words = Words({"env": ["a", "b"]})
    assert (words.has("env"), words.one("env"), words.all("env")) == (True, "b", ["a", "b"])
    assert (words.has("name"), words.one("name"), words.one("name", "x"), words.all("name")) == (False, "", "x", [])


def test_help_lists_the_usage_and_every_option() -> None:
    """A command describes itself: the line to write, what it does, and its options with their values."""
    assert RUN.describe("nbcontainer ").splitlines() == [
        "usage: nbcontainer run [OPTIONS] IMAGE [COMMAND [ARG...]]",
        "",
        "Runs.",
        "",
        "  -i, --interactive     reads",
        "  -t, --tty             has a terminal",
        "  -e, --env NAME=VALUE  sets",
        "  --name NAME           names",
        "  -h, --help            show this text",
    ]
    assert BARE.describe("").splitlines() == ["usage: ps", "", "Lists.", "", "  -h, --help  show this text"]


@pytest.mark.parametrize("line", ["--help", "-h", "a --help", "a b c -h", "-fh"])
def test_help_is_asked_for_anywhere(line: str) -> None:
    """Who asks for help gets it, whatever else is too much or too little; a command's own words ask the container."""
    assert parse(MOVE, line.split()).has("help")
    assert not parse(RUN, ["busybox", "ls", "--help"]).has("help")


REST = Command(
    "%%cell",
    options=(Option(("-s",), "ARG...", rest=True), Option(("--here",), "ro|rw", alone="rw")),
    most=1,
    tail=True,
)


@pytest.mark.parametrize(
    ("line", "arguments", "operands"),
    [
        ("busybox -s one two", ["one", "two"], ["busybox"]),
        ("-s busybox --here -s", ["busybox", "--here", "-s"], []),
        ("--here busybox -s -- -x", ["--", "-x"], ["busybox"]),
        ("busybox -s", [], ["busybox"]),
    ],
)
def test_an_option_takes_the_rest(line: str, arguments: list[str], operands: list[str]) -> None:
    """All that follows it is its value: options, separators, and itself."""
    found = parse(REST, line.split())
    assert (found.all("s"), found.operands, found.tail) == (arguments, operands, [])


def test_a_command_may_have_its_own_option_of_that_name() -> None:
    """After the image and a command, `-s` belongs to the command."""
    assert parse(REST, "busybox bash -s a".split()).tail == ["bash", "-s", "a"]


def test_the_rest_goes_through_interpolation() -> None:
    """Its values are interpolated as those of other options."""
    assert parse(REST, ["-s", "a"], fill=str.upper).all("s") == ["A"]
