"""Completion of command lines: what may stand at the cursor, by the grammar alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.completion import complete, host_paths
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import ValueKind
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.commands.run import RUN

if TYPE_CHECKING:
    from pathlib import Path


class Names:
    """A store and a notebook with a few names."""

    def images(self) -> list[str]:
        return ["busybox", "debian:12", "host"]

    def containers(self) -> list[str]:
        return ["dev", "work"]

    def volumes(self) -> list[str]:
        return ["data"]

    def variables(self) -> list[str]:
        return ["frame", "name"]

    def environment(self) -> list[str]:
        return ["HOME", "LANG"]

    def host_paths(self, beginning: str) -> list[str]:
        return [path for path in ("./a/", "/home/", "/host") if path.startswith(beginning)]

    def container_paths(self, image: str, container: str, beginning: str) -> list[str]:
        return [f"/{image or container}/", "/etc/"]


@pytest.mark.parametrize(
    ("verb", "text", "fragment", "texts"),
    [
        ("run", "", "", ("busybox", "debian:12", "host")),
        ("run", "de", "de", ("debian:12",)),
        ("run", "--name d", "d", ("dev",)),
        ("run", "--name=d", "d", ("dev",)),
        ("run", "--network ", "", ("host", "none", "private")),
        ("run", "--network=p", "p", ("private",)),
        ("run", "--netw", "--netw", ("--network",)),
        ("run", "busybox --rea", "--rea", ("--read-only",)),
        ("run", "busybox ls --rea", "--rea", ()),
        ("run", "busybox ls --name d", "d", ()),
        ("run", "--read-only --rea", "--rea", ("--read-only",)),
        ("run", "-v ", "", ("./a/", "/home/", "/host", "data:")),
        ("run", "-v /ho", "/ho", ("/home/", "/host")),
        ("run", "busybox -v /x:", "", ("/busybox/", "/etc/")),
        ("run", "-v /x:/", "/", ("//", "/etc/")),
        ("run", "--name dev -v /x:/d", "/d", ("/dev/",)),
        ("run", "-e L", "L", ("LANG",)),
        ("run", "-e A=1 b", "b", ("busybox",)),
        ("run", "-w /e", "/e", ("/etc/",)),
        ("run", "busybox /b", "/b", ("/busybox/",)),
        ("run", "busybox ls /e", "/e", ("/etc/",)),
        ("run", "busybox --name d", "d", ("dev",)),
        ("run", "{fr", "fr", ("frame",)),
        ("run", "-v {na", "na", ("name",)),
        ("run", "-v {", "", ("frame", "name")),
        ("run", "-e X={{na", "na", ()),
        ("run", "'busy", "'busy", ()),
        ("rm", "", "", ("dev", "work")),
        ("rm", "dev w", "w", ("work",)),
        ("rmi", "b", "b", ("busybox",)),
        ("diff", "", "", ("dev", "work")),
        ("diff", "dev@1 w", "w", ("work",)),
        ("restore", "d", "d", ("dev",)),
        ("restore", "dev@1 /d", "/d", ("/dev/",)),
        ("history", "d", "d", ("debian:12", "dev")),
        ("commit", "", "", ("busybox", "debian:12", "dev", "host", "work")),
        ("load", "/ho", "/ho", ("/home/", "/host")),
        ("ps", "", "", ()),
        ("volume", "r", "r", ("rm",)),
        ("volume", "rm d", "d", ("data",)),
        ("volume", "create d", "d", ()),
    ],
)
def test_what_may_stand_at_the_cursor(verb: str, text: str, fragment: str, texts: tuple[str, ...]) -> None:
    """Options, their values and operands; what belongs to the container is its paths."""
    command = RUN if verb == "run" else VERBS[verb].command
    found = complete(command, text, Names())
    if texts or found.texts:
        assert (found.fragment, found.texts) == (fragment, texts)


def test_every_option_and_every_choice_is_proposed() -> None:
    """Whatever the table has, with each of its spellings."""
    flags = complete(RUN, "-", Names()).texts
    for option in RUN_OPTIONS:
        assert set(option.flags) <= set(flags)
        if option.choices and option.alone is None:
            assert complete(RUN, f"{option.flags[-1]} ", Names()).texts == tuple(sorted(option.choices))
        if option.choices and option.alone is not None:
            assert complete(RUN, f"{option.flags[-1]}=", Names()).texts == tuple(sorted(option.choices))
            assert {f"{option.flags[-1]}={choice}" for choice in option.choices} <= set(flags)
        assert bool(option.choices) == (option.kind == ValueKind.CHOICE)


@pytest.mark.parametrize(
    "text", ["'", '"', "\\", "-", "--", "=", "--=", "{", "}", "{{", "-v :", "-v ::", "--name", "\0", "é"]
)
def test_no_line_is_an_error(text: str) -> None:
    """A line is completed while it is typed."""
    for verb in VERBS.values():
        assert complete(verb.command, text, Names()) is not None
    assert complete(RUN, text, Names()) is not None


def test_host_paths_are_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the working directory, with a home directory's ~; hidden ones when they are asked for."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sorted(host_paths("")) == ["file", "sub/"]
    assert host_paths("./s") == ["./sub/"]
    assert sorted(host_paths("~/")) == ["~/file", "~/sub/"]
    assert host_paths(".h") == [".hidden"]
    assert host_paths("no/such/") == host_paths("\0/") == host_paths("\ud800/") == []
    assert host_paths(f"{tmp_path}/f") == [f"{tmp_path}/file"]
    assert host_paths("/no/such/") == host_paths("~no-such-user/") == []
