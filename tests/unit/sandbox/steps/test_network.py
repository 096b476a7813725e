"""The system calls of the step that gives a private network its IPv6 address."""

from __future__ import annotations

import errno

import pytest

from nbcontainer.linux.recording import FIRST_DESCRIPTOR, RecordingKernel, call
from nbcontainer.sandbox.steps.network import AddAddress

STEP = AddAddress("eth0", "fd00::100", "fd00::2")


def test_an_interface_has_the_address_that_it_is_given() -> None:
    """And takes no others from a router's advertisements."""
    kernel = RecordingKernel()
    STEP.apply(kernel, ())
    assert kernel.calls[0] == call("add_ipv6", "eth0", "fd00::100", "fd00::2")
    assert kernel.only("open")[0].args[0] == "/proc/sys/net/ipv6/conf/eth0/accept_ra"
    assert kernel.only("write") == [call("write", FIRST_DESCRIPTOR, b"0")]
    assert kernel.left_open == set()


@pytest.mark.parametrize("name", ["open", "write"])
def test_a_setting_that_nobody_may_write_is_no_hindrance(name: str) -> None:
    """As in an outer container: the interface has another address some seconds later."""
    kernel = RecordingKernel().fail(errno.EROFS, name)
    STEP.apply(kernel, ())
    assert kernel.left_open == set()


def test_an_address_that_cannot_be_had_is_said() -> None:
    """A cell that is promised IPv6 does not begin without."""
    with pytest.raises(PermissionError):
        STEP.apply(RecordingKernel().fail(errno.EACCES, "add_ipv6"), ())
