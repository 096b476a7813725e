"""What a warm cell does in the notebook, beside IPython: no import, no file, few calls, and few hops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.helper.program import SWITCH
from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # the same for every user

CALLS = {"compiled": 465, "interpreted": 440}
"""The most calls from and of this package's functions for one warm cell: 444 and 432 on Python 3.11.

For a compiled init, the system calls of the cell's last steps are put together here. They are ready before the cell: if
they are not, these are 60 calls more.
"""

# An audit hook cannot be removed (sys.addaudithook), so the cells run in a process of their own. A cell that lasts is
# written down for other processes: on a busy machine, any cell may last, so that is turned off.
NOTEBOOK = r"""
import json, os, sys, threading
import nbcontainer
from IPython.core.interactiveshell import InteractiveShell
from nbcontainer.sandbox import supervisor
from tests.hops import watch
supervisor.BRIEF = 1000
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbcontainer")
engine = shell.magics_manager.registry["ContainerMagics"].engine
package = os.path.dirname(nbcontainer.__file__) + "/"
events, calls, main, running = [], 0, threading.get_ident(), False

def note(name, arguments):
    if running and threading.get_ident() == main and name in ("open", "import", "os.listdir", "os.scandir", "exec"):
        events.append([name, str(arguments[0])])

def count(frame, event, _):
    global calls
    calls += event in ("call", "c_call") and frame.f_code.co_filename.startswith(package)

sys.addaudithook(note)
cells = []
for _ in range(6):
    events, calls, running = [], 0, True
    sys.setprofile(count)
    shell.run_cell_magic("container", "busybox", "true\n")
    sys.setprofile(None)
    running = False
    cells.append([calls, events])
    engine.background.wait()
    engine.launcher.spares.collect_all()
    for _, spare in engine.launcher.spares.ready:
        spare.failed_ahead()  # it has done what it could before its cell
    engine.launcher.collect()
limit = " -m 64m" if os.geteuid() == 0 else ""  # a plain user may have no control groups
named = f"busybox --name named -v /usr:/usr:ro{limit} -e NAME=value"
hops = [watch(lambda: shell.run_cell_magic("container", line, "true\n")).hops for line in ("busybox", named)]
print(json.dumps([cells[2:], hops, engine.launcher.helper]))
engine.close()
"""

Cells = list[tuple[int, list[list[str]]]]


HOPS = 30
"""The most hops of a request through a cell, see `tests.hops`: 22 for one that names an image, 23 with options."""


@pytest.fixture(scope="module", params=["compiled", "interpreted"])
def init(request: pytest.FixtureRequest) -> str:
    """Which init the cells have."""
    return str(request.param)


@pytest.fixture(scope="module")
def notebook(init: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cells, list[list[list[str]]]]:
    """Of some warm cells: how many calls, and what they opened, listed and imported; and the hops of two cells."""
    home: Path = tmp_path_factory.mktemp("warm")
    place = {**os.environ, "NBCONTAINER_HOME": str(home / "store"), "IPYTHONDIR": str(home), "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    place[SWITCH] = "1" if init == "compiled" else "0"
    ran = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], env=place, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    cells, hops, helper = json.loads(ran.stdout.splitlines()[-1])
    if init == "compiled":
        require("the compiled init", available=helper, why="it is not built")
    return [(calls, events) for calls, events in cells], hops


@pytest.fixture(scope="module")
def cells(notebook: tuple[Cells, object]) -> Cells:
    """Of some warm cells: how many calls, and what they opened, listed and imported."""
    return notebook[0]


def test_a_warm_cell_imports_and_opens_nothing(cells: Cells) -> None:
    """It looks whether its write layer is empty, and does nothing else to files: what it needs was opened before.

    The marks of a root that others had say so without a look.
    """
    for _, events in cells:
        assert [name for name, _ in events] in (["os.scandir"], [])
        assert all(path.endswith("/diff") for _, path in events)


def test_a_warm_cell_makes_few_calls(init: str, cells: Cells) -> None:
    """A warm cell stays quick: what is added to its path shows here before it shows in milliseconds."""
    assert min(calls for calls, _ in cells) <= CALLS[init]


def test_a_request_takes_few_hops(init: str, notebook: tuple[Cells, list[list[list[str]]]]) -> None:
    """From the magic to the sandbox and to what is kept, few modules hand the request on, with options as without."""
    handle = "/sandbox/helper/helper_handle.py" if init == "compiled" else "/sandbox/handle.py"
    for hops in notebook[1]:
        takers = {taker for _, taker, _ in hops}
        assert {"/containers/run.py", "/containers/cells/cell.py", handle} <= takers
        assert len(hops) <= HOPS, hops
