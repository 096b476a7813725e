"""What becomes a program: its words and its environment."""

from __future__ import annotations

import collections
import dataclasses
import signal

import pytest

from nbcontainer.containers.options import ProcessOptions, RunOptions, command_line, environment, stop_signal
from nbcontainer.errors import UsageError
from nbcontainer.oci.documents import ImageConfig
from nbcontainer.sandbox.spec import DEFAULT_PATH
from nbcontainer.sandbox.steps.devices import SCRIPT

PLAIN = ("HOSTNAME", f"PATH={DEFAULT_PATH}", "TERM=dumb")


@pytest.mark.parametrize(
    ("image", "run", "expected"),
    [
        ((), (), PLAIN),
        (("A=1",), (), ("A=1", *PLAIN)),
        (("A=1", "B=2"), ("A=x=y",), ("A=x=y", "B=2", *PLAIN)),
        (("PATH=/opt/bin",), (), ("HOSTNAME", "PATH=/opt/bin", "TERM=dumb")),
        ((), ("PATH=/bin", "TERM=vt100", "HOSTNAME=me"), ("HOSTNAME=me", "PATH=/bin", "TERM=vt100")),
        (("A=1",), ("A=",), ("A=", *PLAIN)),
        (("A",), ("B",), PLAIN),
    ],
)
def test_the_environment_is_the_images_and_the_runs(
    image: tuple[str, ...], run: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """PATH, HOSTNAME and TERM are always there, the image's variables come over them and the run's over both."""
    found = environment(ImageConfig(env=image), ProcessOptions(env=run))
    assert tuple(sorted(found)) == expected


def test_a_terminal_has_colours() -> None:
    """TERM says what the terminal can do, and without one that there is none."""
    assert "TERM=xterm-256color" in environment(ImageConfig(), ProcessOptions(terminal=True))
    assert "TERM=dumb" in environment(ImageConfig(), ProcessOptions())


def test_nothing_of_the_notebooks_environment_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that the notebook has in its environment stays there."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    assert not [item for item in environment(ImageConfig(), ProcessOptions()) if "SECRET" in item]


@pytest.mark.parametrize("item", ["=1", "", "A=\0"])
def test_what_is_no_variable_is_refused(item: str) -> None:
    """A variable has a name, and no NUL, which would end it early."""
    with pytest.raises(UsageError, match=r"invalid environment variable .*; write NAME=value"):
        environment(ImageConfig(), ProcessOptions(env=(item,)))


@pytest.mark.parametrize(
    ("config", "command", "script", "expected"),
    [
        (ImageConfig(cmd=("sh",)), (), None, ("sh",)),
        (ImageConfig(cmd=("sh",)), ("ls", "-l"), None, ("ls", "-l")),
        (ImageConfig(entrypoint=("tini", "--"), cmd=("sh",)), (), None, ("tini", "--", "sh")),
        (ImageConfig(entrypoint=("tini", "--"), cmd=("sh",)), ("ls",), None, ("tini", "--", "ls")),
        (ImageConfig(entrypoint=("app",)), (), None, ("app",)),
        (ImageConfig(), (), "echo", ("/bin/sh", SCRIPT)),
        (ImageConfig(), (), "", ("/bin/sh", SCRIPT)),
        (ImageConfig(entrypoint=("app",), cmd=("x",)), (), "echo", ("/bin/sh", SCRIPT)),
        (ImageConfig(shell=("/bin/bash", "-c")), (), "echo", ("/bin/bash", SCRIPT)),
        (ImageConfig(shell=("/bin/bash", "-eu", "-c")), (), "echo", ("/bin/bash", "-eu", SCRIPT)),
        (ImageConfig(shell=("-c",)), (), "echo", ("/bin/sh", SCRIPT)),
        (ImageConfig(shell=("/bin/bash", "-c")), (), "#!/usr/bin/awk -f\n", (SCRIPT,)),
        (ImageConfig(), (), " #!no\n", ("/bin/sh", SCRIPT)),
    ],
)
def test_what_runs(
    config: ImageConfig, command: tuple[str, ...], script: str | None, expected: tuple[str, ...]
) -> None:
    """A body runs by its `#!`, the image's shell or /bin/sh; a command by the image's entrypoint, as Docker has it."""
    assert command_line(config, command, script=script) == expected


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((), "the image has no default command; write a command after the image"),
        (("echo", "a\0b"), "an argument contains a NUL character; remove it"),
    ],
)
def test_what_cannot_run(command: tuple[str, ...], message: str) -> None:
    """No program at all, and a word that no program can be given, are refused."""
    with pytest.raises(UsageError) as raised:
        command_line(ImageConfig(), command, script=None)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("word", "number"),
    [
        *(("SIGINT", signal.SIGINT), ("quit", signal.SIGQUIT), ("10", signal.SIGUSR1), ("SIGKILL", signal.SIGKILL)),
        *(("", signal.SIGTERM), ("SIGRTMIN+3", signal.SIGTERM), ("NOSUCH", signal.SIGTERM), ("99", signal.SIGTERM)),
    ],
)
def test_the_signal_that_stops_is_the_images(word: str, number: int) -> None:
    """By name or number, in any case; what init does not hand on is SIGTERM."""
    assert stop_signal(ImageConfig(other={"StopSignal": word})) == number


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, (), ("tini", "--", "sh")),
        (None, ("ls",), ("tini", "--", "ls")),
        ("cat", (), ("cat",)),
        ("cat", ("/etc/passwd",), ("cat", "/etc/passwd")),
        ("", ("ls", "-l"), ("ls", "-l")),
    ],
)
def test_an_entrypoint_replaces_the_images_and_drops_its_command(
    entrypoint: str | None, command: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """As with Docker: the image's command belongs to the image's entrypoint. An empty one is none."""
    config = ImageConfig(entrypoint=("tini", "--"), cmd=("sh",))
    assert command_line(config, command, script=None, entrypoint=entrypoint) == expected


def test_an_entrypoint_runs_a_command() -> None:
    """An empty entrypoint without a command leaves nothing to run, and a cell's body has its own interpreter."""
    config = ImageConfig(entrypoint=("tini",), cmd=("sh",))
    with pytest.raises(UsageError, match="the image has no default command"):
        command_line(config, (), script=None, entrypoint="")
    with pytest.raises(UsageError, match="--entrypoint requires a command; write the command after the image"):
        command_line(config, (), script="ls", entrypoint="cat")


def test_no_two_values_of_the_options_have_a_field_of_one_name() -> None:
    """`run_options` finds the value by the name of the field: a second one would get what is meant for the first."""
    values = (type(field.default) for field in dataclasses.fields(RunOptions))
    names = [field.name for value in values if dataclasses.is_dataclass(value) for field in dataclasses.fields(value)]
    names += [field.name for field in dataclasses.fields(RunOptions)]
    assert [name for name, count in collections.Counter(names).items() if count > 1] == []
