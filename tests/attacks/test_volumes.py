"""Volumes: where they are mounted, and what another container that shares one can do about it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.errors import SetupFailed, UsageError
from tests.attacks.attacker import Node, attack_script
from tests.attacks.inside import call
from tests.attacks.ways import WAYS, Way
from tests.requirements import require, require_root

if TYPE_CHECKING:
    from tests.attacks.attacker import Attacker


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory of the host's, for a volume that containers share; it outlives them."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of the host's with a file in it, for a volume of the victim's alone."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "mark").write_text("mark")
    return folder


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/1/attr", "/proc/self/fd", "/sys", "/sys/fs", "/dev", "/dev/null", "/"]
)
def test_no_volume_goes_over_the_kernels_files(target: str, secret: Path) -> None:
    """`-v` and `--tmpfs` refuse a target in /proc, /sys or /dev, and the root itself."""
    for name in (target, f"{target}/", f"/x/..{target}", f"/{target}"):
        with pytest.raises(UsageError, match="target"):
            parse_volume(f"{secret}:{name}")
        with pytest.raises(UsageError, match="target"):
            parse_tmpfs(name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "link", ["/proc", "/proc/self/attr", "/sys/fs", "/dev", "/", "../../..", "/proc/self/root", "/proc/self/cwd"]
)
def test_no_link_of_an_image_leads_a_volume_over_them(link: str, way: Way, attack: Attacker, secret: Path) -> None:
    """A target that an image makes a link to them, or to the root, is refused."""
    image = attack.image_of("leading", {"data": Node(link=link)}, python=False)
    for options in ({"volumes": (parse_volume(f"{secret}:/data"),)}, {"tmpfs": (parse_tmpfs("/data"),)}):
        with pytest.raises(SetupFailed):
            attack.run("exit 0", image=image, **options, **way.options())


@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_leads_up_ends_in_the_container(way: Way, attack: Attacker, secret: Path) -> None:
    """A link of the image's to ../../../srv is the container's /srv: the volume is there, and not in the host's."""
    image = attack.image_of("up", {"data": Node(link="../../../../../../srv")}, python=False)
    volumes = (parse_volume(f"{secret}:/data/inside"),)
    ran = attack.run("cat /srv/inside/mark", image=image, volumes=volumes, **way.options())
    assert ran.stdout == b"mark"
    assert not Path("/srv/inside").exists()


def swap(folder: str, links: list[str]) -> object:
    """Exchanges a directory and a link for each other until told to stop: how often."""
    os.makedirs(f"{folder}/target/deep", exist_ok=True)
    for number, link in enumerate(links):
        os.symlink(link, f"{folder}/link{number}")
    open(f"{folder}/ready", "w").close()
    count = 0
    here = os.open(folder, os.O_RDONLY)
    while not os.path.exists(f"{folder}/stop"):
        name = f"link{count // 2 % len(links)}".encode()
        assert call("renameat2", here, b"target", here, name, 2) == 0
        count += 1
    return count


RACES = int(os.environ.get("NBCONTAINER_RACES", "100"))
"""Cells that start while a target is exchanged; thousands by hand."""

LOOK = """
echo /*
[ -d /proc/1 ] && [ -c /dev/null ] && cat /shared/target/deep/mark /tmp/deep/mark /deep/mark 2> /dev/null
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_race_for_a_volumes_target_is_not_won(attack: Attacker, shared: Path, secret: Path) -> None:
    """While another container exchanges the target for links, in a volume that both have, a hundred cells with a
    volume on that target start with it inside their own root, or not at all (CVE-2021-30465, CVE-2024-45310)."""
    links = ["/", "/proc", "/tmp", "../../../../../../..", "/proc/self/root", "/etc/../.."]
    volumes = (parse_volume(f"{shared}:/shared"),)
    swapped: list[int] = []
    script = attack_script(swap, ("/shared", links))
    swapper = threading.Thread(target=lambda: swapped.append(attack.run(script, volumes=volumes, remove=True).answer))
    swapper.start()
    try:
        while not (shared / "ready").exists():
            assert swapper.is_alive()
        (root,) = attack.run("echo /*", image="busybox", volumes=volumes).stdout.splitlines()
        mine = (*volumes, parse_volume(f"{secret}:/shared/target/deep"))
        started = refused = 0
        for _ in range(RACES):
            try:
                listing, *marks = attack.run(LOOK, image="busybox", volumes=mine).stdout.splitlines()
            except SetupFailed as error:
                refused += 1
                assert error.step == "BindVolume"  # noqa: PT017 - it is one of two good ends
                continue
            started += 1
            assert set(listing.split()) - {b"/deep"} == set(root.split())
            assert b"".join(marks).replace(b"mark", b"") == b""
        assert started > RACES // 15
        assert refused > RACES // 15
    finally:
        (shared / "stop").touch()
        swapper.join()
    assert swapped[0] > 1000
    assert sorted(os.listdir(secret)) == ["mark"]


LATER = """
import os, subprocess, sys, threading
from pathlib import Path
from nbcontainer.containers import mounts
from nbcontainer.containers.engine import Engine
from nbcontainer.commands.options.volumes import parse_volume
from tests.running import DEADLINE, run_script

store, place, option, script = sys.argv[1:]
options = {"network": "host"} if not option else {}
if option == "here":
    options["volumes"] = (mounts.notebook_directory(Engine(Path(store)).store, place, read_only=True),)
elif option:
    options["volumes"] = (parse_volume(f"{place}:{place}:{option}"),)
mounted = f"{place}/sub" if option else place
engine, ready, text = Engine(Path(store)), threading.Event(), []
read, write = os.pipe()

def note(data):
    text.append(data.decode())
    ready.set()

cell = threading.Thread(target=lambda: run_script(engine, script, stdin=read, stdout=note, **options))
cell.start()
assert ready.wait(DEADLINE)
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "none", mounted], check=True)
subprocess.run(["mknod", "-m", "666", f"{mounted}/zero", "c", "1", "5"], check=True)
os.write(write, b"go on\\n")
cell.join(DEADLINE)
print(sorted(os.listdir(mounted)), "".join(text).split())
subprocess.run(["umount", mounted], check=True)
engine.close()
"""
"""A notebook whose host makes a mount, with a device in it, at a place of a cell that runs.

Says what is there then, and what the cell wrote."""


@pytest.mark.parametrize("option", ["ro", "here", "", "rslave"])
def test_no_later_mount_of_the_host_is_open(option: str, attack: Attacker, tmp_path: Path) -> None:
    """Where the host's mounts are shared (systemd makes them so), a mount that it makes in a read-only volume would be
    writable, and so in /sys of a cell with its network. With `rslave`, which no read-only volume has, it is."""
    require_root()
    require("unshare")
    attack.engine.images.find("busybox")
    (tmp_path / "sub").mkdir()
    tmp_path.chmod(0o755)
    place = str(tmp_path) if option else "/sys/kernel"
    mounted = f"{place}/sub" if option else place
    script = (
        f"echo ready; read line; echo > {mounted}/new && echo written; head -c 1 {mounted}/zero && echo opened; true"
    )
    words = [sys.executable, "-c", LATER, str(attack.engine.store.path), place, option, f"exec 2>/dev/null; {script}"]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "shared", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    later = "['new', 'zero'] ['ready', 'written', '\\x00opened']" if option == "rslave" else "['zero'] ['ready']"
    assert done.stdout == f"{later}\n"
