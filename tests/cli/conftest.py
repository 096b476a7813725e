"""The program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = [sys.executable, "-c", "import sys; from nbcontainer.cli import main; main()"]


class Program:
    """`nbcontainer` on a store of the tests'. `words` are its arguments."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.env = {**os.environ, "NBCONTAINER_HOME": str(store)}

    def __call__(
        self, *words: str, stdin: Any = subprocess.DEVNULL, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end."""
        options.setdefault("env", self.env)
        if isinstance(stdin, str):
            options["input"] = stdin
        else:
            options["stdin"] = stdin
        return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=120, check=False, **options)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts it."""
        return subprocess.Popen([*PROGRAM, *words], env=self.env, **options)

    def good(self, *words: str, **options: Any) -> str:
        """Runs it; what it says, if it ends well and has no complaint."""
        done = self(*words, **options)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def fails(self, code: int, *words: str, **options: Any) -> str:
        """Runs it; its complaint, in one line, if it ends with `code`."""
        done = self(*words, **options)
        assert done.returncode == code, done
        assert done.stderr.startswith("nbcontainer: "), done
        assert done.stderr.endswith("\n"), done
        assert done.stderr.count("\n") == 1, done
        return done.stderr.removeprefix("nbcontainer: ").rstrip("\n")


@pytest.fixture
def program(store_path: Path, _containers_work: str) -> Program:
    """The program, on the run's store."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    return Program(store_path)


@pytest.fixture
def fresh(tmp_path: Path, _containers_work: str) -> Callable[[], Program]:
    """Makes the program on a store of the test's own."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    return lambda: Program(tmp_path / "store")
