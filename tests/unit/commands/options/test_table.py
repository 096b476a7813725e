"""The option table, and what is made from it: the API's keywords, traits, the reference and the data for completion."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest

from docs import option_reference
from nbcontainer import api
from nbcontainer.commands.grammar import Command, Option, parse
from nbcontainer.commands.options.option_fields import fields_of_keywords
from nbcontainer.commands.options.run_option import strings
from nbcontainer.commands.options.table import RUN_OPTIONS, ContainerKeywords, RunKeywords, options_without
from nbcontainer.commands.run import RUN, request_of, request_of_keywords
from nbcontainer.containers.options import run_options
from nbcontainer.errors import UsageError
from nbcontainer.notebook.cell_magic.grammars import CELL
from nbcontainer.notebook.magics import ContainerMagics
from nbcontainer.runs.signatures import check_options

KEYWORDS = {option.keyword for option in RUN_OPTIONS}


def test_the_keywords_are_the_table() -> None:
    """Each row is a keyword of `nbcontainer.run`, in its types as in its signature, and nothing else is."""
    assert RunKeywords.__annotations__.keys() == KEYWORDS
    assert len(KEYWORDS) == len(RUN_OPTIONS)
    names = inspect.signature(api.run).parameters.keys()
    own = {"image", "command", "script", "input", "inputs", "get", "check", "stdout", "stderr", "engine"}
    assert names == KEYWORDS | own
    assert inspect.signature(api.run_async).parameters.keys() == names
    assert inspect.signature(api.stream).parameters.keys() == names - {"stdout", "stderr"}
    of_new = KEYWORDS - ContainerKeywords.__annotations__.keys()
    assert of_new == {"name", "labels", "remove", "platform", "pull"}
    in_container = names - of_new - {"image", "engine"} | {"self"}
    assert inspect.signature(api.Container.run).parameters.keys() == in_container
    started = in_container - {"get", "check", "stdout", "stderr"} | {"wait_for"}
    assert inspect.signature(api.Container.start).parameters.keys() == started
    assert typing.get_type_hints(api.run)["return"] is api.Result
    assert typing.get_type_hints(RunKeywords)["read_only"] is bool


@pytest.mark.parametrize("function", [api.run, api.run_async, api.stream, api.Container.run, api.Container.start])
def test_help_shows_each_option_with_its_type(function: Any) -> None:
    """The types are shown as they are written in Python."""
    text = str(inspect.signature(function))
    assert "volumes: Iterable[str] | Mapping[str, str] | Mapping[Path, str] = None" in text
    assert "command: Sequence[str] = ()" in text
    assert "ForwardRef" not in text


@pytest.mark.parametrize(
    ("function", "keyword", "advice"),
    [
        (api.run, "nosuch", ""),
        (api.run, "volume", ": did you mean volumes?"),
        (api.run, "comand", ": did you mean command?"),
        (api.stream, "cwd", ": did you mean workdir?"),
        (api.run, "rm", ": did you mean remove?"),
        (api.run, "detach", ": Container.start runs a command in the background"),
        (api.run, "tty", ": a program has a terminal only by `nbcontainer run -it`, in a terminal"),
        (api.stream, "stdout", ": its output is in the events of `stream`, and in `logs` of a container"),
        (api.Container.start, "nosuch", ""),
        (api.Container.start, "check", ": the result that `wait` returns has `check_returncode`"),
        (api.Container.start, "get", ": read the files of the container by its `get`"),
        (api.Container.run, "name", ": the container has one; nbcontainer.run takes another"),
        (api.Container.run, "rm", ": call `remove` when it has ended"),
        (api.Container.run, "platform", ": choose it by create(find_image(image, platform=...))"),
    ],
)
def test_an_unknown_keyword_names_the_likely_one(function: Any, keyword: str, advice: str) -> None:
    """The error names the function that was called, and what does the thing."""
    name = function.__qualname__.replace("RunningContainer", "Container")
    with pytest.raises(TypeError) as raised:
        check_options(function, {"timeout": 1, keyword: 1})
    assert str(raised.value) == f"{name}() got an unexpected keyword argument '{keyword}'{advice}"


def test_the_reference_is_the_table() -> None:
    """docs/reference-options.md is what `python -m docs.option_reference` prints."""
    page = Path(__file__).parents[4] / "docs" / "reference-options.md"
    assert page.read_text() == option_reference.markdown()
    for option in RUN_OPTIONS:
        assert option.help in page.read_text()


def test_the_reference_shows_that_a_value_may_be_missing() -> None:
    """An option that may stand alone has its value in brackets with `=`, in the table of a run and in that of cells."""
    rows = option_reference.markdown().splitlines()
    alone = [option for option in CELL.options if option.alone is not None]
    assert {"here", "cache", "live"} <= {option.name for option in alone}
    for option in alone:
        (row,) = (row for row in rows if f"`{option.flags[-1]}`" in row.split(" | ")[0])
        assert f"[={option.value}]".replace("|", "\\|") in row


def test_defaults_are_traits() -> None:
    """Rows with a setting are traits of the magics, and have its help."""
    settings = {option.keyword: option.setting for option in RUN_OPTIONS if option.setting}
    assert settings.keys() == {"volumes", "network", "timeout", "cache"}
    traits = ContainerMagics.class_traits(config=True)
    assert {name: traits[name].help for name in settings} == settings


HERE = Option(("-H", "--here"), "ro|rw", "show the directory", alone="ro")
OTHER = Command("run", "IMAGE", "Run.", (HERE, Option(("-i",), "", "read")), most=1, tail=True)


@pytest.mark.parametrize(
    ("words", "values", "operands"),
    [
        ("--here busybox", ["ro"], ["busybox"]),
        ("--here=rw busybox", ["rw"], ["busybox"]),
        ("--here= busybox", [""], ["busybox"]),
        ("busybox --here", ["ro"], ["busybox"]),
        ("-H busybox", ["ro"], ["busybox"]),
        ("-H=rw busybox", ["rw"], ["busybox"]),
        ("-Hi busybox", ["ro"], ["busybox"]),
        ("--here --here=rw busybox", ["ro", "rw"], ["busybox"]),
    ],
)
def test_an_optional_value_is_given_with_an_equals_sign_only(
    words: str, values: list[str], operands: list[str]
) -> None:
    """The next word is never its value: `--here busybox` is an image."""
    found = parse(OTHER, words.split())
    assert (found.all("here"), found.operands) == (values, operands)


def test_an_optional_value_is_written_so_in_the_help() -> None:
    """The help and the words that a kernelspec keeps have the `=`."""
    assert str(HERE) == "-H, --here[=ro|rw]"
    assert (HERE.words("ro"), HERE.words("rw")) == (["--here"], ["--here=rw"])


def test_h_is_the_host_name_in_a_run_and_help_elsewhere() -> None:
    """`-h NAME` names the host in `run`; `--help` is help everywhere; other verbs have `-h` as help."""
    assert request_of(parse(RUN, ["-h", "box", "busybox"])).options.hostname == "box"
    assert parse(RUN, ["--help"]).has("help")
    assert "  --help " in RUN.describe("")
    other = Command("install", options=options_without("name", "rm"))
    assert parse(other, ["-h"]).has("help")
    assert parse(other, ["--hostname", "box"]).one("hostname") == "box"
    assert not {"name", "rm"} & {option.name for option in other.options}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"volumes": ["/tmp:/x:ro"]}, ["-v", "/tmp:/x:ro"]),
        ({"volumes": {"/tmp": "/x:ro"}}, ["-v", "/tmp:/x:ro"]),
        ({"volumes": {Path("/tmp"): "/x:ro"}}, ["-v", "/tmp:/x:ro"]),
        ({"volumes": {Path(): "/x"}}, ["-v", "./:/x"]),
        ({"env": {"A": "1"}}, ["-e", "A=1"]),
        ({"env": {"A": "b=c", "NO_SUCH_NAME": None}}, ["-e", "A=b=c", "-e", "NO_SUCH_NAME"]),
        ({"labels": {"a": "1", "b": None}}, ["-l", "a=1", "-l", "b"]),
        ({"env": ("A=1", "B=2")}, ["-e", "A=1", "-e", "B=2"]),
        ({"timeout": 90}, ["--timeout", "90"]),
        ({"timeout": "5m"}, ["--timeout", "5m"]),
        ({"cpus": 1.5, "pids_limit": 100}, ["--cpus", "1.5", "--pids-limit", "100"]),
        ({"pids_limit": -1}, ["--pids-limit", "-1"]),
        ({"oom_score_adj": -5}, ["--oom-score-adj", "-5"]),
        ({"memory": "64m", "memory_swap": "1g"}, ["-m", "64m", "--memory-swap", "1g"]),
        ({"ulimits": {"nofile": 1024}}, ["--ulimit", "nofile=1024"]),
        ({"network": "private", "publish": ["8080:80"]}, ["--network", "private", "-p", "8080:80"]),
        ({"cap_add": ["NET_RAW"], "cap_drop": ["KILL"]}, ["--cap-add", "NET_RAW", "--cap-drop", "KILL"]),
        ({"remove": True, "name": "dev", "read_only": True}, ["--rm", "--name", "dev", "--read-only"]),
        ({"remove": False, "timeout": None, "memory": "", "shm_size": "", "hostname": "", "pull": ""}, []),
    ],
)
def test_python_means_what_the_words_mean(keywords: dict[str, Any], words: list[str]) -> None:
    """A keyword makes the request that its option makes."""
    found = request_of_keywords("busybox", (), None, keywords)
    assert found == request_of(parse(RUN, ["busybox", *words]))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"volumes": "a:b"}, r"volumes must be a list of strings, not one string: write volumes=\['a:b'\]"),
        ({"tmpfs": "/x"}, "tmpfs must be a list of strings, not one string"),
        ({"publish": "80:80"}, "publish must be a list of strings, not one string"),
        ({"env": "A=1"}, "env must be a list of strings, not one string"),
        ({"cap_add": "ALL"}, "cap_add must be a list of strings, not one string"),
        ({"cap_drop": b"ALL"}, "cap_drop must be a list of strings, not one string"),
        ({"cap_add": {"ALL": ""}}, "cap_add must be a list of strings, not dict"),
        ({"ulimits": 7}, "ulimits must be a list of strings, not int"),
        ({"volumes": [7]}, "volumes must be a list of strings, and contains 7"),
        ({"volumes": {3: "/x:ro"}}, "volumes must be a mapping of strings, and has the key 3"),
        ({"volumes": {"/tmp": Path("/x")}}, r"volumes\['/tmp'\] must be a string, not PosixPath"),
        ({"cache_dirs": {Path("pip"): "/x"}}, "cache_dirs must be a mapping of strings, and has the key PosixPath"),
        ({"env": {"A": b"x"}}, r"env\['A'\] must be a string or None, not bytes"),
        ({"env": {"A": 1}}, r"env\['A'\] must be a string or None, not int"),
        ({"env": {b"A": "1"}}, "env must be a mapping of strings, and has the key b'A'"),
        ({"add_host": {"a": None}}, r"add_host\['a'\] must be a string, not NoneType"),
        ({"ulimits": {"nofile": True}}, r"ulimits\['nofile'\] must be a string or a number, not bool"),
        ({"ulimits": {"nofile": 1.5}}, r"ulimits\['nofile'\] must be a string or a number, not float"),
        ({"read_only": "no"}, "read_only must be True or False, not str"),
        ({"remove": 1}, "remove must be True or False, not int"),
        ({"user": 7}, "user must be a string, not int"),
        ({"cpus": True}, "cpus must be a number or a string, not bool"),
        ({"volume": ["a:b"]}, r"run\(\) got an unexpected keyword argument 'volume'"),
    ],
)
def test_a_wrong_type_is_a_type_error(keywords: dict[str, Any], message: str) -> None:
    """What a caller in Python writes wrongly is named before anything is read from it."""
    with pytest.raises(TypeError, match=message):
        fields_of_keywords(keywords)


def test_a_command_is_a_list() -> None:
    """`command="ls"` would be the arguments l and s."""
    with pytest.raises(TypeError, match=r"not one string: write command=\['ls', '-l', 'a b'\]"):
        strings("command", "ls -l 'a b'")
    with pytest.raises(TypeError, match=r"""not one string: write command=\["echo 'x"\]"""):
        strings("command", "echo 'x")
    with pytest.raises(TypeError, match=r"command must be a list of strings, not one string: write command=\['ls'\]"):
        api.run("busybox", "ls")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"timeout": 0}, "invalid time limit '0' for --timeout"),
        ({"timeout": float("inf")}, "invalid time limit 'inf' for --timeout"),
        ({"timeout": 10**30}, r"invalid time limit '1e\+30' for --timeout; write 1000000000 or less"),
        ({"timeout": 10**400}, "the number of --timeout is too large"),
        ({"cpus": 10**400}, "the number of --cpus is too large"),
        ({"oom_score_adj": -(10**9999)}, "the number of --oom-score-adj is too large"),
        ({"cpus": 0.001}, "invalid number of processors '0.001' for --cpus"),
        ({"pids_limit": 1.5}, "invalid number of processes '1.5' for --pids-limit"),
        ({"oom_score_adj": 1.5}, "invalid value '1.5' for --oom-score-adj"),
        ({"env": {"": "1"}}, "invalid environment variable '=1'"),
        ({"env": {"A=B": "1"}}, r"invalid name 'A=B' in env: it contains '='; write env=\{name: value\}"),
        ({"volumes": {"/a:/b": "ro"}}, "invalid name '/a:/b' in volumes: it contains ':'"),
    ],
)
def test_values_are_checked_as_in_words(keywords: dict[str, Any], message: str) -> None:
    """A number and a mapping of a caller's in Python are checked like those in words."""
    with pytest.raises(UsageError, match=message):
        fields_of_keywords(keywords)


def test_a_field_that_there_is_not_is_a_type_error() -> None:
    """Options are made by the names of fields; another name is a mistake of ours."""
    with pytest.raises(TypeError):
        run_options({"volume": ()})
