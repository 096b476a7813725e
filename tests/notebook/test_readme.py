"""The README's blocks are run, in order, in a real IPython."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"

_RUN = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.user_ns["data"] = sys.argv[1]
for block in sys.stdin.read().split("\\0"):
    if not shell.run_cell(block).success:
        sys.exit(f"this block failed: {block}")
"""


def blocks(language: str) -> list[str]:
    """The README's blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_readmes_cells_and_python_do_what_it_says(store_path: Path, tmp_path: Path) -> None:
    """Every block for IPython and Python runs, and the first cell says what the README shows."""
    code = [*blocks("ipython"), *blocks("python")]
    ran = subprocess.run(
        [sys.executable, "-c", _RUN, tmp_path],
        input="\0".join(code),
        capture_output=True,
        text=True,
        env=os.environ | {"NBCONTAINER_HOME": str(store_path)},
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^hello from [0-9a-f]{12}, pid 2$", ran.stdout, re.MULTILINE)
    assert re.fullmatch(r"hello from [0-9a-f]{12}, pid 2\n", blocks("text")[0])
    assert (tmp_path / "on-the-host").read_text() == "kept\n"
    assert (tmp_path / "mine.tar").stat().st_uid == os.geteuid()
    assert "no vi in mine" in ran.stdout
    assert "'bin'" in ran.stdout


def test_the_readmes_commands_are_there() -> None:
    """The two commands that do all the set-up name files of this checkout and a program of this package."""
    commands = " ".join(blocks("sh"))
    assert "nbcontainer demo" in commands
    assert os.access(README.parent / "tests" / "run", os.X_OK)
    assert "tests/run" in commands
