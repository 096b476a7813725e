"""`nbcontainer kernel install|list|remove`, and notebooks in what they install."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import KernelManager

from nbcontainer import cli
from tests.notebook.kernels import Cell

if TYPE_CHECKING:
    from pathlib import Path

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
    manager = KernelManager(kernel_name="ours", transport="ipc", connection_file=str(short_path / "installed.json"))
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    try:
        assert Cell(client, client.execute("cat /data/file")).end().good().stdout == "shown"
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    do("remove", "ours")
    capsys.readouterr()
    do("list")
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("install",), "missing image"),
        (("install", "--image", "nosuch.localhost/x", "--pull", "never"), "nosuch.localhost/x"),
        (("install", "--image", "busybox", "--name", "a b"), "invalid kernel name"),
        (("install", "--image", "busybox", "--network", "nosuch"), "nosuch"),
        (("install", "--image", "busybox", "-v", "/nonexistent:/x"), "/nonexistent"),
        (("install", "--image", "busybox", "--notebooks", "ro"), "--kernel"),
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
