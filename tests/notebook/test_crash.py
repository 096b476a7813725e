"""SIGKILL to the notebook's process, at every sort of moment: nothing runs on, and the store is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from nbcontainer.containers.lookup import list_all
from tests.notebook.kernels import Kernel
from tests.requirements import require
from tests.running import DEADLINE, all_dead, appear, descendants, marker, mounts, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
MAGICS = "get_ipython().magics_manager.registry['ContainerMagics']"


@pytest.fixture
def store(tmp_path: Path, _containers_work: str) -> Path:
    """A store of the test's own."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    return tmp_path / "store"


@pytest.fixture
def victim(short_path: Path, store: Path) -> Iterator[Kernel]:
    """The kernel that is killed: it has the extension, and the image that cells run in."""
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        kernel.run("%%container busybox\ntrue").good()
        yield kernel


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Returns when it is so. What happens in another process's directory is looked for, since nobody tells."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.001)


def kill(kernel: Kernel) -> None:
    """Kills the notebook's process alone; everything below it must die of that."""
    below = pidfds(descendants(kernel.pid))
    assert below
    kernel.kill()
    assert all_dead(below)


def check_blobs(store: Path) -> set[str]:
    """The names in the index, each with a manifest, a configuration and layers whose digests are right."""
    index = json.loads((store / "index.json").read_text())
    names = set()
    for entry in index["manifests"]:
        names.add(entry["annotations"]["org.opencontainers.image.ref.name"])
        manifest = json.loads(blob(store, entry))
        for descriptor in (manifest["config"], *manifest["layers"]):
            blob(store, descriptor)
    return names


def blob(store: Path, descriptor: dict[str, object]) -> bytes:
    digest = str(descriptor["digest"])
    data = (store / "blobs" / digest.replace(":", "/")).read_bytes()
    assert len(data) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data


def next_start(short_path: Path, store: Path) -> None:
    """Another notebook starts on the store: what the dead one left is gone, and a cell runs."""
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        kernel.run(f"{MAGICS}.engine.background.wait()").good()
        session = kernel.value(f"{MAGICS}.engine.store.session").strip("'")
        assert [path.name for path in (store / "sessions").iterdir()] == [session]
        strange = [path.name for path in (store / "tmp").iterdir() if not path.name.startswith(session)]
        assert not strange
        assert kernel.run("%%container busybox\necho fine").good().stdout == "fine\n"
        assert "no containers" not in kernel.run("%container ps").good().result
    named = {path.readlink().name for path in (store / "layers" / "sha256").iterdir()}
    with contextlib.closing(Engine(store)) as engine:
        kept = {layer for container in list_all(engine)[0] for layer in container.layers}
    assert {path.name for path in (store / "layers").iterdir()} == named | kept - {""} | {"sha256"}


@pytest.mark.parametrize(
    "body",
    [
        "sleep MARK",
        "trap '' INT TERM HUP QUIT; sleep MARK & sleep MARK",
        "setsid sleep MARK & (trap '' HUP; exec sleep MARK) & sleep MARK",
    ],
)
def test_nothing_of_a_cell_runs_on(victim: Kernel, short_path: Path, store: Path, tmp_path: Path, body: str) -> None:
    """SIGKILL in the middle of a cell ends its processes and mounts; its container is swept, its volume is not."""
    mark = marker()
    data = tmp_path / "data"
    data.mkdir()
    body = f"echo kept > /data/file; dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null; {body.replace('MARK', mark)}"
    victim.send(f"%%container busybox -v {data}:/data\n{body}")
    sleeping = pidfds(appear(mark, body.count(mark)))
    kill(victim)
    assert all_dead(sleeping)
    assert not processes_with(mark)
    assert not [line for line in mounts() if str(tmp_path) in line or str(store) in line]
    next_start(short_path, store)
    assert check_blobs(store) == {"busybox"}
    assert not list((store / "containers").iterdir())
    assert (data / "file").read_text() == "kept\n"


def test_a_named_container_survives(victim: Kernel, short_path: Path, store: Path) -> None:
    """What earlier cells of a named container wrote is there after a SIGKILL in a later one, whose writes are not."""
    mark = marker()
    victim.run("%%container busybox --name dev\necho one > /one").good()
    victim.send(f"%%container --name dev\necho two > /two; sleep {mark}")
    appear(mark, 1)
    kill(victim)
    next_start(short_path, store)
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        assert kernel.run("%%container --name dev\ncat /one; ls /two 2>/dev/null || echo gone").stdout == "one\ngone\n"


def test_a_spare_dies_with_the_notebook(victim: Kernel, short_path: Path, store: Path) -> None:
    """SIGKILL while nothing runs ends the launcher and the containers that wait ready."""
    victim.run(f"{MAGICS}.engine.background.wait()").good()
    kill(victim)
    next_start(short_path, store)


def archive(tmp_path: Path) -> bytes:
    """A tar of some megabytes."""
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(40):
            info = tarfile.TarInfo(f"dir/file{number}")
            info.size = 200_000
            with open("/dev/urandom", "rb") as noise:  # noqa: PTH123
                tar.addfile(info, noise)
    return path.read_bytes()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 1.0])
def test_a_kill_in_the_middle_of_an_import(
    victim: Kernel, short_path: Path, store: Path, tmp_path: Path, part: float
) -> None:
    """SIGKILL during an import, whatever part of the archive it has seen, leaves no image and nothing to be seen."""
    data = archive(tmp_path)
    pipe = tmp_path / "pipe.tar"
    os.mkfifo(pipe)
    # A pipe is read from as a descriptor, and never by its name.
    victim.send(f"import os\nfd = os.open({str(pipe)!r}, os.O_RDONLY)\n%container import /dev/fd/{{fd}} half")
    with pipe.open("wb") as feed:
        wait_for(lambda: [path for path in (store / "tmp").iterdir() if (path / "diff").is_dir()], "the import")
        feed.write(data[: int(len(data) * part)])
        feed.flush()
        if part:
            wait_for(lambda: unpacked(store), "the first file")
        kill(victim)
        assert check_blobs(store) == {"busybox"}
    next_start(short_path, store)
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        error = kernel.run("%%container --pull never half\ntrue").error
        assert error is not None
        assert error["ename"] == "ImageNotFound"
        kernel.run(f"%container import {tmp_path}/archive.tar half").good()
        assert kernel.run("%%container half ls /dir\n\n").error is not None  # there is no ls in it
        assert check_blobs(store) == {"busybox", "half"}


def unpacked(store: Path) -> bool:
    """Whether a file of the archive has been made. It is the layer's owner's: only its size on disk is looked at."""
    for path in (store / "tmp").iterdir():
        try:
            if (path / "diff" / "dir").exists():
                return True
        except PermissionError:
            return True
    return False


MANY_FILES = "mkdir /big; for i in $(seq 40); do dd if=/dev/urandom of=/big/$i bs=1M count=1 2>/dev/null; done"


def being_written(kernel: Kernel, folder: Path) -> int:
    """Bytes of the largest file in `folder` that the kernel has open, with a name or without one."""
    found = 0
    for fd in Path(f"/proc/{kernel.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(fd.readlink()).startswith(f"{folder}/") and stat.S_ISREG(fd.stat().st_mode):
                found = max(found, fd.stat().st_size)
    return found


@pytest.mark.parametrize("least", [1, 10_000_000, 30_000_000])
def test_a_kill_in_the_middle_of_a_commit(
    victim: Kernel, short_path: Path, store: Path, tmp_path: Path, least: int
) -> None:
    """SIGKILL during a commit leaves no image, and the container as it was: it commits after the next start."""
    victim.run(f"%%container busybox --name dev\n{MANY_FILES}").good()
    victim.send("%commit dev half")
    wait_for(lambda: being_written(victim, store / "tmp") >= least, "the commit")
    kill(victim)
    assert check_blobs(store) == {"busybox"}
    next_start(short_path, store)
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        kernel.run("%commit dev half").good()
        assert kernel.run("%%container half\ncat /big/* | wc -c").good().stdout == f"{40 << 20}\n"
        assert check_blobs(store) == {"busybox", "half"}


@pytest.mark.parametrize("least", [1, 20_000_000])
def test_a_kill_in_the_middle_of_an_export(
    victim: Kernel, short_path: Path, store: Path, tmp_path: Path, least: int
) -> None:
    """SIGKILL during an export leaves the file that was there before, and no half of a new one beside it."""
    place = tmp_path / "out"
    place.mkdir()
    target = place / "dev.tar"
    target.write_text("the old one")
    victim.run(f"%%container busybox --name dev\n{MANY_FILES}").good()
    victim.send(f"%container export dev -o {target}")
    wait_for(lambda: being_written(victim, place) >= least, "the export")
    kill(victim)
    assert [path.name for path in place.iterdir()] == ["dev.tar"]
    assert target.read_text() == "the old one"
    next_start(short_path, store)
    with Kernel(short_path, store) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        kernel.run(f"%container export dev -o {target}").good()
    with tarfile.open(target) as tar:
        assert tar.getmember("big/40").size == 1 << 20


@pytest.mark.slow
def test_many_kills_at_any_moment(short_path: Path, store: Path, tmp_path: Path) -> None:
    """Killed again and again while it runs, commits, imports and removes: every next start finds a whole store."""
    code = (
        "import itertools\n"
        "%load_ext nbcontainer\n"
        "ip = get_ipython()\n"
        "for n in itertools.count():\n"
        "    print(f'round {n}.', flush=True)\n"
        "    ip.run_cell_magic('container', 'busybox --name dev', f'echo {n} >> /log; echo {n} > /file{n}')\n"
        "    ip.run_line_magic('commit', f'dev image{n % 3}')\n"
        "    ip.run_cell_magic('container', f'image{n % 3}', 'cat /log > /copy')\n"
        "    if n % 4 == 3: ip.run_line_magic('container', 'rm dev')\n"
        "    if n % 4 == 1: ip.run_line_magic('container', f'rmi image{n % 3}')\n"
    )
    for turn in range(5):
        with Kernel(short_path, store) as kernel:
            kernel.send(code).until(f"round {turn + 1}.")
            kill(kernel)
        check_blobs(store)
    next_start(short_path, store)
