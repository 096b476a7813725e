"""The notebook's handle on a container with a compiled init: what it does when init dies."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.helper import operations
from nbcontainer.sandbox.helper.expectations import Expectations
from nbcontainer.sandbox.helper.helper_handle import HelperHandle
from nbcontainer.sandbox.helper.operations import Outcome
from nbcontainer.sandbox.helper.remote_init import RemoteInit

if TYPE_CHECKING:
    from collections.abc import Iterator


class Answering(RemoteInit):
    """An init that has something to do after each report."""

    def answer(self, report: operations.Report) -> bytes:
        return operations.batch(0, b"")


@pytest.fixture
def init() -> Iterator[tuple[HelperHandle, socket.socket]]:
    """A handle, and the other end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with HelperHandle(ours, os.getpid(), os.pidfd_open(os.getpid()), Answering(Expectations())) as handle, theirs:
        yield handle, theirs


def report(theirs: socket.socket) -> None:
    theirs.send(operations._REPORT.pack(1, 0, Outcome(0).result))


def test_an_init_that_dies_before_an_answer_has_ended(init: tuple[HelperHandle, socket.socket]) -> None:
    """That it cannot be answered any more is not an error: the end of its messages follows."""
    handle, theirs = init
    report(theirs)
    theirs.close()
    assert handle.read()
    assert not handle.read()


def test_a_spare_that_dies_before_an_answer_is_lost(init: tuple[HelperHandle, socket.socket]) -> None:
    """A cell that takes it is told so, and gets another one."""
    handle, theirs = init
    report(theirs)
    theirs.close()
    with pytest.raises(ConnectionResetError, match="init has ended"):
        handle.settle(wait=True)


def test_an_init_that_lives_is_answered(init: tuple[HelperHandle, socket.socket]) -> None:
    """The next batch goes out."""
    handle, theirs = init
    report(theirs)
    assert handle.read()
    assert theirs.recv(100) == operations.batch(0, b"")
