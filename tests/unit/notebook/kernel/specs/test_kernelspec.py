"""Kernelspecs: made, listed, removed, and the one that comes with the package."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.notebook.kernel.specs import kernelspec

OURS = Path(__file__).parents[5] / "kernelspec" / "kernel.json"


@pytest.fixture(autouse=True)
def _jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with nothing installed."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "elsewhere"))


def names() -> list[str]:
    return [one.name for one in kernelspec.installed()]


def test_a_kernel_is_installed_listed_and_removed(tmp_path: Path) -> None:
    """What is listed has the words of its container; another one's kernel is nobody's to remove."""
    before = names()
    spec = kernelspec.document(["debian:12", "-v", "/a b:/data"], "Debian", shell="dash", store="/store")
    path = kernelspec.install(spec, "deb")
    assert path == tmp_path / "data" / "kernels" / "deb"
    found = next(one for one in kernelspec.installed() if one.name == "deb")
    assert (found.display_name, shlex.split(found.run)) == ("Debian", ["debian:12", "-v", "/a b:/data"])
    assert kernelspec.remove("deb") == path
    assert not path.exists()
    assert names() == before
    for name in ("deb", "python3"):
        with pytest.raises(UsageError, match=name):
            kernelspec.remove(name)


def test_a_kernel_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    """Nothing of the old one stays, and a directory that a killed installation left beside it is removed."""
    path = kernelspec.install(kernelspec.document(["busybox"], "first"), "deb")
    (path / "logo-32x32.png").write_text("old")
    left = path.parent / ".nbcontainer-unfinished-0"
    left.mkdir()
    kernelspec.install(kernelspec.document(["busybox"], "second"), "deb")
    assert [one.display_name for one in kernelspec.installed() if one.name == "deb"] == ["second"]
    assert [one.name for one in path.iterdir()] == ["kernel.json"]
    assert [one.name for one in path.parent.iterdir()] == ["deb"]


@pytest.mark.parametrize("name", ["", ".", "..", "...", ".hidden", "a/b", "a b", "ä", "A", "a\n"])
def test_a_kernel_of_a_false_name_removes_no_other(tmp_path: Path, name: str) -> None:
    """A name that leads to the directory of all kernels, or above it, is refused before anything is written."""
    path = kernelspec.install(kernelspec.document(["busybox"], "first"), "deb")
    with pytest.raises(UsageError, match="invalid kernel name"):
        kernelspec.install(kernelspec.document(["busybox"], "second"), name)
    assert [one.name for one in path.parent.iterdir()] == ["deb"]
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["kernels"]


def test_a_directory_that_another_process_writes_stays(tmp_path: Path) -> None:
    """An installation removes what killed processes left, and nothing that has a lock."""
    place = tmp_path / "data" / "kernels" / ".nbcontainer-unfinished-1"
    place.mkdir(parents=True)
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        kernelspec.install(kernelspec.document(["busybox"], "shown"), "deb")
        assert place.exists()
    finally:
        os.close(fd)
    kernelspec.remove("deb")
    assert not place.exists()


def test_a_document_is_one_that_jupyter_reads() -> None:
    """This Python runs the kernel, with the store and the shell that were asked for."""
    spec = kernelspec.document(["busybox"], "shown", shell="dash", store="/store")
    assert spec["argv"][0] == sys.executable
    assert "{connection_file}" in spec["argv"]
    assert "--ContainerKernel.shell_name=dash" in spec["argv"]
    assert spec["env"] == {"NBCONTAINER_HOME": "/store"}
    assert spec["interrupt_mode"] == "message"
    assert kernelspec.document(["busybox"], "shown")["env"] == {}


def test_a_kernel_is_installed_below_a_prefix(tmp_path: Path) -> None:
    """As `jupyter kernelspec install --prefix` does; what cannot be written is told in one line."""
    spec = kernelspec.document(["busybox"], "shown")
    assert kernelspec.install(spec, "b", prefix=str(tmp_path)) == tmp_path / "share/jupyter/kernels/b"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot install a kernel"):
        kernelspec.install(spec, "b", prefix=str(tmp_path / "file"))


def test_an_installed_kernel_is_made_one_inside_a_container(tmp_path: Path) -> None:
    """Its words stay, but for the interpreter, which is the image's; the provisioner launches it."""
    place = tmp_path / "elsewhere" / "kernels" / "own"
    place.mkdir(parents=True)
    argv = ["/opt/venv/bin/python3.12", "-m", "own", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Own", "env": {"A": "1"}}))
    spec = kernelspec.document_inside("own", ["my-python", "-m", "1g"], "Own inside", notebooks="ro")
    assert spec["argv"] == ["python3", *argv[1:]]
    assert spec["env"] == {"A": "1"}
    assert spec["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "nbcontainer",
        "config": {"run": "my-python -m 1g", "notebooks": "ro"},
    }
    kernelspec.install(spec, "inside")
    assert next(one.run for one in kernelspec.installed() if one.name == "inside") == "my-python -m 1g"
    with pytest.raises(UsageError, match="no such kernel: 'nosuch'"):
        kernelspec.document_inside("nosuch", ["x"], "x")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "nbcontainer-busybox"),
        ("docker.io/library/debian:12", "nbcontainer-debian-12"),
        ("/a/My Rootfs.tar.gz", "nbcontainer-my-rootfs"),
        ("", "nbcontainer"),
    ],
)
def test_a_name_is_made_of_the_images(image: str, name: str) -> None:
    """One that Jupyter takes."""
    assert kernelspec.check_name(kernelspec.name_for(image)) == name


def test_a_name_that_jupyter_does_not_take_is_refused() -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match="invalid kernel name"):
        kernelspec.install({}, "a b")


def test_the_kernel_that_comes_with_the_package_is_a_kernel_of_ours() -> None:
    """Its argv is that of any other, but for the interpreter, which Jupyter finds."""
    spec = json.loads(OURS.read_text())
    made = kernelspec.document(["busybox"], spec["display_name"], notebooks="ro")
    assert spec["argv"] == ["python", *made["argv"][1:]]
    assert {name: made[name] for name in spec if name != "argv"} == {
        name: spec[name] for name in spec if name != "argv"
    }
