"""Notebooks: a real IPython in this process, and real kernels in their own."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbcontainer.containers import engine as engines
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.live.session import ShellSession
from nbcontainer.containers.options import run_options
from tests.notebook.kernels import Kernel
from tests.notebook.shell_cells import SHELLS, Cells, Heard
from tests.notebook.shell_kernels import ShellKernel, rootfs_of_this_machine
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine


@dataclass(frozen=True)
class Ran:
    """A cell that ran in this process: what it wrote, what its last line was worth, and how it failed."""

    stdout: str
    stderr: str
    value: Any
    error: BaseException | None


class Notebook:
    """A real IPython with the extension loaded, cell by cell."""

    def __init__(self, shell: InteractiveShell, capture: pytest.CaptureFixture[str]) -> None:
        self.shell = shell
        self._capture = capture

    def run(self, code: str) -> Ran:
        """Runs one cell, to its end."""
        self._capture.readouterr()
        result = self.shell.run_cell(code)  # type: ignore[no-untyped-call]
        out, err = self._capture.readouterr()
        return Ran(out, err, result.result, result.error_before_exec or result.error_in_exec)

    def good(self, code: str) -> str:
        """Runs one cell that must not fail; its standard output."""
        ran = self.run(code)
        assert ran.error is None, ran
        return ran.stdout

    def fails(self, code: str) -> str:
        """Runs one cell that must fail with an error of this package, in one line, which it returns."""
        ran = self.run(code)
        assert ran.error is not None, ran
        assert type(ran.error).__module__ == "nbcontainer.errors", ran.error
        shown = (ran.stdout + ran.stderr).splitlines()
        line = f"{type(ran.error).__name__}: {ran.error}"
        assert shown.count(line) == 1, ran
        assert not [text for text in shown if "Traceback" in text], ran
        assert "\n" not in line
        return line

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.shell.user_ns[name] = value


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[InteractiveShell]:
    """A fresh IPython, without the extension."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(
        config=config, user_module=types.ModuleType("notebook"), ipython_dir=str(tmp_path / "ipython")
    )
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()  # type: ignore[no-untyped-call]
    shell.restore_sys_module_state()  # type: ignore[no-untyped-call]
    InteractiveShell.clear_instance()


@pytest.fixture
def notebook(shell: InteractiveShell, engine: Engine, capsys: pytest.CaptureFixture[str]) -> Iterator[Notebook]:
    """A notebook on `engine`, with the extension loaded."""
    engines.set_default_engine(engine)
    opened = Notebook(shell, capsys)
    opened.good("%load_ext nbcontainer")
    yield opened
    shell.run_cell("%unload_ext nbcontainer")  # type: ignore[no-untyped-call]
    engines.set_default_engine(None)


@pytest.fixture
def dev(notebook: Notebook, engine: Engine) -> Iterator[Notebook]:
    """A notebook without a container `dev`, before and after."""
    yield notebook
    for live in list(engine.live.values()):
        live.stop(0)
    notebook.run("%container rm -f dev")


@pytest.fixture(scope="session")
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for the sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="nbk"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def kernel(short_path: Path, store_path: Path, _containers_work: str) -> Iterator[Kernel]:
    """A kernel of the test's own on the run's store, with the extension loaded."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    with Kernel(short_path, store_path) as started:
        started.run("%load_ext nbcontainer").good()
        yield started


@pytest.fixture(scope="module")
def shared_kernel(short_path: Path, store_path: Path, _containers_work: str) -> Iterator[Kernel]:
    """A kernel for the tests of one module that leave it as it was."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    with Kernel(short_path, store_path) as started:
        started.run("%load_ext nbcontainer").good()
        yield started


@pytest.fixture(scope="session")
def shells_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with this machine's bash and dash."""
    for name in ("bash", "dash", "ldd"):
        require(name)
    return rootfs_of_this_machine(tmp_path_factory.mktemp("rootfs") / "shells.tar")


@pytest.fixture
def make_cells(engine: Engine, shells_tar: Path) -> Iterator[Callable[..., Cells]]:
    """Makes cells of a shell by its name; options are those of `RunOptions`."""
    made: list[ShellSession] = []

    def make(name: str, **options: object) -> Cells:
        heard = Heard()
        image, program = ("busybox", "") if name == "ash" else (str(shells_tar), name)
        request = Request(image, options=run_options(options))
        made.append(ShellSession(engine, request, heard, program))
        return Cells(made[-1], heard, name)

    yield make
    for shell in made:
        shell.close()


@pytest.fixture(params=SHELLS)
def cells(request: pytest.FixtureRequest, make_cells: Callable[..., Cells]) -> Cells:
    """Cells of each shell in turn."""
    return make_cells(request.param)


@pytest.fixture
def shell_kernel(short_path: Path, store_path: Path, _containers_work: str) -> Iterator[ShellKernel]:
    """A kernel of the test's own, whose cells run in a busybox."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    kernel = ShellKernel(short_path, store_path, ("busybox",))
    with kernel:
        yield kernel
