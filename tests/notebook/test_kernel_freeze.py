"""What was installed by hand in a notebook becomes an image and a kernel, here and, as one file, elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from jupyter_client.manager import KernelManager

from nbcontainer import api, cli
from nbcontainer.containers import engine as engines
from nbcontainer.containers.active import running_containers
from nbcontainer.errors import UsageError
from nbcontainer.linux.procfs import STANDING, descendants, state
from nbcontainer.notebook.kernel.specs import kernelspec
from tests.notebook.kernels import Cell
from tests.notebook.provisioned import python_volumes
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

    Run = Callable[[str], str]

PYTHON = (*python_volumes(), "-e", f"PATH={sys.prefix}/bin:/usr/bin:/bin", "-e", "IPYTHONDIR=/tmp/ipython")


@pytest.fixture(autouse=True)
def kernels(short_path: Path, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with a store and with no kernels of their own, and where those are."""
    monkeypatch.setenv("NBCONTAINER_HOME", str(engine.store.path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(short_path))
    engines.set_default_engine(engine)
    yield tmp_path / "jupyter/kernels"
    engines.set_default_engine(None)


def do(*words: str, code: int = 0) -> None:
    """Does `nbcontainer kernel WORDS`."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["kernel", *words])
    assert ended.value.code == code


@contextmanager
def notebook(name: str, folder: Path, *, kill: bool = True) -> Iterator[Run]:
    """An open notebook of an installed kernel: what its cells print. At the end it is killed, or asked to shut down."""
    place = str(folder / f"{name}.json")
    manager = KernelManager(kernel_name=name, transport="ipc", connection_file=place, shutdown_wait_time=DEADLINE)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    try:
        yield lambda code: str(Cell(client, client.execute(code)).end().good().stdout)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=kill)


def test_a_shells_notebook_is_frozen_while_it_runs(short_path: Path, tmp_path: Path, kernels: Path) -> None:
    """Another process makes the image of it; the notebook goes on, and the new kernel has what it had then."""
    do("install", "--image", "busybox", "--name", "by-hand", "--hostname", "box")
    with notebook("by-hand", short_path) as run:
        run("variable=kept; echo program > /opt/installed; rm /etc/shells")
        do("freeze", "by-hand", "frozen:1", "-o", str(tmp_path / "frozen.tar"))
        assert run("echo $variable; echo later > /opt/later") == "kept\n"
    spec = json.loads((kernels / "nbcontainer-frozen-1/kernel.json").read_text())
    assert "frozen:1 --hostname box" in spec["argv"][-1]
    with notebook("nbcontainer-frozen-1", short_path) as run:
        assert run("cat /opt/installed; ls /opt; ls /etc/shells 2>/dev/null; hostname") == "program\ninstalled\nbox\n"


def test_a_notebook_goes_on_when_its_freeze_is_killed(short_path: Path, engine: Engine) -> None:
    """The process that freezes it is killed while the notebook stands still: the next cell runs."""
    do("install", "--image", "busybox", "--name", "to-kill")
    with notebook("to-kill", short_path) as run:
        run("mkdir /m; cd /m; seq 3000 | xargs touch")
        (facts,) = running_containers(engine.store).values()
        program = [sys.executable, "-c", "import sys; from nbcontainer.cli import main; main()"]
        killed = False
        while not killed:  # one that ends before it was seen to hold the notebook still is started again
            with subprocess.Popen([*program, "kernel", "freeze", "to-kill", "killed"]) as freezer:
                while not killed and freezer.poll() is None:
                    killed = {state(pid) for pid in descendants(facts.pid)} <= STANDING
                freezer.kill()
        assert run("echo goes on") == "goes on\n"


def test_a_frozen_file_is_a_kernel_elsewhere(short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine, one command makes the same kernel of the file."""
    do("install", "--image", "busybox", "--name", "to-share", "--shell", "sh")
    with notebook("to-share", short_path) as run:
        run("echo shared > /opt/installed")
        do("freeze", "to-share", "shared", "-o", str(tmp_path / "shared.tar"))
    elsewhere = engines.Engine(tmp_path / "elsewhere")
    engines.set_default_engine(elsewhere)
    monkeypatch.setenv("NBCONTAINER_HOME", str(elsewhere.store.path))
    do("install", "--image", str(tmp_path / "shared.tar"))
    with notebook("nbcontainer-shared", short_path) as run:
        assert run("cat /opt/installed") == "shared\n"
    elsewhere.close()


def test_a_python_notebook_is_frozen(short_path: Path, shells_tar: Path, tmp_path: Path) -> None:
    """A kernel that the provisioner launched: what it changed is in the image, whose label says how it is launched."""
    do("install", "--image", str(shells_tar), "--kernel", "python3", "--name", "python-inside", *PYTHON)
    with notebook("python-inside", short_path) as run:
        run("x = 1; written = open('/installed', 'w').write('by python')")
        do("freeze", "python-inside", "python-frozen", "--name", "again", "-o", str(tmp_path / "python.tar"))
        assert run("print(x)") == "1\n"
    with notebook("again", short_path) as run:
        assert run("print(open('/installed').read())") == "by python\n"
    # Elsewhere nothing of this machine's is in it: its volumes are named again, the kernel is not.
    do("install", "--image", str(tmp_path / "python.tar"), "--name", "elsewhere", *PYTHON)
    with notebook("elsewhere", short_path) as run:
        assert run("print(open('/installed').read())") == "by python\n"
    label = engines.default_engine().store.index.image("python-frozen").config.labels[kernelspec.LABEL]
    assert set(json.loads(label)) == {"argv", "language", "interrupt_mode"}


def test_a_container_that_goes_on_is_frozen_when_it_rests(short_path: Path, kernels: Path) -> None:
    """A kernel with --container: its container is there without a notebook, too."""
    do("install", "--image", "busybox", "--container", "goes-on", "--name", "resting")
    with notebook("resting", short_path, kill=False) as run:
        run("echo 1 > /opt/installed")
    do("freeze", "resting", "rested")
    with notebook("nbcontainer-rested", short_path) as run:
        assert run("cat /opt/installed") == "1\n"
    spec = json.loads((kernels / "nbcontainer-rested/kernel.json").read_text())
    assert "--name" not in spec["argv"][-1]
    api.get("goes-on").remove()


def test_of_several_notebooks_one_is_chosen(short_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two notebooks of a kernel run: the error names their containers, and one is named by --container."""
    do("install", "--image", "busybox", "--name", "twice")
    with notebook("twice", short_path) as one:
        one("echo first > /opt/which")
        (short_path / "second").mkdir()
        with notebook("twice", short_path / "second") as other:
            other("echo second > /opt/which")
            capsys.readouterr()
            do("freeze", "twice", "which", code=2)
            told = capsys.readouterr().err
            assert "2 notebooks of kernel 'twice' are running: " in told
            name = other("hostname").strip()
            assert name in told
            do("freeze", "twice", "which", "--container", name)
    with notebook("nbcontainer-which", short_path) as run:
        assert run("cat /opt/which") == "second\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch", "x"), "no such kernel: 'nosuch'"),
        (("idle", "x"), "no notebook of kernel 'idle' is running"),
        (("idle", "x@sha256:" + 64 * "0"), "cannot have a digest"),
        (("idle", "host"), "is built in and cannot name another image"),
        (("idle", "x", "--name", "a b"), "invalid kernel name"),
        (("idle", "x", "--container", "nosuch"), "no such container: 'nosuch'"),
        (("idle",), "kernel freeze"),
    ],
)
def test_what_cannot_be_frozen_is_told_in_one_line(
    kernels: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """And neither an image nor a kernel is made."""
    do("install", "--image", "busybox", "--name", "idle", "--hostname", "idle")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(["kernel", "freeze", *words])
    assert ended.value.code in (1, 2)
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert [path.name for path in kernels.iterdir()] == ["idle"]


@pytest.mark.parametrize(
    ("image", "file", "said"),
    [
        ("host", "frozen.tar", "incomplete elsewhere; remove `-o`"),
        ("busybox", "frozen.tar.xz", "cannot write .xz"),
        ("busybox", "none/frozen.tar", "mkdir -p"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(
    kernels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], image: str, file: str, said: str
) -> None:
    """A file of the image host, or with an unsupported compression, is one error; no image and no kernel is made."""
    made = api.create(image, f"of-{image}")
    do("install", "--image", image, "--shell", "sh", "--container", made.name, "--name", "by-hand")
    capsys.readouterr()
    index = engines.default_engine().store.index
    before = index.images()
    do("freeze", "by-hand", "frozen", "-o", str(tmp_path / file), code=1 if "/" in file else 2)
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert [path.name for path in kernels.iterdir()] == ["by-hand"]
    assert index.images() == before
    assert not (tmp_path / file).exists()
    made.remove()


@pytest.mark.parametrize("label", ["", "{}", "[]", "no JSON", '{"argv": 1}', '{"argv": ["x"]}', "[" * 100_000])
def test_a_label_that_says_nothing_is_refused(label: str) -> None:
    """An image may say what it likes: what is no kernel is one clear error."""
    with pytest.raises(UsageError, match=r"invalid label org\.nbcontainer\.kernel"):
        kernelspec.document_labelled(label, ["x"], "x", notebooks="", store="")
