"""Images that lie in wait: links where directories should be, devices that are none, code for whoever imports it."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.errors import NbcontainerError, SetupFailed
from nbcontainer.sandbox.steps.devices import MASKED
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.attacks.attacker import PYTHON, Node
from tests.attacks.inside import attempt
from tests.attacks.ways import WAYS, Way
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.attacker import Attacker

STARTED = "echo started"


@pytest.mark.parametrize("link", ["/tmp", "../../../../../../tmp", "dangling"])
@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_where_the_kernels_files_go_is_refused(name: str, link: str, attack: Attacker) -> None:
    """An image with a link at /proc, /sys or /dev does not start (CVE-2019-19921, CVE-2023-27561)."""
    image = attack.image_of("link", {name: Node(link=link)}, python=False)
    with pytest.raises(SetupFailed) as raised:
        attack.run(STARTED, image=image)
    assert raised.value.step == "AttachStaged"
    assert "use another image" in raised.value.hint


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_file_where_the_kernels_files_go_is_refused(name: str, attack: Attacker) -> None:
    """An image with a file at /proc, /sys or /dev does not start."""
    image = attack.image_of("file", {name: Node(b"")}, python=False)
    with pytest.raises(SetupFailed) as raised:
        attack.run(STARTED, image=image)
    assert raised.value.step == "AttachStaged"


def masks(paths: list[str]) -> object:
    """What is where a mask should be: "null", "empty", "absent", or what it is instead."""
    found = {}
    for path in paths:
        facts = attempt(os.stat, f"/{path}")
        if isinstance(facts, str):
            found[path] = "absent"
        elif stat.S_ISCHR(facts.st_mode):
            found[path] = "null" if facts.st_rdev == os.makedev(1, 3) else "another device"
        elif stat.S_ISDIR(facts.st_mode):
            written = attempt(os.mkdir, f"/{path}/x")
            found[path] = "empty" if os.listdir(f"/{path}") == [] and written == "EROFS" else "a directory"
        else:
            found[path] = "a file"
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_is_the_null_device_whatever_the_image_has(way: Way, attack: Attacker) -> None:
    """With a /dev/null of the image's that is a link or a file, masked paths are still masked (CVE-2025-31133)."""
    for number, null in enumerate((Node(link="/proc/sys/kernel/core_pattern"), Node(b"no device"))):
        image = attack.image_of(f"null-{number}", {"dev/null": null, "dev/kcore": Node(link="/proc/kcore")})
        found = attack(masks, list(MASKED), image=image, **way.options())
        assert set(found.values()) <= {"null", "empty", "absent"}, found
        assert "null" in found.values()


def own_terminal() -> object:
    facts = os.stat(0)
    return [os.ttyname(0), os.major(facts.st_rdev), sorted(os.listdir("/dev/pts"))]


def test_a_terminal_is_the_containers_whatever_the_image_has(attack: Attacker) -> None:
    """Links at /dev/pts/0, /dev/ptmx and /dev/console lead nobody to a file (CVE-2025-52565)."""
    link = Node(link="/etc/passwd")
    image = attack.image_of("terminals", {"dev/pts/0": link, "dev/ptmx": link, "dev/console": link, "dev/tty": link})
    assert attack(own_terminal, image=image, terminal=True) == ["/dev/pts/0", 136, ["0", "ptmx"]]


LOOT = "/loot"
PLANTED = f"""
import os
os.close(os.open("{LOOT}/" + __name__, os.O_CREAT | os.O_WRONLY, 0o666))
"""
LIBRARY = f"""
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void planted(void) {{
    close(open("{LOOT}/library", O_CREAT | O_WRONLY, 0666));
}}
"""


def planted_modules() -> dict[str, Node]:
    """A module under every name of the standard library and of this project's, wherever this notebook imports from."""
    names = [name for name in sys.stdlib_module_names if name not in sys.builtin_module_names]
    folders = {"", *(place.lstrip("/") for place in (*sys.path, sysconfig.get_path("stdlib"), os.getcwd()))}
    own = ("nbcontainer/__init__", "nbcontainer/errors", "nbcontainer/sandbox/__init__", "backports/zstd/__init__")
    found = {}
    for folder in folders:
        if not folder.startswith("usr/lib/python"):  # the attacker's own
            for name in (*names, "encodings/idna", "encodings/ascii", "sitecustomize", "usercustomize", *own):
                found[f"{folder}/{name}.py".lstrip("/")] = Node(PLANTED.encode(), mode=0o644)
    return found


def planted_libraries(folder: Path) -> dict[str, Node]:
    """Libraries under the names that the C library loads of its own accord."""
    require("gcc")
    source = folder / "planted.c"
    source.write_text(LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "planted.so", source], check=True)
    library = Node((folder / "planted.so").read_bytes())
    names = ("libnss_files.so.2", "libnss_compat.so.2", "libnss_dns.so.2", "libnss_systemd.so.2", "libgcc_s.so.1")
    places = ("lib", "lib64", "usr/lib", "usr/lib64", f"lib/{os.uname().machine}-linux-gnu")
    found = {f"{place}/{name}": library for place in places for name in names}
    return {**found, "etc/nsswitch.conf": Node(b"passwd: files compat systemd\ngroup: files compat\n", mode=0o644)}


ENDINGS: dict[str, dict[str, Any]] = {
    "a script": {"script": "exit 3"},
    "a user by name": {"script": "exit 0", "user": "www-data"},
    "no such user": {"script": "exit 0", "user": "nobody-of-that-name"},
    "no such group": {"script": "exit 0", "user": "0:nobody-of-that-name"},
    "no such program": {"script": None, "command": ("/no/such/program",)},
    "a directory as program": {"script": None, "command": ("/etc",)},
    "no program": {"script": None, "command": ("/etc/passwd",)},
    "too many arguments": {"script": None, "command": ("/bin/true", "x" * 200_000)},
    "a file as working directory": {"script": "exit 0", "workdir": "/etc/passwd"},
    "names that are no ASCII": {"script": None, "command": ("/\u00e4\u00f6\u00fc",), "workdir": "/\u4e16\u754c"},
    "a terminal": {"script": "exit 0", "terminal": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_an_image_is_loaded_by_our_code(way: Way, attack: Attacker, tmp_path: Path) -> None:
    """Modules and libraries in an image are for its own programs alone, however a cell ends (CVE-2019-14271)."""
    loot = tmp_path / "loot"
    loot.mkdir()
    loot.chmod(0o777)
    volumes = (parse_volume(f"{loot}:{LOOT}"),)
    planted = planted_modules() | planted_libraries(tmp_path)
    image = attack.image_of("planted", planted)
    for ending in ENDINGS.values():
        if "user" in ending and attack.engine.idmap.kind == MapKind.SINGLE:
            continue
        with contextlib.suppress(NbcontainerError):
            attack.run(image=image, volumes=volumes, **ending, **way.options())
    assert os.listdir(loot) == []
    # For the image's own programs they do work: the test would see them.
    load = "import ctypes, sys; sys.path.insert(0, '/'); import colorsys; ctypes.CDLL('libnss_files.so.2')"
    assert attack.run(
        None, command=(PYTHON, "-I", "-S", "-c", load), image=image, volumes=volumes, **way.options()
    ).outcome.ok
    assert sorted(os.listdir(loot)) == ["colorsys", "library"]


@pytest.mark.parametrize(
    "passwd",
    [
        Node(fifo=True),
        Node(link="/dev/zero"),
        Node(link="/dev/tty"),
        Node(link="/proc/self/fd/0"),
        Node(link="/proc/kmsg"),
        Node(link="passwd"),
        Node(b"\xff\x00" * 3_000_000),
        Node(b"root:x:0:99999999999999999999:::\n:::\nroot\n" * 1000),
        Node(),
    ],
    ids=["pipe", "endless", "terminal", "stream", "kernel", "loop", "large", "nonsense", "directory"],
)
def test_a_strange_passwd_holds_nobody_up(passwd: Node, attack: Attacker) -> None:
    """Whatever an image has as /etc/passwd and /etc/group, a cell starts or is refused; it does not hang."""
    image = attack.image_of("passwd", {"etc/passwd": passwd, "etc/group": passwd}, python=False)
    try:
        assert attack.run("exit 0", image=image, timeout=60).outcome.ok
    except SetupFailed as error:
        assert error.step == "SetUser"  # noqa: PT017 - it is one of two good ends
    with pytest.raises(SetupFailed, match="cannot become the user"):
        attack.run("exit 0", image=image, user="www-data", timeout=60)
