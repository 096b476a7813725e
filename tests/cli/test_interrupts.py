"""Interrupts of the program before it has begun, and when it is at its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.requirements import require

PROJECT = Path(__file__).parents[2]

AT_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            {act}
sys.meta_path.insert(0, Finder())
"""

AT_END = """
import atexit, os, signal, threading
{register}(os.kill, os.getpid(), signal.SIGINT)
"""

RAISED, SIGNALLED = "raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGINT)"

PROGRAMS = {
    "module": ("-m", "nbcontainer"),
    "script": ("-c", "import sys; from nbcontainer.__main__ import main; sys.exit(main())"),
}
"""`python -m nbcontainer`, and what pip writes as the console script."""


def ended(program: str, place: Path, customize: str, *words: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    """Runs the program after a `sitecustomize`; its exit code, and what it wrote as errors."""
    (place / "sitecustomize.py").write_text(customize)
    done = subprocess.run(
        [*prefix, sys.executable, *PROGRAMS[program], *(words or ("--version",))],
        env={**os.environ, "PYTHONPATH": f"{place}:{PROJECT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("act", [RAISED, SIGNALLED])
@pytest.mark.parametrize("module", ["nbcontainer.cli", "nbcontainer.errors", "typing", "json"])
def test_an_interrupt_while_modules_are_imported(tmp_path: Path, program: str, act: str, module: str) -> None:
    """It ends the program with 130 and without a traceback, whichever module is imported at that moment."""
    customize = AT_IMPORT.format(module=module, act=act)
    assert ended(program, tmp_path, customize) == (130, "")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("register", ["atexit.register", "threading._register_atexit"])
def test_an_interrupt_while_python_ends(tmp_path: Path, program: str, register: str) -> None:
    """It is 130 without a traceback, too: after the program's own end, and before the last threads have ended."""
    assert ended(program, tmp_path, AT_END.format(register=register)) == (130, "")


def test_another_error_is_shown(tmp_path: Path) -> None:
    """What is not an interrupt has its traceback: it is a fault."""
    customize = AT_IMPORT.format(module="nbcontainer.cli", act="raise RuntimeError('a fault')")
    code, errors = ended("module", tmp_path, customize)
    assert (code, errors.splitlines()[-1]) == (1, "RuntimeError: a fault")


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    """A shell starts programs in the background so: they continue."""
    customize = AT_IMPORT.format(module="nbcontainer.cli", act=SIGNALLED)
    ignore = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    assert ended("module", tmp_path, customize, prefix=ignore) == (0, "")


def test_the_console_script_is_this_program() -> None:
    """pip makes it of the entry point."""
    require("sources", available=(PROJECT / "pyproject.toml").exists(), why="the project's sources are not around")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"nbcontainer": "nbcontainer.__main__:main"}
