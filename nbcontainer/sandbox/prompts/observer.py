"""Reads /proc files that a plain user cannot: those of the containers' other users.

The files belong to ids of the user's range, and only root in the containers' user namespace may read them. So a helper
process enters that namespace (setns(2)) and answers questions.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nbcontainer.linux.namespaces import CLONE_NEWUSER, setns
from nbcontainer.linux.process import library_path
from nbcontainer.sandbox.prompts.waits import Terminal, Wait

if TYPE_CHECKING:
    from nbcontainer.sandbox.launcher.client import Launcher

_PACKAGES = str(Path(__file__).resolve().parents[3])
_BOOT = f"import sys; sys.path += sys.argv[2:]; from {__name__} import main; main(int(sys.argv[1]))"


class Observer:
    """The helper process for the containers of `launcher`, started at the first question. `close` ends it."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._process: subprocess.Popen[bytes] | None = None

    def waiting(self, terminal: Terminal, init: int) -> Wait | None:
        """See `Terminal.waiting`; also None if the helper process does not answer."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([*terminal.identity, init]).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or "null")
        except (OSError, ValueError):
            return None
        return None if answer is None else Wait(*answer)

    def _start(self) -> None:
        namespace = self._launcher.user_namespace()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _BOOT, str(namespace), _PACKAGES],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[namespace],
                start_new_session=True,
                env=library_path(),
            )
        finally:
            os.close(namespace)

    def close(self) -> None:
        """End the helper process. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def main(namespace: int) -> None:
    """Run the helper process: enter the user namespace, and answer until standard input ends."""
    setns(namespace, CLONE_NEWUSER)
    os.close(namespace)
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each line of `questions` with one line."""
    for line in questions:
        device, inode, init = json.loads(line)
        found = None
        with contextlib.suppress(PermissionError):
            found = Terminal(device, inode).waiting(init)
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()
