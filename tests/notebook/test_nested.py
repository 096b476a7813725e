"""`%%container` in a notebook that is itself in a container of this project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.sandbox.diagnosis import NESTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.running import Ran

SCRIPT = """
import sys
sys.path.insert(0, "/project")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbcontainer")
try:
    shell.run_cell_magic("container", sys.argv[1], "true")
except Exception as error:
    print(error.hint)
print(shell.run_line_magic("container", "doctor"))
"""


@pytest.mark.parametrize("image", ["busybox", "an-image-that-must-be-pulled"])
def test_containers_do_not_nest_and_the_message_says_so(cell: Callable[..., Ran], image: str) -> None:
    """No option of Docker's is advised, by the cell or by doctor: none of them would help."""
    volumes = (parse_volume(f"{Path(__file__).parents[2]}:/project:ro"),)
    ran = cell(None, image="host", command=(sys.executable, "-c", SCRIPT, image), volumes=volumes)
    assert ran.lines[0] == NESTED, ran.stderr.decode()
    assert NESTED in "\n".join(ran.lines[1:])
    assert "--security-opt" not in ran.text
