"""Hints in a real notebook: when they come, that they come once, and where they are shown."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.notebook.kernels import Cell, Kernel

_FRESH = """
from nbcontainer.notebook.hints import Hints
magics = get_ipython().magics_manager.registry["ContainerMagics"]
magics.given_hints, magics.hints = Hints(), True
%cd -q {}
"""


@pytest.fixture
def notebook(shared_kernel: Kernel, tmp_path: Path) -> Iterator[Kernel]:
    """A notebook in an empty directory that has had no hint yet."""
    folder = tmp_path / "notebooks"
    folder.mkdir(mode=0o755)
    shared_kernel.run(_FRESH.format(shlex.quote(str(folder)))).good()
    yield shared_kernel
    shared_kernel.run("%cd -q /").good()


def hints(cell: Cell) -> list[str]:
    """The hints of a cell; they are displays, each in text and HTML, and nothing else of the cell has their text."""
    found = [message for message in cell.messages if message["type"] == "display_data"]
    texts = [message["data"]["text/plain"] for message in found]
    assert all(set(message["data"]) == {"text/plain", "text/html"} for message in found)
    assert all(text.startswith("hint: ") and "\n" not in text for text in texts)
    assert not any(text in cell.stdout + cell.stderr for text in texts)
    return [text.removeprefix("hint: ") for text in texts]


def hint(cell: Cell) -> str:
    """The only hint of a cell."""
    (found,) = hints(cell)
    return found


def test_an_ordinary_cell_has_no_hint(notebook: Kernel) -> None:
    """Neither one that works, nor one that fails by itself, nor one whose words are files nowhere."""
    assert hints(notebook.run("%%container busybox\necho $HOME; x=1; echo $x; ls /etc >/dev/null")) == []
    assert hints(notebook.run("%%container busybox\ncat nosuch.txt /nosuch || exit 3")) == []


@pytest.mark.parametrize("image", ["busybox", "host"])
def test_what_a_cell_wrote_is_counted_once(notebook: Kernel, image: str) -> None:
    """Files and links count, directories and deletions do not; a second such cell has no hint."""
    body = f"%%container {image}\nmkdir -p /tmp/a/b; touch /tmp/a/1 /tmp/a/b/2; ln -s / /tmp/a/3; rm /etc/passwd"
    text = "this cell wrote 3 files; the next anonymous cell replaces them: `%commit` or `--name` keeps them"
    assert hint(notebook.run(body)) == text
    assert hints(notebook.run(body)) == []


def test_what_is_kept_has_no_hint(notebook: Kernel) -> None:
    """A named container keeps its files, and `--rm` was written to lose them."""
    assert hints(notebook.run("%%container busybox --name hints-named\ntouch /made")) == []
    assert hints(notebook.run("%%container busybox --rm\ntouch /made")) == []
    notebook.run("%container rm hints-named").good()


@pytest.mark.parametrize("word", ["/tmp/numbers.txt", "numbers.txt", "/tmp/made"])
def test_a_file_of_an_earlier_cell_is_recognized(notebook: Kernel, word: str) -> None:
    """A cell that fails on what an earlier anonymous cell of its image wrote: the hint is `--name`."""
    first = notebook.run("%%container host\nseq 5 > /tmp/numbers.txt; mkdir /tmp/made")
    assert hint(first.good()).startswith("this cell wrote 1 file; the next anonymous cell replaces it")
    assert hints(notebook.run(f"%%container busybox\ncat {word}")) == []
    assert hints(notebook.run("%%container host\ncd /tmp && false")) == []
    failed = notebook.run(f"%%container host\ntail -n 1 {word}")
    assert failed.error is not None
    assert hint(failed).startswith(f"an earlier cell wrote '{word}'")
    assert "--name" in hint(failed)
    assert hints(notebook.run(f"%%container host\ntail -n 1 {word}")) == []


@pytest.mark.parametrize("words", ["cat table.csv", "cat ./table.csv", "ls *.csv", "cd data", "cat '{here}/table.csv'"])
def test_a_file_beside_the_notebook_is_recognized(notebook: Kernel, tmp_path: Path, words: str) -> None:
    """A failed cell that names one: the hint is `--here`. With that option, or a volume, there is none."""
    here = tmp_path / "notebooks"
    (here / "table.csv").write_text("a\n")
    (here / "data").mkdir()
    (here / "false").touch()  # the name of a program too
    words = words.format(here=here)
    assert hints(notebook.run("%%container busybox\nfalse")) == []
    assert hints(notebook.run("%%container busybox --here\ntest -e table.csv\nexit 1")) == []
    assert hints(notebook.run(f"%%container busybox -v .:{here}:ro\nexit 1 # table.csv")) == []
    cell = notebook.run(f"%%container busybox\n{words}")
    assert cell.error is not None
    assert "is beside the notebook" in hint(cell)
    assert "`--here`" in hint(cell)


def test_a_command_beside_the_notebook_is_recognized(notebook: Kernel, tmp_path: Path) -> None:
    """A command that does not start, since its program is beside the notebook."""
    (tmp_path / "notebooks" / "run.sh").touch(mode=0o755)
    cell = notebook.run("%container run busybox ./run.sh")
    assert cell.error is not None
    assert "'./run.sh' is beside the notebook" in hint(cell)


@pytest.mark.parametrize(
    ("words", "options"),
    [("wget -q http://192.0.2.1/", ""), ("nslookup example.org", ""), ("nslookup example.org", "--dns 192.0.2.1")],
)
def test_a_lack_of_network_is_recognized(notebook: Kernel, words: str, options: str) -> None:
    """The counters of its namespace tell; a cell that fails otherwise, or works, has no hint."""
    assert hints(notebook.run("%%container busybox\necho wget: bad address; exit 1")) == []
    assert hints(notebook.run(f"%%container busybox {options}\n{words} 2>/dev/null; true")) == []
    assert "`--network private`" in hint(notebook.run(f"%%container busybox {options}\n{words} 2>/dev/null"))


def test_a_raw_socket_is_recognized(notebook: Kernel) -> None:
    """A failed `ping` of busybox: the hint is the capability for a raw socket, and with that ping has its answer."""
    assert "`--cap-add NET_RAW`" in hint(notebook.run("%%container busybox\nping -c1 -W1 127.0.0.1"))
    ran = notebook.run("%%container busybox --cap-add NET_RAW\nping -c1 -W5 127.0.0.1").good()
    assert "1 packets received" in ran.stdout
    assert hints(ran) == []


def test_the_loopback_is_recognized(notebook: Kernel) -> None:
    """A failed connection to 127.0.0.1: the container's loopback is its own."""
    cell = notebook.run("%%container busybox\nwget -q -O- http://127.0.0.1:8888/")
    assert "`--network host`" in hint(cell)


ENDED = "while [ -d /proc/$! ] && ! grep -q '^State:.Z' /proc/$!/status; do :; done"
"""Waits in a shell until its last process has ended, without reaping it."""


def test_processes_that_were_ended_are_counted(notebook: Kernel) -> None:
    """Those that a cell leaves are ended with it; those that it waits for, or that ended, do not count."""
    assert hints(notebook.run(f"%%container busybox\nsleep 0.01 & wait; true &\n{ENDED}")) == []
    cell = notebook.run("%%container busybox\nsleep 1000 & sleep 1001 >/dev/null 2>&1 &\necho started")
    assert cell.good().stdout == "started\n"
    assert hint(cell).startswith("2 processes were still running when the cell ended, and were ended with it")
    assert hints(notebook.run("%%container busybox\nsleep 1000 &")) == []


def test_a_working_directory_of_this_machine_is_recognized(notebook: Kernel, tmp_path: Path) -> None:
    """`-w` with a directory that only this machine has: the hint is `--here`, or the volume for another directory."""
    here = tmp_path / "notebooks"
    (here / "table.csv").touch()
    cell = notebook.run(f"%%container host -w {here}\npwd; ls").good()
    assert cell.stdout == f"{here}\n"
    assert "`--here` shows it" in hint(cell)
    notebook.run(_FRESH.format("/")).good()
    assert f"`-v {here}:{here}` shows it" in hint(notebook.run(f"%%container busybox -w {here}\nls").good())
    notebook.run(_FRESH.format("/")).good()
    for words in (f"busybox -v {here}:{here} -w {here}", "busybox -w /tmp", "busybox -w /nosuch", "host -w /usr"):
        assert hints(notebook.run(f"%%container {words}\nls").good()) == []


def test_a_variable_of_the_notebook_is_recognized(notebook: Kernel) -> None:
    """A cell that reads a variable which only the notebook's environment has: the hint is `-e`."""
    notebook.run("import os; os.environ['ANSWER'] = '42'").good()
    assert hints(notebook.run("%%container busybox -e ANSWER\necho $ANSWER").good()) == []
    assert hints(notebook.run("%%container busybox\nANSWER=1; echo $ANSWER $HOME $PATH").good()) == []
    assert "`-e ANSWER`" in hint(notebook.run("%%container busybox\necho ${ANSWER}").good())
    assert hints(notebook.run("%%container busybox\necho ${ANSWER}").good()) == []


def test_a_file_of_the_home_directory_is_recognized(notebook: Kernel, tmp_path: Path) -> None:
    """A failed cell that names one by `~/`."""
    (tmp_path / ".netrc").touch()
    notebook.run(f"os = __import__('os'); home = os.environ['HOME']; os.environ['HOME'] = {str(tmp_path)!r}").good()
    try:
        assert "'~/.netrc' is in your home directory" in hint(notebook.run("%%container busybox\ncat ~/.netrc"))
    finally:
        notebook.run("os.environ['HOME'] = home").good()


_TWO = "touch made; sleep 1000 & wget -q http://192.0.2.1/"


def test_hints_are_not_in_variables(notebook: Kernel) -> None:
    """`--out` and `--err` have what the cell wrote; several hints are several displays."""
    cell = notebook.run(f"%%container busybox --out out --err err --no-raise-error\n{_TWO}")
    assert len(hints(cell)) == 3
    assert notebook.value("'hint' in out + err") == "False"


@pytest.mark.parametrize("how", ["--quiet", "trait"])
def test_hints_can_be_turned_off(notebook: Kernel, how: str) -> None:
    """By `--quiet` for one cell, and by the trait for all."""
    if how == "trait":
        notebook.run("%config ContainerMagics.hints = False").good()
    option = how if how == "--quiet" else ""
    assert hints(notebook.run(f"%%container busybox {option}\n{_TWO}")) == []
    notebook.run("%config ContainerMagics.hints = True").good()
    assert len(hints(notebook.run(f"%%container busybox\n{_TWO}"))) == 3


def test_the_output_of_a_container_makes_no_hint(notebook: Kernel, tmp_path: Path) -> None:
    """What a cell prints, however much it reads like a failure, is not searched."""
    (tmp_path / "notebooks" / "table.csv").touch()
    body = "printf 'tab'; echo 'le.csv: No such file or directory' >&2; echo 'Could not resolve host'; exit 1"
    assert hints(notebook.run(f"%%container busybox\n{body}")) == []


def test_an_interrupt_and_a_limit_make_no_hint(notebook: Kernel) -> None:
    """A cell that was stopped did not fail by itself, and its processes were ended on purpose."""
    assert hints(notebook.run("%%container busybox --timeout 0.3\nsleep 1000 & sleep 1000")) == []
