"""What is committed: a tar that every tool reads, an image in a layout that others read, and always the same bytes."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from tests.interop.conftest import run
from tests.requirements import require, require_root
from tests.running import run_script
from tests.unit.images.tars import snapshot

if TYPE_CHECKING:
    from tests.interop.conftest import Ours, Podman

CHANGES = """
mkdir -p /app/empty /app/deep/er
echo kept > /app/file && ln /app/file /app/hard && ln -s file /app/soft && ln -s /no/where /app/dangling
chmod 4711 /app/file && chmod 1777 /app/deep && mkfifo /app/fifo
printf 'odd' > "/app/$(printf 'n\\303\\251w\\nline')" && head -c 70000 /dev/zero > /app/zeros
: > /app/$(printf '%0150d' 7)
rm -r /etc /bin/vi
mkdir /etc && echo new > /etc/hostname
"""
APP = [
    "app",
    "app/" + "7".rjust(150, "0"),
    "app/dangling",
    "app/deep",
    "app/deep/er",
    "app/empty",
    "app/fifo",
    "app/file",
    "app/hard",
    "app/n\u00e9w\nline",
    "app/soft",
    "app/zeros",
]


@pytest.fixture
def committed(fresh: Ours, tmp_path: Path) -> Path:
    """The tar of image `made`, of which a cell has changed much; the cell had a volume and looked everywhere."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "secret").write_text("of the host")
    volumes = tuple(parse_volume(f"{data}:{target}") for target in ("/data", "/app/volume"))
    script = (
        CHANGES + "echo > /data/more; echo > /dev/shm/memory; echo > /tmp/left; ls -R /proc/self /sys >/dev/null 2>&1"
    )
    run_script(fresh.engine, script, name="box", volumes=volumes)
    target = tmp_path / "made.tar"
    fresh("commit", "box", "made", "-o", target, "--change", 'CMD ["cat", "/app/file"]')
    return target


def test_gnu_tar_reads_it(committed: Path, tmp_path: Path) -> None:
    """GNU tar unpacks the tree that the cell left: contents, modes, links, odd names, nothing deleted."""
    require("tar")
    tree = tmp_path / "tree"
    tree.mkdir()
    run("tar", "-C", tree, "-xpf", committed, "--no-same-owner")
    app = tree / "app"
    assert (app / "file").read_text() == (app / "soft").read_text() == "kept\n"
    assert (app / "file").stat().st_ino == (app / "hard").stat().st_ino
    assert (app / "file").stat().st_mode & 0o7777 == 0o4711
    assert (app / "deep").stat().st_mode & 0o7777 == 0o1777
    assert (app / "dangling").readlink() == Path("/no/where")
    assert (app / "n\u00e9w\nline").read_text() == "odd"
    assert (app / "zeros").read_bytes() == bytes(70_000)
    assert [path.name for path in (tree / "etc").iterdir()] == ["hostname"]
    assert not (tree / "bin" / "vi").exists()
    assert (tree / "bin" / "sh").exists()


def test_only_the_root_file_system_is_in_it(committed: Path) -> None:
    """The tar has every path once; nothing of volumes, /proc, /dev and /sys, and no trace of what was deleted."""
    with tarfile.open(committed) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    assert sorted(name for name in names if name.startswith("app")) == sorted([*APP, "app/volume"])
    assert [name for name in names if name.split("/")[0] in ("data", "proc", "dev", "sys", "etc", "tmp")] == [
        "data",
        "dev",
        "etc",
        "etc/hostname",
        "proc",
        "sys",
        "tmp",
        "tmp/left",
    ]
    assert not [name for name in names if ".wh." in name or "nbcontainer" in name]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.zst"])
def test_compressed_tars(committed: Path, fresh: Ours, tmp_path: Path, suffix: str) -> None:
    """A target's name chooses how it is compressed; unpacked, it is the same tar."""
    program = "zstd" if suffix.endswith("zst") else "gzip"
    require(program)
    target = tmp_path / f"again{suffix}"
    fresh("export", "made", "-o", target)
    with target.open("rb") as packed:
        unpacked = subprocess.run([program, "-dc"], stdin=packed, capture_output=True, check=True).stdout
    assert unpacked == committed.read_bytes()


def test_podman_imports_and_runs_it(committed: Path, podman: Podman) -> None:
    """`podman import` takes the tar, and what it makes of it runs."""
    podman("import", committed, "localhost/committed:1")
    said = podman("run", "--rm", "--network", "none", "localhost/committed:1", "cat", "/app/file", "/etc/hostname")
    assert said.startswith("kept\n")
    assert podman("run", "--rm", "--network", "none", "localhost/committed:1", "sh", "-c", "ls /bin/vi || echo gone")


@pytest.mark.usefixtures("committed")
def test_the_store_is_a_layout_with_the_image(fresh: Ours, tmp_path: Path) -> None:
    """skopeo finds the committed image in the store itself, with its layers and configuration, and copies it."""
    require("skopeo")
    source = f"oci:{fresh.engine.store.path}:made"
    image = fresh.image("made")
    seen = json.loads(run("skopeo", "inspect", source))
    assert seen["Digest"] == image.digest
    assert seen["Layers"] == [layer.blob.digest for layer in image.layers]
    config = json.loads(run("skopeo", "inspect", "--config", source))
    assert config["config"]["Cmd"] == ["cat", "/app/file"]
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    assert config["history"][-1]["created_by"].startswith("\nmkdir -p /app/empty")
    run("skopeo", "copy", source, f"docker-archive:{tmp_path}/docker.tar:made:1")
    assert fresh("load", tmp_path / "docker.tar").startswith("made:1  sha256:")


@pytest.mark.usefixtures("committed")
def test_umoci_sees_the_same_tree(fresh: Ours, committed: Path, tmp_path: Path) -> None:
    """umoci unpacks from the store what GNU tar unpacks of the committed tar, whoever the user is."""
    require("umoci")
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run("umoci", "unpack", *rootless, "--image", f"{fresh.engine.store.path}:made", tmp_path / "bundle")
    tree = tmp_path / "tree"
    tree.mkdir()
    owners = [] if os.geteuid() == 0 else ["--no-same-owner"]
    run("tar", "-C", tree, "-xpf", committed, *owners)
    theirs, mine = snapshot(tmp_path / "bundle" / "rootfs"), snapshot(tree)
    assert theirs.keys() == mine.keys()
    for path, node in mine.items():
        if path not in (b"", b"."):  # the root itself has the time of the unpacking
            assert replace(theirs[path], device=node.device) == node, path


def test_only_the_changes_are_in_the_layer(committed: Path, fresh: Ours) -> None:
    """The new layer has what the cell made, and whiteouts for what it deleted; the image below is the same blob."""
    assert committed.exists()
    made, base = fresh.image("made"), fresh.image("busybox")
    assert made.layers[:-1] == base.layers
    with tarfile.open(fresh.engine.store.blobs.path(made.layers[-1].blob.digest)) as tar:
        names = tar.getnames()
    assert set(names) >= {*APP, "bin/.wh.vi", "etc/hostname", "tmp/left", "data", "app/volume"}
    assert not set(names) & {"bin/sh", "etc/passwd", "data/secret", "data/more", "app/volume/secret", "proc", "sys"}
    assert made.layers[-1].blob.size < 200_000


AGAIN = CHANGES + "find /app /etc -exec touch -hd @1000000000 {} +; touch -d @1000000000 /bin /"


def test_the_same_files_are_the_same_layer(fresh: Ours) -> None:
    """Two containers in which the same was done have one layer, though they ran one after the other."""
    for name in ("one", "two"):
        run_script(fresh.engine, AGAIN, name=name)
        fresh("commit", name, name)
    one, two = fresh.image("one").layers, fresh.image("two").layers
    assert [layer.diff_id for layer in one] == [layer.diff_id for layer in two]
    assert [layer.blob for layer in one] == [layer.blob for layer in two]


def test_a_commit_again_is_the_same_image(fresh: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    """One container committed twice is one image under SOURCE_DATE_EPOCH; without, its layers are the same."""
    run_script(fresh.engine, CHANGES, name="box")
    fresh("commit", "box", "one")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    fresh("commit", "box", "two")
    fresh("commit", "box", "three")
    assert fresh.image("two").digest == fresh.image("three").digest
    assert fresh.image("two").created == "2001-09-09T01:46:40Z"
    assert fresh.image("one").created > fresh.image("two").created


DIGESTS = """
import sys
import nbcontainer
container = nbcontainer.run("busybox", script=sys.argv[1], name="box").container
image = nbcontainer.commit(container, "image", message="why")
print(*[layer.diff_id for layer in image.layers], image.digest)
"""


def digests(python: str, place: Path, *prefix: str) -> list[str]:
    """The digests of an image made by a process of its own, as another user with `prefix`, in a store at `place`."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), *sys.path)))
    env = {
        "NBCONTAINER_HOME": str(place / "store"),
        "HOME": str(place),
        "SOURCE_DATE_EPOCH": "1000000000",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return run_with(env, *prefix, python, "-c", DIGESTS, CHANGES).split()


def run_with(env: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_stores_give_one_digest(fresh: Ours, tmp_path: Path) -> None:
    """The same cell on two stores, in two processes, gives one image, digest for digest."""
    assert fresh
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(digests(sys.executable, tmp_path / name))
    assert found[0] == found[1]
    assert len(found[0]) == 3


def others() -> list[str]:
    """Users of this machine: one with a range of subordinate ids, and one without."""
    ranged = {line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines()} if _has_subuid() else set()
    known = [user.pw_name for user in pwd.getpwall() if user.pw_uid not in (0, 65534) and user.pw_name in ranged]
    return [*known[:1], "nobody"]


def _has_subuid() -> bool:
    return Path("/etc/subuid").exists()


@pytest.mark.parametrize("kind", ["ranged", "unranged"])
def test_root_and_users_give_one_digest(fresh: Ours, kind: str) -> None:
    """Root, a user with a range of ids and one with a single id commit the same image, digest for digest."""
    require_root()
    require("setpriv")
    assert fresh
    users = others()
    require("a user with subordinate ids", available=kind == "unranged" or len(users) == 2)
    user = pwd.getpwnam(users[0] if kind == "ranged" else "nobody")
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    place = Path(tempfile.mkdtemp(prefix="nbc", dir="/tmp"))
    try:
        python = _python_of(become)
        (place / "root").mkdir()
        (place / "user").mkdir()
        place.chmod(0o755)
        os.chown(place / "user", user.pw_uid, user.pw_gid)
        assert digests(sys.executable, place / "root") == digests(python, place / "user", *become)
    finally:
        shutil.rmtree(place)


def _python_of(become: list[str]) -> str:
    """An interpreter that the other user may use, too, with what this one has."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), *sys.path)))
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [
            *become,
            python,
            "-c",
            "import os, sys, nbcontainer.api; sys.exit(not os.access(sys.executable, os.X_OK))",
        ]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(probe, env=env, capture_output=True, check=False)
        if done.returncode == 0:
            return python
    require(
        "an interpreter for others", available=False, why=f"no interpreter for others: {done.stderr.decode()[-200:]}"
    )
    raise AssertionError
