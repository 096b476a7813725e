"""What programs expect inside a container: its own name, streams by /proc/1, mounts in /etc/mtab, echo requests."""

from __future__ import annotations

import io
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.diff import diff
from nbcontainer.containers.lookup import get
from nbcontainer.errors import LimitUnavailable
from nbcontainer.images.archives.loading import ImportOptions
from nbcontainer.images.builtin.busybox import busybox
from nbcontainer.sandbox.cgroups.group import GroupLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]

OWN_NAME = 'ping -c1 -w1 "$(hostname)" | head -n1'


def variant(engine: Engine, tmp_path: Path, name: str, *, without: tuple[str, ...] = (), links: dict[str, str]) -> str:
    """Import `busybox` without some files and with some links, and return the image's name."""
    path = tmp_path / "root.tar"
    with tarfile.open(fileobj=io.BytesIO(busybox()[0])) as source, tarfile.open(path, "w") as target:
        for entry in source:
            if not entry.name.startswith(without or "-"):
                target.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
        for at, to in links.items():
            entry = tarfile.TarInfo(at)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            target.addfile(entry)
    with path.open("rb") as file:
        engine.images.load(file.fileno(), ImportOptions(name=f"{name}:test"))
    return f"{name}:test"


IMAGES = {
    "own-hosts": ((), {}),
    "no-hosts": (("etc/hosts",), {}),
    "no-etc": (("etc",), {}),
    "hosts-link": (("etc/hosts",), {"etc/hosts": "../tmp/hosts"}),
    "hosts-link-to-file": (("etc/hosts",), {"etc/hosts": "passwd"}),
}


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
@pytest.mark.parametrize("name", IMAGES)
def test_the_own_name_is_found_and_nothing_is_written(
    engine: Engine, cell: Cell, tmp_path: Path, name: str, read_only: bool
) -> None:
    """Whatever the image has at /etc/hosts, the container's name has an address, and its layers have no file of it."""
    without, links = IMAGES[name]
    image = variant(engine, tmp_path, name, without=without, links=links)
    ran = cell(OWN_NAME, image=image, read_only=read_only)
    assert ran.text == f"PING {ran.container.name} (127.0.0.1): 56 data bytes"
    assert diff(ran.container) == []
    assert not ran.container.cells[-1].layer


@pytest.mark.parametrize("network", ["none", "host"])
def test_a_chosen_name_is_found(cell: Cell, network: str) -> None:
    """With `--hostname`, too, in every network, and in the image `host`."""
    assert "me (127.0.0.1)" in cell("ping -c1 -w1 me", hostname="me", network=network).text
    script = "import socket; print(socket.gethostbyname('me'), socket.gethostbyname('localhost'))"
    ran = cell(None, image="host", command=("python3", "-c", script), hostname="me", network=network)
    assert ran.text == "127.0.0.1 127.0.0.1"


def test_an_image_without_a_usable_etc_runs(engine: Engine, cell: Cell, tmp_path: Path) -> None:
    """Where /etc is a link to nowhere, there is no hosts file, and the cell runs."""
    image = variant(engine, tmp_path, "etc-link", without=("etc",), links={"etc": "nowhere"})
    ran = cell("echo runs; readlink /etc", image=image)
    assert ran.lines == ["runs", "nowhere"]
    assert not ran.container.cells[-1].layer


def test_the_mounts_are_in_mtab(cell: Cell) -> None:
    """/etc/mtab shows the mounts of the container in an image without one, and is no change."""
    ran = cell("grep -c ' / overlay' /etc/mtab; readlink /etc/mtab")
    assert ran.lines == ["1", "/proc/self/mounts"]
    assert not ran.container.cells[-1].layer


@pytest.mark.parametrize("user", ["", "www-data"])
def test_output_by_process_1_is_the_cells(engine: Engine, cell: Cell, user: str) -> None:
    """What is written to /proc/1/fd/1 and /dev/stdout is the cell's output, as root and as another user."""
    if user and not engine.launcher.idmap.setgroups:
        pytest.skip("a single id has no other users")
    ran = cell("echo a > /proc/1/fd/1; echo b > /proc/1/fd/2; echo c > /dev/stdout; cat /proc/1/fd/0", user=user)
    assert (ran.lines, ran.stderr) == (["a", "c"], b"b\n")


def test_the_first_process_is_2_wherever_path_finds_it(cell: Cell) -> None:
    """The links lead to process 2, which is the program even if PATH has other directories and files before it."""
    path = "/nowhere:/etc:/usr/local/bin:/bin"
    ran = cell(None, command=("sh", "-c", "echo $$; echo log > /proc/1/fd/1"), env=(f"PATH={path}",))
    assert ran.lines == ["2", "log"]


def test_echo_requests_need_no_raw_socket(cell: Cell) -> None:
    """A datagram socket for ICMP sends an echo request to 127.0.0.1 and gets the answer, as ping of iputils does."""
    script = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as ping:
    ping.settimeout(5)
    ping.sendto(bytes((8, 0, 0, 0, 0, 0, 0, 1)), ("127.0.0.1", 0))
    print(ping.recv(64)[0])
"""
    assert cell(None, image="host", command=("python3", "-c", script)).text == "0"


JVM_FILES = """
import os, pathlib
top = pathlib.Path("/sys/fs/cgroup")
memory, cpu = ("memory.max", "memory/memory.limit_in_bytes"), ("cpu.max", "cpu/cpu.cfs_quota_us")
for pair in (memory, cpu, ("pids.max", "pids/pids.max")):
    print(next(((top / name).read_text().split()[0] for name in pair if (top / name).exists()), "none"))
mounts = [line.split() for line in open("/proc/self/mountinfo") if " - cgroup" in line]
print(all(fields[3] == "/" and "ro" in fields[5].split(",") for fields in mounts), len(mounts) in (1, 5))
print(set(line.strip().split(":", 2)[2] for line in open("/proc/self/cgroup")))
refused = 0
for folder, _, files in os.walk(top):
    for name in files:
        try:
            os.open(f"{folder}/{name}", os.O_WRONLY)
            print(folder, name)
        except OSError:
            refused += 1
print(refused > 5, (top / "release_agent").exists() or (top / "memory/release_agent").exists())
"""


def test_limits_are_seen_and_cannot_be_written(cell: Cell) -> None:
    """The files that the JVM reads have the limits, by one mount of version 2 or five of version 1, all read-only.

    Each group is the root of what is seen, and has no name of the host's.
    """
    command = ("python3", "-c", JVM_FILES)
    try:
        ran = cell(None, image="host", command=command, cgroup_limits=GroupLimits(memory=512 << 20, cpus=1.0, pids=50))
    except LimitUnavailable as error:
        pytest.skip(str(error))
    assert ran.lines == ["536870912", "100000", "50", "True True", "{'/'}", "True False"]


def test_without_limits_nothing_is_mounted_for_them(cell: Cell) -> None:
    """A cell without a group of its own sees an empty directory."""
    assert cell("ls -A /sys/fs/cgroup; grep -c ' - cgroup' /proc/self/mountinfo").lines == ["0"]


def test_java_chooses_its_heap_by_the_limit(cell: Cell) -> None:
    """Under `-m 512m`, Java's heap is a quarter of that, and not of the machine's memory."""
    if shutil.which("java") is None:
        pytest.skip("needs java")
    script = "java -XX:+PrintFlagsFinal -version 2>&1 | grep -w MaxHeapSize"
    try:
        ran = cell(script, image="host", cgroup_limits=GroupLimits(memory=512 << 20))
    except LimitUnavailable as error:
        pytest.skip(str(error))
    assert 100 << 20 < int(ran.text.split()[3]) < 160 << 20


def test_etc_can_be_removed_and_replaced_and_hosts_is_no_change(cell: Cell, engine: Engine) -> None:
    """/etc/hosts is in a lower of its own: no mount holds it, it is in no diff, and its directory keeps its mode."""
    ran = cell("chmod 750 /etc; rm /etc/passwd", name="dev")
    assert ran.outcome.ok
    assert cell("stat -c %a /etc; grep -c dev /etc/hosts", name="dev").lines == ["750", "1"]
    assert [change.path for change in diff(get(engine, "dev"))] == ["/etc", "/etc/passwd"]
    ran = cell("rm -rf /etc && mkdir /etc && echo mine > /etc/hosts && ls /etc", name="dev")
    assert (ran.lines, ran.outcome.ok) == (["hosts"], True)
    assert cell("rm -rf /etc; ls -d /etc", name="dev").stderr
    assert cell("ls -d /etc", name="dev").stderr
    get(engine, "dev").remove()
