"""How the C library is called, and how its failures become OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

import pytest

from nbcontainer.linux import libc
from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.recording import RecordingKernel, call


def test_a_failure_names_the_call_and_the_path() -> None:
    """The text says which call failed, `filename` about what, and the class is the errno's."""
    ctypes.set_errno(errno.ENOENT)
    with pytest.raises(FileNotFoundError) as raised:
        libc.check(-1, "mount", "/nowhere")
    assert raised.value.errno == errno.ENOENT
    assert str(raised.value.strerror) == f"mount: {os.strerror(errno.ENOENT)}"
    assert raised.value.filename == "/nowhere"


def test_a_result_is_passed_on() -> None:
    """What is not -1 is a result."""
    assert [libc.check(number, "x") for number in (0, 7, -2)] == [0, 7, -2]


def test_a_system_call_by_number_fails_with_its_errno() -> None:
    """A call that the kernel refuses raises with the kernel's reason."""
    with pytest.raises(OSError, match="close_range") as raised:
        libc.syscall("close_range", libc.unsigned(5), libc.unsigned(3), libc.unsigned(0))
    assert raised.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", ["openat2", "no_such_call"])
def test_a_call_whose_number_nobody_wrote_down_is_enosys(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An architecture, or a call, whose number is not known says so, as a kernel without the call would."""
    if name == "openat2":
        monkeypatch.setattr(libc, "NUMBERS", {})
    with pytest.raises(OSError, match=f"{name}: no system call number known for {platform.machine()}") as raised:
        libc.number(name)
    assert raised.value.errno == errno.ENOSYS


@pytest.mark.parametrize(("text", "raw"), [(None, None), ("/a", b"/a"), ("é", "é".encode()), ("\udce9", b"\xe9")])
def test_strings_as_the_kernel_takes_them(text: str | None, raw: bytes | None) -> None:
    """Paths go as the bytes that Python made them of; None is a null pointer."""
    assert libc.encode(text) == raw


def test_the_double_has_every_call_of_the_kernel() -> None:
    """Each public name of Kernel is recorded by its double, and answered without touching this process."""
    names = [name for name in dir(Kernel) if not name.startswith("_")]
    kernel = RecordingKernel()
    for name in names:
        assert getattr(kernel, name) is not getattr(Kernel, name)
    kernel.chdir("/nowhere")
    kernel.setresuid(1, 2, 3)
    assert kernel.calls == [call("chdir", "/nowhere"), call("setresuid", 1, 2, 3)]


def test_the_double_fails_where_it_is_told() -> None:
    """By number, by name and by a predicate: each failure comes once, with the path it is about."""
    kernel = RecordingKernel().fail(errno.EPERM, 1)
    kernel.fail(errno.ENOSPC, "mkdir").fail(errno.EIO, lambda made: made.args == ("/x",))
    kernel.chdir("/a")
    with pytest.raises(PermissionError):
        kernel.chdir("/b")
    with pytest.raises(OSError, match="No space") as raised:
        kernel.mkdir("/c")
    assert raised.value.filename == "/c"
    with pytest.raises(OSError, match="Input/output"):
        kernel.chdir("/x")
    kernel.mkdir("/c")
    kernel.chdir("/x")
    assert len(kernel.calls) == 6
