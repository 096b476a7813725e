"""The system calls of the steps of the cell's own process."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.linux.files import read_text
from nbcontainer.linux.recording import FIRST_DESCRIPTOR, RecordingKernel, call
from nbcontainer.sandbox.step_failure import FailedStep
from nbcontainer.sandbox.steps.devices import SCRIPT
from nbcontainer.sandbox.steps.program import ConnectStreams, Execute, ImportModule, OpenTerminal, WriteScript

if TYPE_CHECKING:
    from pathlib import Path


PID = 2

SPAWNED = (("file_actions", ()), ("setsid", True), ("setsigmask", ()), ("setsigdef", (signal.SIGPIPE, signal.SIGXFSZ)))


def machine(*programs: str, codes: dict[str, int] | None = None) -> RecordingKernel:
    """A kernel that can spawn `programs`, answers `codes` for others, and ENOENT for the rest."""

    def posix_spawn(path: str, argv: tuple[str, ...], env: dict[str, str], **how: Any) -> int:
        if path in programs:
            return PID
        code = (codes or {}).get(path, errno.ENOENT)
        raise OSError(code, os.strerror(code), path)

    return RecordingKernel(posix_spawn=posix_spawn, read_text=read_text)


def test_the_body_is_copied_to_its_file() -> None:
    """The body goes from its descriptor to /dev/cell, which nothing of the image's can be, and is closed to writing."""
    kernel = RecordingKernel(content=(1 << 30) + 5)
    WriteScript(3).apply(kernel, (10, 11, 12, 13))
    target = FIRST_DESCRIPTOR
    assert kernel.calls == [
        call("open", "/dev/cell", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC),
        *[call("sendfile", target, 13, None, 1 << 30)] * 3,
        call("close", target),
        call("chmod", "/dev/cell", 0o555),
    ]


def test_the_streams_are_the_first_three_descriptors() -> None:
    """Input, output and error become 0, 1 and 2, in any order they came in."""
    kernel = RecordingKernel()
    ConnectStreams().apply(kernel, (20, 21, 22, 23))
    assert kernel.calls == [call("dup2", 20, 0), call("dup2", 21, 1), call("dup2", 22, 2), call("fstat", 0)]


def test_an_input_of_nothing_is_the_containers_own() -> None:
    """The host's null device as input is exchanged for the container's, which is read-only as a file."""
    kernel = RecordingKernel(devices={"descriptor 0": (1, 3)})
    ConnectStreams().apply(kernel, (20, 21, 22))
    opened = FIRST_DESCRIPTOR
    assert kernel.calls[4:] == [
        call("open", "/dev/null", os.O_RDONLY | os.O_CLOEXEC),
        call("dup2", opened, 0),
        call("close", opened),
    ]


def test_a_terminal_is_the_containers_own() -> None:
    """The terminal is opened on the staged devpts, not as anybody's controlling one."""
    kernel = RecordingKernel()
    OpenTerminal().apply(kernel, ())
    assert kernel.calls == [call("open", "stage/root/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)]


def test_a_module_is_loaded() -> None:
    """The work's module is loaded by its name; one that is not there raises ImportError."""
    ImportModule("nbcontainer.sandbox.steps.program").apply(RecordingKernel(), ())
    assert "nbcontainer.sandbox.steps.program" in sys.modules
    with pytest.raises(ImportError):
        ImportModule("nbcontainer.no_such_module").apply(RecordingKernel(), ())


def test_a_program_with_a_slash_is_executed_as_it_is() -> None:
    """The working directory is entered first; argv and environment are the step's."""
    kernel = machine("/bin/sh")
    step = Execute(("/bin/sh", SCRIPT), ("A=1", "B=x=y", "HOME=/h", "EMPTY="), "/srv")
    assert step.start(kernel) == PID
    env = {"A": "1", "B": "x=y", "HOME": "/h", "EMPTY": ""}
    assert kernel.calls == [
        call("chdir", "/srv"),
        ("posix_spawn", ("/bin/sh", ("/bin/sh", SCRIPT), env, *SPAWNED)),
    ]


def test_a_terminal_is_opened_once_more_by_its_descriptor() -> None:
    """In the program's session, so that it becomes the controlling one; by no path that an image could have planted."""
    kernel = machine("/bin/sh")
    Execute(("/bin/sh",), ("HOME=/",), terminal=True).apply(kernel, ())
    actions = dict(kernel.only("posix_spawn")[0].args[3:])["file_actions"]
    assert actions[0] == (os.POSIX_SPAWN_OPEN, 0, "/proc/self/fd/1", os.O_RDWR, 0)
    assert actions[1:] == ((os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2))


def test_an_input_terminal_leaves_the_other_streams() -> None:
    """Standard input alone is opened once more, by a descriptor that is closed again."""
    kernel = machine("/bin/sh")
    Execute(("/bin/sh",), ("HOME=/",), terminal_input=True).apply(kernel, ())
    assert dict(kernel.only("posix_spawn")[0].args[3:])["file_actions"] == (
        (os.POSIX_SPAWN_DUP2, 0, 3),
        (os.POSIX_SPAWN_OPEN, 0, "/proc/self/fd/3", os.O_RDWR, 0),
        (os.POSIX_SPAWN_CLOSE, 3),
    )


def test_a_name_is_looked_for_along_path() -> None:
    """The cell's PATH is gone along in its order, past what is missing and past what is no directory."""
    kernel = machine("/c/prog", "/d/prog", codes={"/b/prog": errno.ENOTDIR})
    assert Execute(("prog", "arg"), ("PATH=/a:/b:/c:/d", "HOME=/")).start(kernel) == PID
    assert [made.args[0] for made in kernel.only("posix_spawn")] == ["/a/prog", "/b/prog", "/c/prog"]


def test_the_search_along_path_starts_no_process_in_vain() -> None:
    """The program is to be process 2: what is missing or cannot be executed is found out without a process."""
    kernel = machine("/c/prog")
    kernel.missing.add("/a/prog")
    kernel.nodes["/b/prog"] = stat.S_IFREG | 0o644
    assert Execute(("prog",), ("PATH=/a:/b:/c", "HOME=/")).start(kernel) == PID
    assert [made.args[0] for made in kernel.only("posix_spawn")] == ["/c/prog"]


def test_an_empty_folder_of_path_is_the_working_directory() -> None:
    """As in execvp(3): an empty entry of PATH means here."""
    kernel = machine("./prog")
    assert Execute(("prog",), ("PATH=/a:", "HOME=/")).start(kernel) == PID


def test_a_program_that_is_nowhere_is_named() -> None:
    """ENOENT with the name that was looked for, not with the last place."""
    with pytest.raises(FileNotFoundError) as raised:
        Execute(("prog",), ("PATH=/a:/b", "HOME=/")).apply(machine(), ())
    assert raised.value.filename == "prog"


def test_one_that_may_not_be_executed_is_said_when_no_other_can() -> None:
    """As in execvp(3): EACCES is kept for the end, and a later program that runs wins."""
    with pytest.raises(PermissionError) as raised:
        Execute(("prog",), ("PATH=/a:/b", "HOME=/")).apply(machine(codes={"/a/prog": errno.EACCES}), ())
    assert raised.value.filename == "/a/prog"
    other = machine("/b/prog", codes={"/a/prog": errno.EACCES})
    assert Execute(("prog",), ("PATH=/a:/b", "HOME=/")).start(other) == PID


@pytest.mark.parametrize("code", [errno.ENOEXEC, errno.E2BIG, errno.ENOMEM, errno.ELOOP])
def test_any_other_error_ends_the_search(code: int) -> None:
    """What is wrong with a program that was found is said of that program."""
    kernel = machine("/b/prog", codes={"/a/prog": code})
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        Execute(("prog",), ("PATH=/a:/b", "HOME=/")).apply(kernel, ())
    assert (raised.value.errno, raised.value.filename) == (code, "/a/prog")
    assert len(kernel.only("posix_spawn")) == 1


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("#!/usr/bin/python9 -u\nprint()\n", "/usr/bin/python9"),
        ("#! /opt/sh\n", "/opt/sh"),
        ("#!/bin/sh\r\necho\r\n", "'/bin/sh\\r'"),
        ("#!", ""),
        ("\x7fELF…", "the loader of {path}"),
    ],
)
def test_a_program_that_is_there_and_not_found_lacks_something(tmp_path: Path, text: str, missing: str) -> None:
    """ENOENT for a file that exists is about its interpreter, or its loader: that is what is named."""
    path = tmp_path / "prog"
    path.write_text(text)
    with pytest.raises(FileNotFoundError) as raised:
        Execute((str(path),), ("HOME=/",)).apply(machine(), ())
    assert raised.value.filename == (missing.format(path=path) or str(path))


@pytest.mark.parametrize(
    ("uid", "env", "home"),
    [(0, (), "/root"), (1000, (), "/home/alice"), (4242, (), "/"), (1000, ("HOME=/mine",), "/mine")],
)
def test_home_is_the_users(uid: int, env: tuple[str, ...], home: str) -> None:
    """HOME is what the environment says, else what the image's /etc/passwd says of the user that the cell is."""
    passwd = "alice:x:1000:1000::/home/alice:/bin/sh\n"
    kernel = RecordingKernel(getuid=lambda: uid, read_text=lambda path: passwd)
    Execute(("/x",), env).apply(kernel, ())
    assert kernel.only("posix_spawn")[0].args[2]["HOME"] == home


def test_a_working_directory_that_cannot_be_entered_is_an_error() -> None:
    """Nothing is executed where the program was not asked to start, and the failure is about that directory."""
    kernel = machine("/x").fail(errno.EACCES, "chdir")
    with pytest.raises(FailedStep) as raised:
        Execute(("/x",), (), "/closed").apply(kernel, ())
    assert (raised.value.failure["step"], raised.value.failure["about"]) == ("Execute", "MakeWorkdir")
    assert not kernel.only("posix_spawn")
