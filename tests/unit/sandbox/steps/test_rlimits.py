"""The limits of a container's processes, and its session keyring."""

from __future__ import annotations

import errno
import resource

import pytest

from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.defaults import DEFAULT_LIMITS, Limit
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.steps.namespaces import NewSessionKeyring
from nbcontainer.sandbox.steps.rlimits import SetLimits


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
        (4096, (1024, 4096)),
        (512, (512, 512)),
    ],
)
def test_no_limit_is_more_than_the_notebooks(most: int, set_to: tuple[int, int]) -> None:
    """A limit is lowered to the hard one that this process has, and never asks for more, which would be refused."""
    kernel = RecordingKernel(getrlimit=lambda _: (0, most))
    SetLimits((Limit("nofile", 1024, 524288),)).apply(kernel, ())
    assert kernel.only("setrlimit") == [call("setrlimit", resource.RLIMIT_NOFILE, set_to)]


def test_unlimited_is_the_most_there_is() -> None:
    """A limit of RLIM_INFINITY is what this process has."""
    kernel = RecordingKernel(getrlimit=lambda _: (0, 4096))
    SetLimits((Limit("nofile", resource.RLIM_INFINITY, resource.RLIM_INFINITY),)).apply(kernel, ())
    assert kernel.only("setrlimit") == [call("setrlimit", resource.RLIMIT_NOFILE, (4096, 4096))]


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
