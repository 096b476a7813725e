"""What init does with the descriptors of a process that joins its container."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.launcher.joining import _above_streams


def test_a_join_that_lacks_descriptors_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second of three cannot be copied, the copy of the first and all three are closed."""
    kernel, answers = RecordingKernel(), iter([20])

    def few(*_: object) -> int:
        for answer in answers:
            return answer
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(fcntl, "fcntl", few)
    files = [3, 4, 5]
    with pytest.raises(OSError, match="Too many open files"):
        _above_streams(kernel, files)
    assert files == []
    assert kernel.calls == [call("close", 20), call("close", 5), call("close", 4), call("close", 3)]
