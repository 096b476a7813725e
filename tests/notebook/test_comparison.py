"""Each row of the table in docs/comparison.md: what `%%container` does, and what `%%bash` does in its place.

The name of a test is the first column of its row.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter

from tests.documents import PROJECT
from tests.requirements import require
from tests.running import DEADLINE, all_dead, appear, marker, pidfds, processes_with

if TYPE_CHECKING:
    from tests.notebook.conftest import Notebook
    from tests.notebook.kernels import Kernel

PAGE = PROJECT / "docs" / "comparison.md"


def row_names() -> list[str]:
    """The first columns of the table, as names of tests."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return ["test_" + re.sub(r"\W+", "_", line.split("|")[1].strip().lower().replace("'s", "s")) for line in lines[1:]]


def test_each_row_is_a_test() -> None:
    """Each row of the table has its test here, and each test its row."""
    require("sources", available=PAGE.exists(), why="the project's pages are not around")
    tests = [name for name in globals() if name.startswith("test_") and name != "test_each_row_is_a_test"]
    assert sorted(row_names()) == sorted(tests)


def completed(notebook: Notebook, line: str) -> list[str]:
    """What IPython proposes at the end of a line."""
    assert notebook.shell.Completer is not None
    with provisionalcompleter():
        return [one.text for one in notebook.shell.Completer.completions(line, len(line))]


@pytest.fixture
def bash(notebook: Notebook) -> Notebook:
    """A notebook whose machine has bash."""
    require("bash")
    return notebook


def test_each_cell_chooses_its_system(bash: Notebook) -> None:
    """The image's programs run, beside the host's with `%%bash`."""
    assert "BusyBox" in bash.good("%%container busybox\nls --help 2>&1 | head -1; readlink /bin/sh")
    assert "BusyBox" not in bash.run("%%bash\nls --help").stdout


def test_the_host_does_not_change(bash: Notebook, tmp_path: Path) -> None:
    """A file that a cell writes is not on the host, even where the image is the host."""
    bash.good(f"%%container host\nmkdir -p {tmp_path}; echo x > {tmp_path}/by-container")
    bash.good(f"%%bash\necho x > {tmp_path}/by-bash")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("by-")] == ["by-bash"]


def test_a_cell_has_no_network(bash: Notebook) -> None:
    """A cell sees the loopback interface alone."""
    interfaces = "ls /sys/class/net"
    assert bash.good(f"%%container busybox\n{interfaces}").split() == ["lo"]
    assert set(bash.good(f"%%bash\n{interfaces}").split()) == {path.name for path in Path("/sys/class/net").iterdir()}


def test_no_process_outlives_a_cell(bash: Notebook) -> None:
    """What a cell leaves in the background has ended with it."""
    seconds = marker()
    bash.good(f"%%container busybox\nsleep {seconds} >/dev/null 2>&1 & echo")
    assert processes_with(seconds) == []
    bash.good(f"%%bash\nsleep {seconds} >/dev/null 2>&1 &")
    (process,) = appear(seconds, 1)
    watched = pidfds([process])
    os.kill(process, 9)
    assert all_dead(watched)


def test_limits_of_time_and_memory(bash: Notebook) -> None:
    """A cell ends at its limit of time or memory; `%%bash` has no such options."""
    assert "stopped after its time limit" in bash.fails("%%container busybox --timeout 0.2\nsleep 1000")
    assert bash.run("%%bash -m 32m\ntrue").error is not None
    if os.geteuid() == 0:  # a plain user needs control groups of their own
        assert "out of memory" in bash.fails("%%container busybox -m 32m\ntail /dev/zero")
    assert bash.run("%%bash --timeout 0.2\ntrue").error is not None


def test_values_into_a_cell(bash: Notebook) -> None:
    """A dictionary is a JSON file in the cell; `%%bash` takes words."""
    bash["data"] = {"city": "La Paz", "rain": [1, 2]}
    assert bash.good("%%container busybox --in data\ncat /in/data.json") == '{"city": "La Paz", "rain": [1, 2]}'
    assert bash.good("%%bash -s {data['city']}\necho $1 $2") == "La Paz\n"


def test_values_out_of_a_cell(bash: Notebook) -> None:
    """A JSON file of the cell is a dictionary; `%%bash` gives text."""
    bash.good("%%container busybox --get answer\necho '{\"n\": 42}' > /out/answer.json")
    assert bash["answer"] == {"n": 42}
    bash.good("%%bash --out answer\necho 42")
    assert bash["answer"] == "42\n"


def test_a_program_asks_for_input(shared_kernel: Kernel) -> None:
    """What a program reads is asked for in the notebook, and hidden for a secret; `%%bash` has no input."""
    client = shared_kernel.client
    client.allow_stdin = True
    cell = shared_kernel.send("%%container busybox -i\nread x; read -s y; echo $x $y")
    for answer, hidden in (("Ada", False), ("secret", True)):
        assert client.get_stdin_msg(timeout=DEADLINE)["content"]["password"] is hidden
        client.input(answer)
    assert cell.end().good().stdout == "Ada secret\n"
    require("bash")
    assert shared_kernel.run("%%bash\nread x; echo [$x]").good().stdout == "[]\n"


def test_pictures_and_tables(shared_kernel: Kernel, tmp_path: Path) -> None:
    """A PNG file of the cell is shown as a picture, a CSV file as a table."""
    require("pillow", available=importlib.util.find_spec("PIL") is not None)
    from PIL import Image

    Image.new("RGB", (4, 2), "teal").save(tmp_path / "p.png")
    script = "cp /work/p.png /out; printf 'a,b\\n1,2\\n' > /out/t.csv"
    cell = shared_kernel.run(f"%%container busybox --show -v {tmp_path}:/work:ro\n{script}").good()
    shown = [message["data"] for message in cell.messages if message["type"] == "display_data"]
    assert any("<table" in data.get("text/html", "") for data in shown)
    assert any("image/png" in data for data in shown)


def test_shown_html_is_inert(shared_kernel: Kernel) -> None:
    """HTML of the cell is shown without its script."""
    cell = shared_kernel.run("%%container busybox --show\necho '<b>x</b><script>1</script>' > /out/t.html").good()
    pages = [message["data"].get("text/html", "") for message in cell.messages if message["type"] == "display_data"]
    assert any("<b>x</b>" in page for page in pages)
    assert not any("script" in page for page in pages)


def test_state_from_cell_to_cell(bash: Notebook) -> None:
    """Variables and files of a live container are there in the next cell."""
    bash.good("%%container busybox --name kept --live\nx=42; echo file > /file")
    assert bash.good("%%container --name kept --live\necho $x; cat /file") == "42\nfile\n"
    bash.good("%container stop kept")
    bash.good("%%bash\nx=42")
    assert bash.good("%%bash\necho $x") == "\n"


def test_undo_the_last_cell(notebook: Notebook) -> None:
    """The next cell sees what the undone one saw."""
    notebook.good("%%container busybox --name undone\necho 1 > /file")
    notebook.good("%%container --name undone\nrm /file")
    notebook.run("%container undo undone")
    assert notebook.good("%%container --name undone\ncat /file") == "1\n"


def test_list_what_cells_changed(notebook: Notebook) -> None:
    """A file that a cell removed is listed."""
    notebook.good("%%container busybox\nrm /bin/vi")
    assert ("D", "/bin/vi") in notebook.run("%container diff").value.rows


def test_an_image_of_what_cells_left(notebook: Notebook) -> None:
    """A cell runs in the image of what another one left."""
    notebook.good("%%container busybox\necho mine > /file")
    notebook.good("%commit compared")
    assert notebook.good("%%container compared\ncat /file") == "mine\n"
    notebook.good("%container rmi compared")


def test_a_failure_is_one_line_with_the_scripts_line(bash: Notebook) -> None:
    """The error has the line of the script, where `%%bash` shows a traceback of Python."""
    failed = bash.run("%%container busybox\ntrue\nno-such-program")
    assert "CellFailed: exit code 127 at line 2: no-such-program" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    failed = bash.run("%%bash\ntrue\nno-such-program")
    assert "Traceback" in failed.stdout + failed.stderr


def test_the_magic_line_completes(bash: Notebook) -> None:
    """Options, images and paths of the host are offered; options of `%%bash` are not."""
    assert "--memory" in completed(bash, "%%container --mem")
    assert "busybox" in completed(bash, "%%container bus")
    assert "/etc/" in completed(bash, "%%container busybox -v /et")
    assert "--out" not in completed(bash, "%%bash --ou")


def test_no_daemon_and_no_root(notebook: Notebook) -> None:
    """Root of a cell is another user on the host, in a user namespace."""
    assert notebook.good("%%container busybox\nid -u").strip() == "0"
    user_namespace = notebook.good("%%container busybox\nreadlink /proc/self/ns/user").strip()
    assert user_namespace != str(Path("/proc/self/ns/user").readlink())
    assert notebook.good("%%container busybox\nawk '/^0|^ *0/ {print $2}' /proc/self/uid_map").strip() != "0"
