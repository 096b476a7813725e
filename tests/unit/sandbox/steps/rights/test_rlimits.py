"""The limits of a container's processes, and its session keyring."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.process import PR_SET_DUMPABLE
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.defaults import DEFAULT_LIMITS, Limit
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.steps.namespaces import NewSessionKeyring
from nbcontainer.sandbox.steps.rights.rlimits import AdjustOomScore, SetLimits

if TYPE_CHECKING:
    from pathlib import Path


def test_the_defaults_leave_no_core_and_no_priority() -> None:
    """A cell's process dumps no core, takes no priority, may open what programs expect, and be one of 4096."""
    limits = {name: (soft, hard) for name, soft, hard in DEFAULT_LIMITS}
    usual = {"core": (1, 1), "nice": (0, 0), "rtprio": (0, 0), "nofile": (1024, 524288), "nproc": (4096, 4096)}
    assert limits == usual


@pytest.mark.parametrize("apart", [True, False])
def test_processes_are_limited_where_those_of_containers_are_counted_apart(apart: bool) -> None:
    """Where the kernel counts all of a user's processes together, a limit would be met by those outside."""
    kernel = RecordingKernel(counts_by_namespace=lambda: apart, getrlimit=lambda _: (0, resource.RLIM_INFINITY))
    SetLimits().apply(kernel, ())
    assert (call("setrlimit", resource.RLIMIT_NPROC, (4096, 4096)) in kernel.calls) == apart


@pytest.mark.parametrize(
    ("most", "set_to"),
    [
        (resource.RLIM_INFINITY, (1024, 524288)),
        (1 << 20, (1024, 524288)),
        (4096, (1024, 2048)),
        (512, (256, 256)),
    ],
)
def test_open_files_are_half_as_many_as_the_launchers(most: int, set_to: tuple[int, int]) -> None:
    """A container cannot have as many descriptors on their way as would have the launcher's refused (unix(7))."""
    kernel = RecordingKernel(getrlimit=lambda _: (0, most))
    SetLimits((Limit("nofile", 1024, 524288),)).apply(kernel, ())
    assert kernel.only("setrlimit") == [call("setrlimit", resource.RLIMIT_NOFILE, set_to)]


@pytest.mark.parametrize(("most", "set_to"), [(4096, (1024, 4096)), (512, (512, 512))])
def test_no_limit_is_more_than_the_notebooks(most: int, set_to: tuple[int, int]) -> None:
    """A limit is lowered to the hard one that this process has, and never asks for more, which would be refused."""
    kernel = RecordingKernel(getrlimit=lambda _: (0, most))
    SetLimits((Limit("memlock", 1024, 524288),)).apply(kernel, ())
    assert kernel.only("setrlimit") == [call("setrlimit", resource.RLIMIT_MEMLOCK, set_to)]


def test_unlimited_is_the_most_there_is() -> None:
    """A limit of RLIM_INFINITY is what this process has."""
    kernel = RecordingKernel(getrlimit=lambda _: (0, 4096))
    SetLimits((Limit("memlock", resource.RLIM_INFINITY, resource.RLIM_INFINITY),)).apply(kernel, ())
    assert kernel.only("setrlimit") == [call("setrlimit", resource.RLIMIT_MEMLOCK, (4096, 4096))]


@pytest.mark.parametrize("name", [name for name, _, _ in DEFAULT_LIMITS])
def test_every_limit_is_one_of_the_kernels(name: str) -> None:
    """Each name is that of a limit in setrlimit(2)."""
    assert isinstance(getattr(resource, f"RLIMIT_{name.upper()}"), int)


def test_the_session_keyring_is_left() -> None:
    """One call makes a new session keyring."""
    kernel = RecordingKernel()
    NewSessionKeyring().apply(kernel, ())
    assert kernel.names() == ["join_session_keyring"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_no_keyrings_are_none_to_leave(code: int) -> None:
    """A kernel without keys, and an outer container that denies them, are no reason not to start."""
    NewSessionKeyring().apply(RecordingKernel().fail(code, "join_session_keyring"), ())


def test_too_many_keys_are_said_clearly() -> None:
    """The quota of keys is named, with the setting that raises it."""
    with pytest.raises(OSError, match="quota") as raised:
        NewSessionKeyring().apply(RecordingKernel().fail(errno.EDQUOT, "join_session_keyring"), ())
    failed = {"step": "NewSessionKeyring", "errno": errno.EDQUOT, "error": raised.value.strerror, "path": ""}
    assert "kernel.keys.maxkeys" in setup_failed(failed).hint


OPEN_SCORE = call("open", "/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
DUMPABLE, NOT_DUMPABLE = (call("prctl", PR_SET_DUMPABLE, value) for value in (1, 0))


def test_the_oom_score_is_written() -> None:
    """Init is dumpable while it opens its file, and not any longer."""
    kernel = RecordingKernel()
    AdjustOomScore(-7).apply(kernel, ())
    assert kernel.calls[:3] == [DUMPABLE, OPEN_SCORE, NOT_DUMPABLE]
    assert [args[1] for _, args in kernel.only("write")] == [b"-7"]
    assert not kernel.left_open


@pytest.mark.parametrize("refused", ["open", "write"])
def test_a_refused_oom_score_leaves_nothing(refused: str) -> None:
    """If the kernel refuses the value, init is not dumpable and the file is closed."""
    kernel = RecordingKernel().fail(errno.EACCES, refused)
    with pytest.raises(PermissionError):
        AdjustOomScore(-7).apply(kernel, ())
    assert kernel.only("prctl") == [DUMPABLE, NOT_DUMPABLE]
    assert not kernel.left_open


def test_the_least_oom_score_is_said(tmp_path: Path) -> None:
    """The error names the notebook's value, below which no container comes without a privilege."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "oom_score_adj").write_text("200\n", encoding="utf-8")
    failed = {"step": "AdjustOomScore", "errno": errno.EACCES, "error": "Permission denied", "path": ""}
    assert str(setup_failed(failed, Machine(proc=tmp_path))) == (
        "cannot set the OOM score adjustment: Permission denied; "
        "write 200 (the notebook's value) or more: less requires --userns=host and the capability SYS_RESOURCE"
    )
