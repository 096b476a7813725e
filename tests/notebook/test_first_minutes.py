"""What a notebook meets first after `%%bash` became `%%container host`: each runs, or one line has the way out.

The shapes are those of public courses. The numbers name inputs that failed once.
"""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.notebook.test_hints import hint, hints, notebook
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.notebook.kernels import Kernel

__all__ = ["notebook"]

_NAMES = """
import multiprocessing, nbcontainer, nbcontainer.errors, pickle, copy
def work(i):
    return nbcontainer.run('busybox', ['sh', '-c', f'exit {i}']).text
"""

_POOL = """
with multiprocessing.get_context('fork').Pool(2) as pool:
    try:
        pool.map_async(work, range(3)).get(timeout=60)
    except nbcontainer.errors.CellFailed as error:
        print(error)
"""


@pytest.fixture
def _uses_nothing(notebook: Kernel) -> Iterator[None]:
    yield
    notebook.run("%container use --reset").good()


@pytest.mark.usefixtures("_uses_nothing")
def test_b01_beside_the_notebook(notebook: Kernel) -> None:
    """A file that Python wrote: a hint names `--here`, and after one `use` line both sides find each other's files."""
    notebook.run("open('table.csv', 'w').write('a,b\\n1,2\\n');").good()
    assert "'table.csv' is beside the notebook" in hint(notebook.run("%%container host\nwc -l table.csv"))
    assert "this cell wrote 1 file" in hint(notebook.run("%%container host\nseq 3 > sorted.csv"))
    notebook.run("%container use host --here").good()
    assert notebook.run("%%container\nwc -l table.csv").good().stdout == "2 table.csv\n"
    notebook.run("%%container\nseq 3 > sorted.csv").good()
    assert notebook.value("open('sorted.csv').read()") == repr("1\n2\n3\n")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[[ abc == a* ]] && echo yes", "yes\n"),
        ("names=(x y z); echo ${names[1]}", "y\n"),
        ("set -euo pipefail\nsource /etc/os-release; echo ${ID:+known}", "known\n"),
        ("diff <(seq 3) <(seq 4) || echo {1..3}; pushd /usr >/dev/null; pwd", "3a4\n> 4\n1 2 3\n/usr\n"),
        ("paste <(seq 2) <(seq 2)", "1\t1\n2\t2\n"),
    ],
)
def test_b02_bash_words(notebook: Kernel, body: str, said: str) -> None:
    """Words of bash run in `host` as under `%%bash`, without a hint."""
    require("bash", available=shutil.which("bash") is not None)
    ran = notebook.run(f"%%container host\n{body}").good()
    assert (ran.stdout, hints(ran)) == (said, [])


def test_b03_git_identity(notebook: Kernel, tmp_path: Path) -> None:
    """What `git config --global` writes is counted, a commit without an identity has a hint, and `--identity` works."""
    require("git", available=shutil.which("git") is not None)
    home, repo = tmp_path / "home", tmp_path / "repo"
    home.mkdir()
    repo.mkdir(mode=0o755)
    (home / ".gitconfig").write_text("[user]\n\tname = Reader\n\temail = reader@example.org\n")
    cell = f"%%container host -v {shlex.quote(str(repo))}:/repo -w /repo"
    commit = "echo text > a && git add a && git commit -qm first && git log --format='%an %ae %s'"
    old = notebook.value("__import__('os').environ.get('HOME', '/')")
    notebook.run(f"%env HOME={home}").good()
    try:
        ran = notebook.run(f"{cell}\ngit init -q . && git config --global user.name Someone")
        assert "this cell wrote 1 file" in hint(ran)
        assert "`--identity`" in hint(notebook.run(f"{cell}\n{commit}"))
        ran = notebook.run(f"{cell} --identity\n{commit}").good()
        assert (ran.stdout, hints(ran)) == ("Reader reader@example.org first\n", [])
    finally:
        notebook.run(f"%env HOME={old[1:-1]}").good()


def test_b05_what_one_cell_left(notebook: Kernel) -> None:
    """A file of an earlier anonymous cell: a hint names `--name`, and with that the next cell finds it."""
    notebook.run("%%container host\nseq 5 > /tmp/numbers.txt").good()
    assert "an earlier cell wrote" in hint(notebook.run("%%container host\ntail -n 1 /tmp/numbers.txt"))
    for body, said in (("seq 5 > /tmp/numbers.txt", ""), ("tail -n 1 /tmp/numbers.txt", "5\n")):
        assert notebook.run(f"%%container host --name b05\n{body}").good().stdout == said
    notebook.run("%container rm b05").good()


def test_b09_arguments_of_the_script(notebook: Kernel) -> None:
    """`-s` gives a body its arguments, also with a value of the notebook."""
    notebook.run("x = 'one'").good()
    assert notebook.run('%%container host -s {x} two\necho "$1 $2"').good().stdout == "one two\n"


def test_b10_in_the_background(notebook: Kernel) -> None:
    """A process that outlives its cell is ended, and one line says so; with `--bg` it runs. `--proc` has an answer."""
    ran = notebook.run("%%container host --network host\nsleep 1000 >/dev/null 2>&1 &\necho started").good()
    assert ran.stdout == "started\n"
    assert "1 process was still running when the cell ended" in hint(ran)
    error = notebook.run("%%container host --bg --proc p\nsleep 5").error
    assert error is not None
    assert error["evalue"].startswith("%%container: unsupported option '--proc': a job has no process object; name it")
    notebook.run("%%container host --bg --name b10\nsleep 1000").good()
    assert "running" in notebook.value("str(get_ipython().run_line_magic('container', 'ps'))")
    notebook.run("%container rm -f b10").good()


def test_b12_error_in_a_process_pool(notebook: Kernel) -> None:
    """An error of a run comes back from a pool of processes, and can be copied."""
    notebook.run(_NAMES).good()
    assert "exit code" in notebook.run(_POOL).good().stdout
    again = "again = pickle.loads(pickle.dumps(error)); print(str(again) == str(error), again.outcome.exit_code)"
    code = f"try:\n    work(1)\nexcept nbcontainer.errors.CellFailed as error:\n    {again}; copy.deepcopy(error)"
    assert notebook.run(code).good().stdout == "True 1\n"


def test_b13_result_in_a_process_pool(notebook: Kernel) -> None:
    """A result comes back from a pool of processes whole."""
    notebook.run(_NAMES).good()
    code = "result = nbcontainer.run('busybox', ['echo', 'x']); pickle.loads(pickle.dumps(result)).text"
    assert notebook.run(f"{code} == 'x\\n' or 1/0").good().error is None
    code = "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(work, [0, 0]))"
    assert notebook.run(code).good().stdout == "['', '']\n"


def test_b15_workdir_that_is_nowhere(notebook: Kernel) -> None:
    """`-w` with the notebook's own directory: the cell runs in an empty one, and a hint names `--here`."""
    notebook.run("import os; open('table.csv', 'w').write('a\\n');").good()
    ran = notebook.run("%%container host -w {os.getcwd()}\npwd; ls").good()
    assert ran.stdout == f"{notebook.value('os.getcwd()')[1:-1]}\n"
    assert "`--here` shows it" in hint(ran)
    assert notebook.run("%%container host --here\nls").good().stdout == "table.csv\n"
