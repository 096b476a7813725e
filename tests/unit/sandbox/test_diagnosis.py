"""What a machine allows, and the one thing to do, on machines that are made of the test's own files."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.procfs import Mount
from nbcontainer.sandbox.diagnosis import (
    NESTED,
    Machine,
    call_advice,
    limits_advice,
    map_advice,
    namespace_advice,
    proc_advice,
)
from nbcontainer.sandbox.launcher.failures import launcher_failed

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = {
    "self/ns/user": "",
    "sys/kernel/osrelease": "6.1.0-18-amd64\n",
    "sys/user/max_user_namespaces": "63000\n",
    "self/status": "Name:\tpython\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n",
    "self/mountinfo": "22 27 0:21 / /proc rw,relatime - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw,discard\n",
}


def machine(top: Path, files: dict[str, str] | None = None, uid: int = 1000) -> Machine:
    """A machine on which everything is allowed, but for what `files` (below /proc) say."""
    for name, text in {**FILES, **(files or {})}.items():
        (top / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (top / "proc" / name).write_text(text)
    return Machine(top / "proc", top / "etc", {"PATH": "/nowhere"}, uid, uid)


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"sys/kernel/unprivileged_userns_clone": "0"}, errno.EPERM, "sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"sys/user/max_user_namespaces": "0"}, errno.ENOSPC, "sysctl -w user.max_user_namespaces=10000"),
        ({}, errno.ENOSPC, "raise user.max_user_namespaces"),
        ({}, errno.EUSERS, "raise user.max_user_namespaces"),
        (
            {"sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
            errno.EACCES,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"self/attr/current": "docker-default (enforce)\n"}, errno.EACCES, "the AppArmor profile docker-default"),
        ({"self/status": "Seccomp:\t2\n"}, errno.EPERM, "seccomp=unconfined"),
        (
            {"self/attr/current": "docker-default (enforce)\n", "self/status": "Seccomp:\t2\n"},
            errno.EPERM,
            "seccomp=unconfined",
        ),
        (
            {"self/attr/current": "docker-default (enforce)\n", "self/status": "Seccomp:\t2\n"},
            errno.EACCES,
            "apparmor=unconfined",
        ),
        (
            {
                "self/attr/current": "docker-default (enforce)\n",
                "self/status": "Seccomp:\t2\n",
                "sys/kernel/apparmor_restrict_unprivileged_userns": "1",
            },
            errno.EPERM,
            "seccomp=unconfined",
        ),
        (
            {
                "self/attr/current": "nbcontainer (unconfined)\n",
                "sys/kernel/apparmor_restrict_unprivileged_userns": "1",
            },
            errno.EPERM,
            "ask the administrator",
        ),
        ({"self/attr/current": "unconfined\n"}, errno.EPERM, "ask the administrator"),
        ({}, errno.EPERM, "a chroot has none"),
        ({}, errno.EIO, ""),
    ],
)
def test_what_opens_user_namespaces(tmp_path: Path, files: dict[str, str], code: int, words: str) -> None:
    """Each way to close user namespaces has its own key, and where nobody can tell nothing is told."""
    advice = namespace_advice(machine(tmp_path, files), code)
    assert words in advice
    assert bool(advice) == bool(words)


FILTERED, CONFINED = {"self/status": "Seccomp:\t2\n"}, {"self/attr/current": "docker-default (enforce)\n"}
COVERED = {"self/mountinfo": f"{FILES['self/mountinfo']}30 22 0:9 / /proc/kcore rw - tmpfs tmpfs rw\n"}
SECCOMP = (
    "--security-opt seccomp=unconfined",
    '"runArgs": ["--security-opt=seccomp=unconfined"]',
    "securityContext: {seccompProfile: {type: Unconfined}}",
)


@pytest.mark.parametrize(
    ("files", "code", "options"),
    [
        (FILTERED, errno.EPERM, SECCOMP),
        (
            CONFINED,
            errno.EACCES,
            (
                "--security-opt apparmor=unconfined",
                '"runArgs": ["--security-opt=apparmor=unconfined"]',
                "securityContext: {appArmorProfile: {type: Unconfined}}",
            ),
        ),
        (
            {**FILTERED, **CONFINED, **COVERED},
            errno.EPERM,
            (
                "--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
                "--security-opt systempaths=unconfined",
                '"runArgs": ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", '
                '"--security-opt=systempaths=unconfined"]',
                "securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}",
            ),
        ),
    ],
    ids=["a filter", "AppArmor", "Docker"],
)
def test_the_options_for_an_outer_container_are_exact(
    tmp_path: Path, files: dict[str, str], code: int, options: tuple[str, ...]
) -> None:
    """Those that are missing and no others, for docker, for devcontainer.json and for a pod, in one line."""
    advice = namespace_advice(machine(tmp_path, files), code)
    assert all(option in advice for option in options), advice
    assert advice.count("--security-opt ") == options[0].count("--security-opt ")
    assert "\n" not in advice


@pytest.mark.parametrize("advise", [namespace_advice, proc_advice, call_advice, map_advice])
@pytest.mark.parametrize("files", [{}, {**FILTERED, **COVERED}], ids=["nothing", "Docker"])
def test_in_a_container_of_this_project_nothing_else_is_advised(
    tmp_path: Path, advise: Callable[[Machine, int], str], files: dict[str, str]
) -> None:
    """Its filter and its covers look like Docker's, and no option of Docker's helps."""
    inside = machine(tmp_path, files)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "cell").touch()
    inside = dataclasses.replace(inside, dev=tmp_path / "dev")
    assert advise(inside, errno.EPERM) == NESTED


@pytest.mark.parametrize(
    "name", ["sys/kernel/unprivileged_userns_clone", "sys/kernel/apparmor_restrict_unprivileged_userns"]
)
def test_what_is_for_plain_users_is_not_said_to_root(tmp_path: Path, name: str) -> None:
    """Settings that plain users alone are held by are not blamed for a root's failure."""
    value = "0" if name.endswith("clone") else "1"
    assert "sysctl" not in namespace_advice(machine(tmp_path, {name: value}, 0))


def test_a_kernel_without_user_namespaces(tmp_path: Path) -> None:
    """Where the kernel has none, no setting helps."""
    found = machine(tmp_path)
    (found.proc / "self/ns/user").unlink()
    assert "CONFIG_USER_NS=y" in namespace_advice(found)


@pytest.mark.parametrize("short", ["mnt", "pid", "uts", "ipc", "cgroup", "net"])
def test_which_namespace_is_one_too_many(tmp_path: Path, short: str) -> None:
    """A limit of 0 is named with the command that lifts it."""
    assert f"user.max_{short}_namespaces=10000" in limits_advice(
        machine(tmp_path, {f"sys/user/max_{short}_namespaces": "0"})
    )
    assert "too many namespaces" in limits_advice(machine(tmp_path / "other"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", "ask the administrator"),
        ("30 22 0:30 / /proc/kcore rw - devtmpfs devtmpfs rw\n", "systempaths=unconfined"),
        ("30 22 0:30 / /proc/sys ro - proc proc rw\n", "systempaths=unconfined"),
        ("30 22 0:30 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n", "ask the administrator"),
    ],
    ids=["whole", "masked", "read-only", "binfmt_misc"],
)
def test_a_proc_that_is_covered(tmp_path: Path, more: str, words: str) -> None:
    """Covers over /proc, as an outer container has them, are why a fresh one is refused; mount points are none."""
    found = machine(tmp_path, {"self/mountinfo": FILES["self/mountinfo"] + more})
    assert words in proc_advice(found)


@pytest.mark.parametrize(
    ("release", "version", "words"),
    [
        ("5.4.0-150-generic", (5, 4), "use a kernel of 5.12 or later"),
        ("5.12.0", (5, 12), "a system call filter hides it"),
        ("6.18.44-x", (6, 18), "a system call filter hides it"),
        ("", (0, 0), "use a kernel of 5.12 or later"),
        ("odd", (0, 0), "use a kernel of 5.12 or later"),
    ],
)
def test_a_call_that_is_not_there(tmp_path: Path, release: str, version: tuple[int, int], words: str) -> None:
    """ENOSYS is an old kernel's, or on a newer one a filter's."""
    found = machine(tmp_path, {"sys/kernel/osrelease": release})
    assert found.version == version
    assert words in call_advice(found)


def test_a_map_that_is_refused(tmp_path: Path) -> None:
    """Root lacks capabilities; a plain user's range is not its own."""
    assert "SETUID" in map_advice(machine(tmp_path, uid=0))
    assert "/etc/subuid" in map_advice(machine(tmp_path))


def test_the_status_is_read(tmp_path: Path) -> None:
    """Capabilities by name, no_new_privs, and nothing of what is not there."""
    found = machine(tmp_path, {"self/status": "CapEff:\t00000000000000c0\nNoNewPrivs:\t1\n"})
    assert found.capable("SETUID", "SETGID")
    assert not found.capable("SETUID", "SYS_ADMIN")
    assert found.no_new_privs
    nowhere = dataclasses.replace(found, proc=Path("/nowhere"))
    assert not nowhere.capable("SETUID")
    assert not nowhere.no_new_privs
    assert nowhere.mounts() == []


def test_the_mounts_are_read(tmp_path: Path) -> None:
    """mountinfo is read with its escapes and optional fields; the last mount over a path is the one it is on."""
    text = (
        "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n"
        "31 27 0:40 /sub /mnt/a\\040b rw,nosuid master:2 shared:3 - tmpfs tmp\\134fs rw,size=1k\n"
        "32 31 0:41 / /mnt/a\\040b ro - ext4 /dev/vdb ro\n"
        "damaged\n"
    )
    found = machine(tmp_path, {"self/mountinfo": text})
    assert found.mounts() == [
        Mount("/", "/", ("rw", "relatime"), "ext4", ("rw", "errors=remount-ro"), 27, 1, "/dev/vda", ("shared:1",)),
        Mount(
            "/sub",
            "/mnt/a b",
            ("rw", "nosuid"),
            "tmpfs",
            ("rw", "size=1k"),
            31,
            27,
            "tmp\\fs",
            ("master:2", "shared:3"),
        ),
        Mount("/", "/mnt/a b", ("ro",), "ext4", ("ro",), 32, 31, "/dev/vdb"),
    ]
    assert found.mount_of(Path("/mnt/a b/c/d")) == found.mounts()[2]
    assert found.mount_of(Path("/mnt/a")) == found.mounts()[0]


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ({"failed": "unshare: Operation not permitted", "errno": errno.EPERM}, "ask the administrator"),
        ({"failed": "the map was refused", "errno": errno.EPERM, "map": True}, "/etc/subuid"),
        ({"failed": "it did not answer within 30 s"}, ""),
    ],
)
def test_a_launcher_that_cannot_start(tmp_path: Path, failed: dict[str, object], words: str) -> None:
    """The line says why, and the hint is what this machine's settings tell."""
    error = launcher_failed(failed, machine(tmp_path))
    assert str(error).startswith(f"cannot start the container launcher: {failed['failed']}")
    assert words in error.hint
    assert bool(error.hint) == bool(words)
