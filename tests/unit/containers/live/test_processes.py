"""Signals to the processes of a kernel's shell, and to nobody else."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from nbcontainer.containers.live.processes import signal_member


def test_only_a_member_is_sent_a_signal() -> None:
    """A process that has another group is left alone: it has been given the number of one that ended."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        signal_member(process.pid, os.getpgrp(), signal.SIGKILL)
        assert process.poll() is None
        signal_member(process.pid, process.pid, signal.SIGINT)
        assert process.wait() == -signal.SIGINT
    with pytest.raises(ProcessLookupError):
        signal_member(process.pid, process.pid, signal.SIGINT)
