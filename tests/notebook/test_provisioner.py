"""The provisioner: IPython's kernel inside a container, as a frontend and as the host see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ipykernel
import pytest
from jupyter_client.manager import AsyncKernelManager

from nbcontainer.containers import engine as engines
from nbcontainer.containers import run
from nbcontainer.containers.cells.request import Request
from nbcontainer.errors import ContainerBusy, LinkRefused, StoreError
from nbcontainer.linux.paths import resolve
from nbcontainer.notebook import provisioner
from nbcontainer.store import writable
from tests.debian import debian_tar
from tests.notebook.patient_suite import PatientTests
from tests.notebook.provisioned import ProvisionedKernel, python_places
from tests.notebook.shell_cells import wait_for
from tests.requirements import require
from tests.running import (
    DEADLINE,
    all_dead,
    appear,
    descendants,
    marker,
    mounts_of,
    pidfds,
    processes_of,
    processes_with,
    run_script,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def make_inside(
    short_path: Path, store_path: Path, shells_tar: Path, engine: Engine
) -> Iterator[Callable[..., ProvisionedKernel]]:
    """Makes IPython's kernels inside containers, and starts them; the engine is this process's, as a server's is."""
    engines.set_default_engine(engine)
    made: list[ProvisionedKernel] = []

    def make(*words: str, image: str = "", notebooks: str = "", start: bool = True, **how: Any) -> ProvisionedKernel:
        kernel = ProvisionedKernel(short_path, store_path, image or str(shells_tar), words, notebooks=notebooks)
        if start:
            kernel.manager.start_kernel(env=kernel.env, **how)
            made.append(kernel)
            kernel.connect()
        return kernel

    yield make
    for kernel in made:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)
    engines.set_default_engine(None)


@pytest.fixture
def inside(make_inside: Callable[..., ProvisionedKernel]) -> ProvisionedKernel:
    """IPython's kernel inside a container."""
    return make_inside()


def folder_of(kernel: ProvisionedKernel) -> Path:
    """The directory that a kernel and the server share."""
    return Path(kernel.manager.ip).parent


def test_a_kernel_runs_inside_a_container(inside: ProvisionedKernel) -> None:
    """It is pid 2 of its own machine, with the image's files, no network but lo, and nothing of the server's."""
    assert inside.value("__import__('os').getpid()") == "2"
    assert inside.value("sorted(__import__('os').listdir('/sys/class/net'))") == "['lo']"
    assert inside.value("__import__('os').path.exists('/etc/shadow')") == "False"
    assert inside.value("__import__('os').environ.get('FROM_SPEC')") == "'yes'"
    assert inside.value("'NBCONTAINER_HOME' in __import__('os').environ") == "False"


def test_a_kernel_writes_nothing_to_the_servers_log(
    make_inside: Callable[..., ProvisionedKernel], tmp_path: Path
) -> None:
    """A server's log has nothing of a kernel that works, as for a kernel outside: no note that Ctrl-C will not work."""
    with (tmp_path / "log").open("wb") as log:
        kernel = make_inside(stderr=log)
        assert kernel.value("1") == "1"
    assert "Ctrl-C" not in (tmp_path / "log").read_text()
    assert "--existing" not in (tmp_path / "log").read_text()


def test_what_a_kernel_changes_changes_nothing_outside(inside: ProvisionedKernel) -> None:
    """Files come and go in its own layer; the interpreter, shown read-only, cannot be changed."""
    assert inside.run("open('/etc/made', 'w').write('x'); import os; os.remove('/etc/passwd')").good()
    assert not Path("/etc/made").exists()
    assert Path("/etc/passwd").exists()
    error = inside.run("import os, sys; os.remove(os.path.realpath(sys.executable))").error
    assert error is not None
    assert error["ename"] == "OSError"


def test_a_kernel_in_host_changes_nothing_of_the_machine(make_inside: Callable[..., ProvisionedKernel]) -> None:
    """This machine's own kernel, copy on write: what it installs for itself and what it removes is inside alone."""
    kernel = make_inside(image="host")
    assert kernel.value("__import__('sys').prefix") == repr(sys.prefix)
    assert kernel.value("__import__('os').listdir('/sys/class/net')") == "['lo']"
    place = Path(ipykernel.__file__).parent
    if not os.access(place, os.W_OK):
        pytest.skip("the interpreter's packages are not this user's")
    kernel.run(f"import shutil; shutil.rmtree({str(place)!r}); open('/etc/made', 'w')").good()
    assert kernel.value(f"__import__('os').path.exists({str(place)!r})") == "False"
    assert place.is_dir()
    assert not Path("/etc/made").exists()


def test_the_sockets_directory_is_all_that_is_shared(inside: ProvisionedKernel) -> None:
    """By ipc, in a directory that nobody else may enter; all else that is mounted is what Python needs, read-only."""
    assert inside.manager.transport == "ipc"
    folder = folder_of(inside)
    assert folder.parent.stat().st_mode & 0o077 == 0
    targets = json.loads(
        inside.run(
            "import json; print(json.dumps([l.split()[4] for l in open('/proc/self/mountinfo')]), end='')"
        ).stdout
    )
    own = {one for one in targets if one.split("/")[1] not in ("", "proc", "sys", "dev", "lib")}
    assert own == {str(folder), inside.manager.connection_file, *python_places()}


def test_an_interrupt_reaches_the_kernel(inside: ProvisionedKernel) -> None:
    """The stop button raises KeyboardInterrupt in the cell, and ends a program that it waits for."""
    for code in ("import time; time.sleep(1000)", "__import__('subprocess').run(['sleep', '1000'])"):
        cell = inside.send(f"x = 1; print('ready', flush=True); {code}").until("ready")
        inside.interrupt()
        cell.end()
        assert cell.error is not None
        assert cell.error["ename"] == "KeyboardInterrupt"
        assert inside.value("x") == "1"


def test_a_restart_is_a_new_kernel_on_a_fresh_container(inside: ProvisionedKernel) -> None:
    """Three times: neither variables nor files nor processes of the one before, and the same connection file."""
    place = inside.manager.connection_file
    for _ in range(3):
        seconds = marker()
        inside.run(f"x = 1; open('/made', 'w'); __import__('os').system('setsid sleep {seconds} &')").good()
        wait_for(partial(processes_with, seconds))
        inside.restart()
        assert not processes_with(seconds)
        assert inside.value("('x' in globals(), __import__('os').path.exists('/made'))") == "(False, False)"
    assert inside.manager.connection_file == place


def test_a_kernel_has_no_other_file_in_the_place_of_its_connection_file(
    inside: ProvisionedKernel, tmp_path: Path
) -> None:
    """What is done to that file by the server, at a restart too, is done to no other by a link there."""
    private = tmp_path / "private"
    private.write_text("a secret")
    private.chmod(0o600)
    place = Path(inside.manager.connection_file)
    before = place.read_text()
    remove, write = f"import os; os.remove({str(place)!r})", f"open({str(place)!r}, 'w')"
    link = f"import os; os.symlink({str(private)!r}, '{place}1'); os.rename('{place}1', '{place}')"
    for code in (remove, link, write):
        assert inside.run(code).error is not None
    inside.restart()
    assert private.stat().st_mode & 0o777 == 0o600
    assert not place.is_symlink()
    assert place.read_text() == before


_PLANTED = {
    "a link to a socket": "os.symlink({victim!r}, path)",
    "a link to a link": "os.symlink({victim!r}, path + 'x'); os.symlink(path + 'x', path)",
    "a pipe": "os.mkfifo(path)",
    "a directory": "os.mkdir(path)",
    "a file": "open(path, 'w').close()",
}


@pytest.mark.parametrize("planted", _PLANTED)
def test_no_frontend_connects_to_what_a_kernel_plants(
    inside: ProvisionedKernel, short_path: Path, planted: str
) -> None:
    """Whatever a cell puts in the place of the kernel's sockets, a frontend connects to none but the kernel's.

    A link there could lead to any socket of this machine, to which the server's user may connect.
    """
    victim = str(short_path / f"victim-{marker()}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(victim)
        listener.listen()
        plant = _PLANTED[planted].format(victim=victim)
        ports = sorted(inside.manager.ports)
        loop = f"for number in {ports}:\n    path = f'{inside.manager.ip}-{{number}}'\n    os.remove(path)\n    {plant}"
        inside.run(f"import os\n{loop}").good()
        inside.client.stop_channels()
        inside.connect()
        assert inside.value("1") == "1"
        assert not select.select([listener], [], [], 0)[0]


def test_a_kernel_that_plants_without_an_end_holds_up_nobody(inside: ProvisionedKernel) -> None:
    """Thousands of files and links beside its sockets a second do not keep the server from the kernel."""
    code = f"""
import os, threading
def plant():
    while True:
        for name in ("1", "x"):
            try:
                os.symlink("/", "{inside.manager.ip}-" + name)
            except OSError:
                pass
            os.unlink("{inside.manager.ip}-" + name)
threading.Thread(target=plant, daemon=True).start()
"""
    inside.run(code).good()
    inside.client.stop_channels()
    inside.connect()
    assert inside.value("1") == "1"


def test_a_restart_follows_no_link_of_the_kernel_before(inside: ProvisionedKernel, tmp_path: Path) -> None:
    """Links, pipes and directories that a kernel left in the place of its sockets do not change or delay a restart."""
    private = tmp_path / "private"
    private.write_text("a secret")
    code = "import os\nfor n in range(1, 30):\n    try: os.symlink({!r}, f'{}-{{n}}')\n    except OSError: pass"
    inside.run(code.format(str(private), inside.manager.ip)).good()
    inside.run(f"os.remove('{inside.manager.ip}-1'); os.symlink({str(private)!r}, '{inside.manager.ip}-1')").good()
    inside.restart()
    assert inside.value("1") == "1"
    assert private.read_text() == "a secret"


def test_a_shutdown_leaves_nothing(make_inside: Callable[..., ProvisionedKernel], engine: Engine) -> None:
    """No process, no mount, no socket, no directory, no container."""
    before, marks = mounts_of(engine.store.path), set((engine.store.path / writable.MARKS).iterdir())
    others = set((engine.store.path / "containers").iterdir())
    kernel = make_inside()
    kernel.run("import os; os.system('setsid sleep 1000 &'); open('/made', 'w')").good()
    folder, watched = folder_of(kernel), pidfds(processes_of(engine.launcher))
    assert watched
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel()
    for name in (folder, folder.parent):
        assert not name.exists()
    engine.background.wait()
    assert set(mounts_of(engine.store.path)) <= set(before)
    assert set((engine.store.path / writable.MARKS).iterdir()) == marks
    assert set((engine.store.path / "containers").iterdir()) <= others
    # Spare inits, which wait for the next cell, are not the kernel's.
    assert not [
        fd for fd in watched if Path(f"/proc/self/fdinfo/{fd}").read_text().count("Pid:\t-1") == 0 and _runs(fd)
    ]
    for fd in watched:
        os.close(fd)


def _runs(pidfd: int) -> bool:
    """Whether a process is alive and is none of this package's own."""
    pid = next(
        int(line.split()[1])
        for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
        if line.startswith("Pid:")
    )
    with contextlib.suppress(OSError):  # it ended in between
        return pid > 0 and not Path(f"/proc/{pid}/comm").read_text().startswith("nbcontainer")
    return False


def test_a_kernel_that_dies_takes_everything_with_it(inside: ProvisionedKernel) -> None:
    """SIGKILL to it from inside: its children end, and the manager sees that it is dead, with its exit code."""
    seconds = marker()
    inside.run(f"import os; os.system('setsid sleep {seconds} &')").good()
    wait_for(lambda: processes_with(seconds))
    inside.send("os.kill(os.getpid(), 9)")
    wait_for(lambda: not inside.manager.is_alive())
    assert not processes_with(seconds)


def test_a_killed_server_takes_everything_with_it(
    make_inside: Callable[..., ProvisionedKernel], short_path: Path
) -> None:
    """SIGKILL to the process that started the kernel ends the kernel and all of its container."""
    kernel = make_inside(start=False)
    folder = kernel.manager.kernel_spec_manager.kernel_dirs[0]
    seconds = marker()
    script = f"""
import sys
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="inside", kernel_spec_manager=KernelSpecManager(kernel_dirs=[{folder!r}]))
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute("__import__('os').system('setsid sleep {seconds} & sleep {seconds}')")
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], env=kernel.env, stdin=subprocess.PIPE) as server:
        wait_for(lambda: len(processes_with(seconds)) == 2)
        watched = pidfds(descendants(server.pid))
        os.kill(server.pid, signal.SIGKILL)
        assert all_dead(watched)
    assert not processes_with(seconds)


@pytest.mark.parametrize("how", ["ro", "rw"])
def test_the_notebooks_directory_is_shown_as_asked(
    make_inside: Callable[..., ProvisionedKernel], tmp_path: Path, how: str
) -> None:
    """At the same path, as the working directory, read-only or not; what is written there is the user's own."""
    tmp_path.chmod(0o755)
    (tmp_path / "data.csv").write_text("a,b\n")
    kernel = make_inside(notebooks=how, cwd=str(tmp_path))
    assert kernel.value("(__import__('os').getcwd(), open('data.csv').read())") == repr((str(tmp_path), "a,b\n"))
    cell = kernel.run("open('new', 'w').write('x')")
    if how == "ro":
        assert cell.error is not None
        assert cell.error["evalue"].startswith("[Errno 30]")
        assert not (tmp_path / "new").exists()
    else:
        assert (tmp_path / "new").stat().st_uid == os.geteuid()


def test_a_notebooks_directory_is_not_where_a_cells_link_leads(
    make_inside: Callable[..., ProvisionedKernel], engine: Engine, tmp_path: Path
) -> None:
    """A notebook's directory that a cell made a link is not shown: what is mounted is what was opened by its name."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "link").symlink_to(tmp_path / "elsewhere")
    with resolve(tmp_path / "volume") as place:
        writable.remember(engine.store, place.node)
    kernel = make_inside(notebooks="rw", start=False)
    with pytest.raises(LinkRefused, match="volume/link is a symbolic link"):
        kernel.manager.start_kernel(env=kernel.env, cwd=str(tmp_path / "volume" / "link"))


@pytest.mark.parametrize("how", ["home", "open to others", "runtime", "root"])
def test_a_directory_that_is_not_to_be_shown_is_not(
    make_inside: Callable[..., ProvisionedKernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The kernel starts without its notebook's directory, and the server's log has the reason and the way out."""
    folder = tmp_path / "notebooks"
    folder.mkdir(mode=0o755)
    (folder / "data.csv").write_text("a,b\n")
    if how == "home":
        monkeypatch.setenv("HOME", str(folder))
    elif how == "open to others":
        folder.chmod(0o777)
    elif how == "runtime":
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    with (tmp_path / "log").open("wb") as log:
        kernel = make_inside(notebooks="rw", cwd="/" if how == "root" else str(folder), stderr=log)
        assert kernel.value(f"__import__('os').path.exists({str(folder / 'data.csv')!r})") == "False"
        assert kernel.value("__import__('os').getcwd()") == "'/'"
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("nbcontainer: the kernel runs without the notebook's directory: ")
    assert ", or write -v " in line


def test_no_directory_is_shown_unless_asked(make_inside: Callable[..., ProvisionedKernel], tmp_path: Path) -> None:
    """With `--notebooks none`, the container has no such directory."""
    kernel = make_inside(notebooks="none", cwd=str(tmp_path))
    assert kernel.value(f"__import__('os').path.exists({str(tmp_path)!r})") == "False"


def test_options_are_those_of_run(make_inside: Callable[..., ProvisionedKernel], tmp_path: Path) -> None:
    """Volumes, variables, host name and a read-only root, as in the magic."""
    (tmp_path / "file").write_text("text")
    tmp_path.chmod(0o755)
    words = ("-v", f"{tmp_path}:/data:ro", "-e", "GIVEN=1", "--hostname", "inside", "--read-only", "--tmpfs", "/tmp")
    kernel = make_inside(*words)
    assert kernel.value("(open('/data/file').read(), __import__('os').environ['GIVEN'])") == "('text', '1')"
    assert kernel.value("__import__('socket').gethostname()") == "'inside'"
    assert kernel.run("open('/made', 'w')").error is not None


def test_a_kernel_runs_as_another_user(make_inside: Callable[..., ProvisionedKernel], engine: Engine) -> None:
    """With --user, the kernel is that one's, and its sockets are still the server's to connect to."""
    if engine.single_id:
        pytest.skip("a container has a single user here")
    kernel = make_inside("--user", "1000", "-e", "HOME=/tmp")
    assert kernel.value("__import__('os').getuid()") == "1000"


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--nosuch",), "unknown option '--nosuch'"), (("-v", "/nonexistent:/data"), "/nonexistent")],
)
def test_what_cannot_start_is_told(
    make_inside: Callable[..., ProvisionedKernel], words: tuple[str, ...], said: str
) -> None:
    """The start fails with this package's one line, and leaves no directory."""
    kernel = make_inside(*words, start=False)
    with pytest.raises(Exception, match=said):
        kernel.manager.start_kernel(env=kernel.env)
    assert folder_of(kernel).parent.name.startswith("nbk-")
    assert not folder_of(kernel).parent.exists()


def test_a_server_serves_others_meanwhile(
    make_inside: Callable[..., ProvisionedKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a kernel's image is looked for, which may be a long download, the server's loop runs."""
    specs = make_inside(start=False).manager.kernel_spec_manager
    choose = run.choose_container

    async def start() -> None:
        loop, served = asyncio.get_running_loop(), threading.Event()

        def slow(*arguments: Any) -> Any:
            loop.call_soon_threadsafe(served.set)
            assert served.wait(DEADLINE), "the loop stands still"
            return choose(*arguments)

        monkeypatch.setattr(provisioner, "choose_container", slow)
        manager = AsyncKernelManager(kernel_name="inside", kernel_spec_manager=specs)
        await manager.start_kernel()
        await manager.shutdown_kernel(now=True)
        assert served.is_set()

    asyncio.run(start())


def test_a_start_that_is_given_up_leaves_nothing(
    make_inside: Callable[..., ProvisionedKernel], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops waiting for a kernel while its container begins has no container that runs on."""
    specs, seconds = make_inside(start=False).manager.kernel_spec_manager, marker()
    spec = Path(specs.kernel_dirs[0]) / "inside/kernel.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "argv": ["sleep", seconds]}))
    process, made = provisioner.ContainerProcess, []

    async def start() -> None:
        loop, asked, given_up = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def slow(*arguments: Any) -> Any:
            made.append(process(*arguments))
            appear(seconds, 1)
            loop.call_soon_threadsafe(asked.set)
            assert given_up.wait(DEADLINE)
            return made[0]

        monkeypatch.setattr(provisioner, "ContainerProcess", slow)
        manager = AsyncKernelManager(kernel_name="inside", kernel_spec_manager=specs)
        starting = asyncio.ensure_future(manager.start_kernel())
        await asyncio.wait_for(asked.wait(), DEADLINE)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        given_up.set()

    asyncio.run(start())
    made[0].wait(DEADLINE)


def test_a_kernel_whose_container_another_cell_has_does_not_start(
    engine: Engine, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error after a while, and nothing starts when the other cell has ended."""
    monkeypatch.setattr(provisioner, "_START_LIMIT", 0.1)
    seconds, name = marker(), "of-another"
    run_script(engine, "true", name=name)
    request = Request("", name, command=("true",))
    with contextlib.closing(engines.Engine(store_path)) as other:
        thread = threading.Thread(target=run_script, args=(other, f"sleep {seconds}"), kwargs={"name": name})
        thread.start()
        appear(seconds, 1)
        with pytest.raises(ContainerBusy, match="the kernel's container runs another cell"):
            provisioner.ContainerProcess(engine, request, lambda _: None)
        for pid in processes_with(seconds):
            os.kill(pid, signal.SIGTERM)
        thread.join()
    assert run_script(engine, "echo next", name=name, remove=True).text == "next"


def test_a_kernel_whose_container_cannot_be_removed_has_ended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter sees the end of the kernel; the next start removes the container."""

    def refused(_: object) -> None:
        raise StoreError("no space")

    monkeypatch.setattr("nbcontainer.containers.container.Container.remove", refused)
    process = provisioner.ContainerProcess(engine, Request("busybox", command=("sh", "-c", "exit 3")), lambda _: None)
    assert process.wait(DEADLINE) == 3
    assert process.poll() == 3


class _Suite(PatientTests):
    """jupyter_kernel_test for ipykernel, whole, as ipykernel's own tests have it."""

    __test__ = False
    image = ""

    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import getpas", "matches": {"getpass"}},
    ]
    complete_code_samples: ClassVar = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result: ClassVar = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data: ClassVar = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    # Not "range": of its own session, ipykernel answers with number 0 and not with the one it was asked for.
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _kernel(cls, short_path: Path, store_path: Path, shells_tar: Path, _containers_work: str) -> Iterator[None]:
        require("namespaces", available=not _containers_work, why=_containers_work)
        engine = engines.Engine(store_path)
        engines.set_default_engine(engine)
        image = str(debian_tar()) if cls.image == "debian" else cls.image or str(shells_tar)
        python = "python3" if cls.image == "debian" else sys.executable
        kernel = ProvisionedKernel(short_path, store_path, image, python=python)
        with kernel:
            cls.km, cls.kc = kernel.manager, kernel.client
            yield
        engines.set_default_engine(None)
        engine.close()


class TestSuite(_Suite):
    """In an image that is shown this Python."""

    __test__ = True


class TestHostSuite(_Suite):
    """In this machine, copy on write."""

    __test__ = True
    image = "host"


class TestDebianSuite(_Suite):
    """In a Debian image, with its own Python and packages."""

    __test__ = True
    image = "debian"
