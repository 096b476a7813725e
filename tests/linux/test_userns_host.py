"""`--userns=host`: root's way to a container without a user namespace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.spec import Userns
from tests.requirements import require_plain_user, require_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


def test_it_is_for_root(cell: Cell) -> None:
    """A plain user is told to leave it out."""
    require_plain_user()
    with pytest.raises(UsageError, match="--userns=host requires root; remove it"):
        cell("true", userns="host")


def test_ids_are_the_hosts(cell: Cell) -> None:
    """The map is the identity, and root is the host's, without its capabilities."""
    require_root()
    ran = cell(
        "cat /proc/self/uid_map; id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status", userns="host"
    )
    assert ran.lines[0].split() == ["0", "0", "4294967295"]
    assert ran.lines[1:] == ["0", "CapEff:\t00000000800405fb", "NoNewPrivs:\t1", "Seccomp:\t2"]


def test_the_default_is_another_root(cell: Cell) -> None:
    """Without the option, root in the container is nobody on the host."""
    assert cell("cat /proc/self/uid_map").text.split()[1] != "0" or os.geteuid() != 0


def test_the_images_files_are_roots(cell: Cell) -> None:
    """The store's layers belong to another root; in such a container they are shown as the host's root's."""
    require_root()
    ran = cell("stat -c '%u %g' / /bin/busybox /etc/passwd /tmp; touch /root/x /bin/y && echo written", userns="host")
    assert ran.lines == ["0 0"] * 4 + ["written"]


def test_owners_above_65535_are_those_of_the_image(cell: Cell) -> None:
    """Each file has the owner that it has in a container with a user namespace, whichever of both wrote it."""
    require_root()
    owners = ("65535:65536", "197609:197121", "1000660000:7", "4294967000:4294967000")
    kinds = ("", "host")
    for number, userns in enumerate(kinds):
        script = "; ".join(f"echo > /f{number}{n}; chown {one} /f{number}{n}" for n, one in enumerate(owners))
        cell(script, name="owners", image="" if number else "busybox", userns=userns)
    for userns in kinds:
        for number in range(2):
            ran = cell(f"stat -c %u:%g /f{number}?", name="owners", image="", userns=userns)
            assert ran.lines == list(owners), (userns, number)


def test_what_it_writes_goes_on_in_the_other_kind(cell: Cell) -> None:
    """A named container's layers are the same in both kinds: each sees what the other wrote, as root's."""
    require_root()
    cell("echo one > /file", name="both", userns="host")
    ran = cell("cat /file; stat -c %u /file; echo two > /file", name="both", image="")
    assert ran.lines == ["one", "0"]
    ran = cell("cat /file; stat -c %u /file", name="both", image="", userns="host")
    assert ran.lines == ["two", "0"]


def test_a_volumes_files_are_the_hosts(cell: Cell, tmp_path: Path) -> None:
    """Volumes are not mapped: every id in them is the host's."""
    require_root()
    (tmp_path / "f").touch()
    os.chown(tmp_path / "f", 1234, 5678)
    ran = cell("stat -c '%u %g' /data/f; touch /data/new", userns="host", volumes=(parse_volume(f"{tmp_path}:/data"),))
    assert ran.text == "1234 5678"
    assert (tmp_path / "new").stat().st_uid == 0


def test_the_rest_is_as_confined(cell: Cell) -> None:
    """Processes, mounts, devices, network and /sys are the container's own all the same."""
    require_root()
    ran = cell(
        """
        echo /proc/[0-9]*; ls /sys/class/net; ls /dev | wc -l
        echo x > /proc/sys/kernel/panic; mknod /tmp/x c 1 3; mount -t tmpfs none /mnt; hostname x; kill -0 1 || true
        """,
        userns="host",
    )
    assert len(ran.lines[0].split()) == 2
    assert ran.lines[1] == "lo"
    errors = ran.stderr.decode()
    assert "Read-only file system" in errors
    assert errors.lower().count("not permitted") >= 2


def test_both_kinds_run_side_by_side(cell: Cell, engine: Engine) -> None:
    """One engine has a launcher for each, and closing ends both."""
    require_root()
    assert cell("echo a", userns="host").text == "a"
    assert cell("echo b").text == "b"
    first, second = engine.launcher_for(Userns.HOST).pid, engine.launcher.pid
    assert first != second
    engine.close()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
