"""`nbcontainer kernel install|list|remove`, and notebooks in what they install."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from nbcontainer import cli
from nbcontainer.notebook.kernel.specs import kernelspec
from tests.notebook.kernels import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

    from nbcontainer.containers.engine import Engine


@pytest.fixture(autouse=True)
def _user(short_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a store and with no kernels of their own."""
    monkeypatch.setenv("NBCONTAINER_HOME", str(engine.store.path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(short_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(short_path))


def do(*words: str, code: int = 0) -> None:
    """Does `nbcontainer kernel WORDS`."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--json", "kernel", *words])
    assert ended.value.code == code


@contextlib.contextmanager
def started(name: str, short_path: Path, **how: Any) -> Iterator[BlockingKernelClient]:
    """A client of an installed kernel that runs."""
    place = str(short_path / f"installed-{os.urandom(3).hex()}.json")
    manager = KernelManager(kernel_name=name, transport="ipc", connection_file=place)
    manager.start_kernel(**how)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def test_a_kernel_is_installed_run_and_removed(
    tmp_path: Path, short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command, and notebooks run in that image, with its volumes; another takes the kernel away."""
    (tmp_path / "file").write_text("shown")
    tmp_path.chmod(0o755)
    do("install", "--image", "busybox", "--name", "ours", "--display-name", "Ours", "-v", f"{tmp_path}:/data:ro")
    capsys.readouterr()
    do("list")
    rows = {row["kernel"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["ours"]["shown as"] == "Ours"
    with started("ours", short_path) as client:
        assert Cell(client, client.execute("cat /data/file")).end().good().stdout == "shown"
    do("rm", "ours")  # and `uninstall`, as `jupyter kernelspec` has it
    capsys.readouterr()
    do("ls")
    assert "ours" not in [row["kernel"] for row in json.loads(capsys.readouterr().out)]


def test_a_kernel_goes_on_in_a_named_container(short_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --container, the kernelspec names it, and it is there from then on."""
    do("install", "--image", "busybox", "--container", "kept-for-kernels", "--name", "kept")
    spec = json.loads((short_path / "data" / "kernels" / "kept" / "kernel.json").read_text())
    assert "busybox --name kept-for-kernels" in spec["argv"][-1]
    do("remove", "kept")
    with pytest.raises(SystemExit):
        cli.main(["rm", "kept-for-kernels"])
    capsys.readouterr()


def test_an_installed_kernel_is_launched_inside(short_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --kernel, the kernelspec is that one's, launched by the provisioner."""
    do("install", "--image", "busybox", "--kernel", "python3", "--notebooks", "ro", "--name", "inside")
    spec: Any = json.loads((short_path / "data" / "kernels" / "inside" / "kernel.json").read_text())
    assert spec["argv"][0] == "python3"
    assert spec["language"] == "python"
    assert spec["metadata"]["kernel_provisioner"]["config"] == {"run": "busybox", "notebooks": "ro"}
    do("remove", "inside")
    capsys.readouterr()


def spec_of(short_path: Path, name: str) -> Any:
    """The kernel.json of an installed kernel."""
    return json.loads((short_path / "data" / "kernels" / name / "kernel.json").read_text())


def test_a_kernel_of_this_package_has_its_logo(short_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Launchers of JupyterLab and other frontends show a picture, in each of the forms that they ask for."""
    do("install", "--image", "busybox", "--name", "pictured")
    found = KernelSpecManager().get_kernel_spec("pictured")
    for size in (32, 64):
        data = (Path(found.resource_dir) / f"logo-{size}x{size}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert struct.unpack(">II", data[16:24]) == (size, size)
    picture = (Path(found.resource_dir) / "logo-svg.svg").read_text()
    assert picture.startswith("<svg")
    assert "script" not in picture
    do("remove", "pictured")
    capsys.readouterr()


def test_without_arguments_it_installs_the_data_science_kernel(
    short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """python3 in `host` with a private network and the notebook's directory; Jupyter lists it with Python's logo."""
    do("install")
    shown = json.loads(capsys.readouterr().out)
    assert "the notebook's directory: read and write (--notebooks rw); change it with --notebooks ro or none" in shown
    assert "network: other machines, not the host's loopback (--network private)" in shown
    spec = KernelSpecManager().get_all_specs()["nbcontainer-host"]
    config = spec["spec"]["metadata"]["kernel_provisioner"]["config"]
    assert config == {"run": "host --network private", "notebooks": "rw"}
    assert spec["spec"]["language"] == "python"
    assert any(place.name.startswith("logo-") for place in (short_path / "data/kernels/nbcontainer-host").iterdir())
    do("remove", "nbcontainer-host")
    capsys.readouterr()


def test_it_names_the_proxies_that_a_kernel_gets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the kernel has a private network; a proxy on this machine's loopback is not reached from there."""
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    for network, said in (("private", True), ("none", False)):
        do("install", "--image", "busybox", "--name", "behind", "--network", network)
        shown = capsys.readouterr().out
        assert ("https_proxy of the notebook's environment" in shown) is said
        assert "http_proxy," not in shown
        assert "secret" not in shown
        do("remove", "behind")
        capsys.readouterr()


def test_it_names_the_ports_variables_and_volumes_that_a_kernel_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable that `-e` sets is not the notebook's, one without a value is; an anonymous volume is not shared."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    options = ("-e", "https_proxy=http://other.example", "-e", "TOKEN", "-e", "SET=1", "-p", "8080:80")
    volumes = (
        "-v",
        f"{tmp_path}:/a:ro",
        "-v",
        f"{tmp_path}:/b:cow",
        "-v",
        "data:/c",
        "-v",
        "/d",
        "--cache-dir",
        "pip:/e",
    )
    do("install", "--image", "busybox", "--name", "shared", "--network", "private", *options, *volumes)
    lines = json.loads(capsys.readouterr().out).splitlines()[2:]
    passed = next(line for line in lines if "passed on" in line)
    assert "TOKEN" in passed
    assert "https_proxy" not in passed
    assert "SET" not in passed
    assert [line.strip() for line in lines if line != passed][1:] == [
        "127.0.0.1:8080/tcp of the host: port 80 of the container",
        f"{tmp_path}: read-only, at /a",
        f"{tmp_path}: copy-on-write, at /b",
        "volume data: read and write, at /c",
        "cache pip: read and write, at /e",
    ]
    do("remove", "shared")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "notebooks"),
    [
        (("--image", "host"), "rw"),
        (("--image", "busybox"), "ro"),
        (("--image", "host", "--kernel", "python3"), "rw"),
        (("--image", "busybox", "--kernel", "python3"), "ro"),
        (("--image", "busybox", "--notebooks", "rw"), "rw"),
        (("--image", "host", "--notebooks", "none"), "none"),
    ],
)
def test_the_notebooks_directory_is_shown_by_default(
    short_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], notebooks: str
) -> None:
    """Shells and other kernels: rw in `host`, ro elsewhere. The command prints which, and how to change it."""
    do("install", *words, "--name", "by-default")
    shown = json.loads(capsys.readouterr().out)
    others = [value for value in ("rw", "ro", "none") if value != notebooks]
    assert f"(--notebooks {notebooks}); change it with --notebooks" in shown
    assert all(value in shown.partition("change it with")[2].splitlines()[0] for value in others)
    spec = spec_of(short_path, "by-default")
    if "--kernel" in words:
        assert spec["metadata"]["kernel_provisioner"]["config"]["notebooks"] == notebooks
    else:
        assert f"--ContainerKernel.notebooks={notebooks}" in spec["argv"]
    do("remove", "by-default")
    capsys.readouterr()


def test_a_kernel_of_a_file_works_when_the_file_has_moved(
    tmp_path: Path, short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store has the file's image, and the kernelspec has its digest; another file of that name changes nothing."""
    file = tmp_path / "own.tar"
    with pytest.raises(SystemExit):
        cli.main(["save", "busybox", "-o", str(file)])
    do("install", "--image", str(file), "--name", "of-file")
    file.write_bytes(b"something else")
    spec = spec_of(short_path, "of-file")
    assert str(file) not in json.dumps(spec)
    assert spec["display_name"] == "own (container)"
    with started("of-file", short_path) as client:
        assert Cell(client, client.execute("echo here")).end().good().stdout == "here\n"
    do("remove", "of-file")
    capsys.readouterr()


@pytest.mark.parametrize(("words", "writable"), [(("host", "--notebooks", "rw"), True), (("busybox",), False)])
def test_a_shells_notebook_sees_the_files_beside_it(
    tmp_path: Path, short_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], writable: bool
) -> None:
    """Its cells start in the notebook's directory, at the same path, and write to it as `--notebooks` says."""
    tmp_path.chmod(0o755)
    (tmp_path / "own.ipynb").touch()
    do("install", "--name", "here", "--image", *words)
    with started("here", short_path, cwd=str(tmp_path)) as client:
        assert Cell(client, client.execute("pwd; ls *.ipynb")).end().good().stdout == f"{tmp_path}\nown.ipynb\n"
        cell = Cell(client, client.execute("touch made")).end()
    assert (cell.error is None) == writable == (tmp_path / "made").exists()
    do("remove", "here")
    capsys.readouterr()


def test_a_shells_notebook_in_a_home_directory_does_not_see_it(
    tmp_path: Path, short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first cell says so on standard error, once, with the way out; the cells run in the image's own directory."""
    do("install", "--name", "here", "--image", "busybox", "--notebooks", "rw")
    env = {**os.environ, "HOME": str(tmp_path)}
    with started("here", short_path, cwd=str(tmp_path), env=env) as client:
        cell = Cell(client, client.execute("pwd")).end().good()
        assert cell.stdout == "/\n"
        assert cell.stderr.startswith("nbcontainer: the kernel runs without the notebook's directory: ")
        assert "move it to a subdirectory, or write -v" in cell.stderr
        assert Cell(client, client.execute("pwd")).end().good().stderr == ""
    do("remove", "here")
    capsys.readouterr()


def test_the_packages_own_kernel_shows_the_notebooks_directory() -> None:
    """The kernelspec that comes with the package is what `kernel install --image busybox` makes."""
    spec = json.loads((Path(__file__).parents[2] / "kernelspec" / "kernel.json").read_text())
    made = kernelspec.document(["busybox"], "busybox (container)", notebooks="ro")
    assert spec["argv"][1:] == made["argv"][1:]
    assert spec["metadata"] == made["metadata"]


def test_a_kernel_that_cannot_be_removed_keeps_no_other(short_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several names, those that are kernels are removed, and the error names the others and what was removed."""
    do("install", "--image", "busybox", "--name", "mine")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["kernel", "remove", "nosuch", "mine"])
    path = short_path / "data" / "kernels" / "mine"
    assert f"no such kernel: 'nosuch'; removed {path}; list kernels" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("words", [("--user",), ("--user", "--name", "mine"), ("--name", "mine", "--user")])
def test_a_kernel_is_installed_for_this_user(
    short_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """`--user` is Jupyter's, as for `ipykernel install`; the user in the container is `-u`."""
    do("install", "--image", "busybox", *words, "-u", "1000")
    name = "mine" if "mine" in words else "nbcontainer-busybox"
    assert "--user 1000" in " ".join(spec_of(short_path, name)["argv"])
    do("remove", name)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("install", "--image", "nosuch.localhost/x", "--pull", "never"), "nosuch.localhost/x"),
        (("install", "--image", "busybox", "--name", "a b"), "invalid kernel name"),
        (("install", "--image", "busybox", "--name", "."), "invalid kernel name '.'"),
        (("install", "--image", "busybox", "--name", ".."), "invalid kernel name '..'"),
        (("install", "--image", ""), "invalid value for `--image`: ''"),
        (("install", "--container", ""), "invalid value for `--container`: ''"),
        (("install", "--timeout", "5"), "this kernel runs its cells itself; remove it"),
        (("install", "--image", "busybox", "--kernel", "python3", "--timeout", "5"), "runs its cells itself"),
        (("install", "--image", "busybox", "--network", "nosuch"), "nosuch"),
        (("install", "--image", "busybox", "-v", "/nonexistent:/x"), "/nonexistent"),
        (("install", "--image", "busybox", "--notebooks", "x"), "invalid value for `--notebooks`"),
        (("install", "--image", "busybox", "--notebooks", ""), "invalid value for `--notebooks`"),
        (("install", "--image", "busybox", "--user", "--sys-prefix"), "exclude each other"),
        (("install", "--image", "busybox", "--user=me"), "--user takes no value"),
        (
            ("install", "--image", "busybox", "--kernel", "python3", "--notebooks", "x"),
            "invalid value for `--notebooks`",
        ),
        (("install", "--image", "busybox", "--kernel", "nosuch"), "no such kernel: 'nosuch'"),
        (("remove", "python3"), "python3"),
        (("nosuch",), "unknown verb nosuch"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    short_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """And nothing is installed."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["kernel", *words])
    assert ended.value.code in (1, 2)
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    kernels = short_path / "data" / "kernels"
    assert not kernels.exists() or list(kernels.iterdir()) == []


def test_a_kernel_joins_no_network_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    """The job belongs to a notebook, and a kernel is another process: nothing is installed."""
    before = kernelspec.installed()
    with pytest.raises(SystemExit):
        cli.main(["kernel", "install", "--image", "busybox", "--shell", "sh", "--network", "container:web"])
    assert "cannot join the network of container 'web'" in capsys.readouterr().err
    assert kernelspec.installed() == before
