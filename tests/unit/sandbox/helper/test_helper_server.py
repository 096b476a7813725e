"""Packets from the helper's server and from inits."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.helper import helper_server
from tests.running import open_descriptors


@pytest.mark.parametrize("room", [0, 1])
def test_too_many_descriptors_are_an_error_that_says_so(room: int) -> None:
    """Descriptors that this process may not have are EMFILE, and the server goes on; those that came are closed."""
    ours, theirs = protocol.pair()
    with ours, theirs:
        helper_server.send(theirs, b"answer", [0, 1])
        before, limits = open_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files") as raised:
                helper_server.receive(ours)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert raised.value.errno == errno.EMFILE
        assert open_descriptors() == before
        helper_server.send(theirs, b"answer", [0, 1])
        packet, files = helper_server.receive(ours)
        protocol.close(files)
        assert (packet, len(files)) == (b"answer", 2)
