"""What doctor says of machines that this one cannot be: their files are the test's, and what is tried is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.doctor.checks import PROBES, ProbeContext, look_at_busybox, look_at_volumes
from nbcontainer.commands.doctor.examination import PATIENCE, diagnose
from nbcontainer.commands.doctor.report import LIMITED, MISSING, OK, Check, Report
from nbcontainer.errors import ContainerError, NbcontainerError, NetworkUnavailable, SetupFailed, StoreError
from nbcontainer.images.builtin.busybox import INSTALL_BUSYBOX
from nbcontainer.linux.procfs import Mount
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.launcher.failures import launcher_failed, setup_failed
from nbcontainer.sandbox.network.private import INSTALL
from nbcontainer.sandbox.probes import TRIALS
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.overlay import FEW_CHANGES, UPPER_ADVICE
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store.errors import FREE_SPACE, store_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.steps.base import Step

UID = 54321
"""A user whom no machine's /etc/passwd knows: its name is its number."""

WHOLE = "0 0 4294967295\n"
ALL_CAPABILITIES = "CapEff:\t000001ffffffffff\n"
ROOT_MOUNT = "20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n21 20 0:5 / /proc rw - proc proc rw\n"
UNIFIED = "22 20 0:6 / {cgroup} rw - cgroup2 cgroup2 rw\n"


class Host:
    """The files of a machine where everything works, below a directory; tests change them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cgroup = path / "cgroup"
        self.write("proc/sys/kernel/osrelease", "6.12.0-amd64\n")
        self.write("proc/sys/user/max_user_namespaces", "30000\n")
        self.write("proc/self/status", f"NoNewPrivs:\t0\nSeccomp:\t0\n{ALL_CAPABILITIES}")
        self.write("proc/self/attr/current", "unconfined\n")
        self.write("proc/self/ns/user", "")
        self.write("proc/self/setgroups", "allow\n")
        for name in ("uid", "gid"):
            self.write(f"proc/self/{name}_map", WHOLE)
            self.write(f"etc/sub{name}", f"{UID}:200000:65536\n")
            self.write(f"bin/new{name}map", "")
            (path / f"bin/new{name}map").chmod(0o4755)
        self.write("cgroup/user/cgroup.controllers", "cpu memory pids\n")
        self.write("proc/self/cgroup", "0::/user\n")
        self.write("proc/self/mountinfo", ROOT_MOUNT + UNIFIED.format(cgroup=self.cgroup))

    def write(self, name: str, text: str) -> None:
        """Makes or replaces a file."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)

    def machine(self, uid: int = UID) -> Machine:
        """The machine, as this user sees it."""
        return Machine(self.path / "proc", self.path / "etc", {"PATH": str(self.path / "bin")}, uid, uid)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@dataclass
class Tried:
    """What is tried there: each trial walks the steps of the real plan and fails where `refused` has an errno for one.

    The errors are made by the code that makes a cell's.
    """

    machine: Machine
    ids: idmap.IdMap
    refused: Callable[[Step], int] = lambda step: 0
    launcher: dict[str, Any] = field(default_factory=dict)
    volume: int = 0
    bytes_free: int = 10**12
    has_busybox: bool = False
    in_memory: bool = False
    network: NetworkUnavailable | None = None
    few_changes: bool = False
    keeps_name: bool = False
    proc: ProcLevel = ProcLevel.OWN
    ran: list[str] = field(default_factory=list)

    init = "interpreted"

    def use_memory(self) -> None:
        self.in_memory = True

    def run(self, name: str) -> None:
        self.ran.append(name)
        self._try(name)

    def _try(self, name: str) -> None:
        if self.launcher:
            raise launcher_failed(self.launcher, self.machine)
        if name == "host name" and self.keeps_name:
            raise PermissionError(errno.EPERM, "the host name stays the host's")
        for step in TRIALS[name].plan(self.ids, "../tmp/1", self.proc):
            if (code := self.refused(step)) and not (self.in_memory and code == errno.EINVAL):
                raise setup_failed(init_report(step, code), self.machine)
        if name in ("overlay", "container") and self.few_changes:
            raise OSError(errno.ENOTSUP, FEW_CHANGES, "/gone")

    def connect(self) -> str:
        self._try("network")
        if self.network is not None:
            raise self.network
        return "pasta"

    def map_volume(self) -> None:
        if self.volume:
            hint = "its file system has no idmapped mounts: copy the data to another, or add --userns=host"
            raise ContainerError("cannot map it", hint=hint) from OSError(self.volume, os.strerror(self.volume))

    def free(self) -> int:
        return self.bytes_free


def init_report(step: Step, code: int) -> dict[str, Any]:
    """What init says of a step that failed."""
    return {"step": type(step).__name__, "errno": code, "error": f"mount: {os.strerror(code)}", "path": "stage/x"}


def at(name: str, code: int) -> Callable[[Step], int]:
    """Refuses the steps of a class with an errno."""
    return lambda step: code if type(step).__name__ == name else 0


def patient(host: Host, uid: int = UID, **tried: Any) -> ProbeContext:
    """A patient on that machine, whose trials go as `tried` says; its store is below /srv."""
    machine = host.machine(uid)
    ids = idmap.choose(machine)
    return ProbeContext(
        machine,
        Path("/srv/store"),
        Path("/srv/store/tmp/1"),
        Tried(machine, ids, **tried),
        ids,
        find_busybox=lambda: Path("/bin/busybox"),
        can_make_group=lambda path: True,
    )


def report(someone: ProbeContext) -> Report:
    return diagnose(someone, time.monotonic() + PATIENCE)


def check(found: Report, name: str) -> Check:
    return next(check for check in found.checks if check.name == name)


def test_without_a_program_for_private_networks_all_else_works(host: Host) -> None:
    """That is a limit, in the words of a cell that asks for one."""
    found = report(patient(host, network=NetworkUnavailable("neither is here", hint=INSTALL)))
    assert check(found, "private network") == Check("private network", LIMITED, "neither is here", INSTALL)
    assert [c.name for c in found.checks if c.state != OK] == ["private network"]
    assert found.ok


@pytest.mark.parametrize("uid", [0, UID])
def test_a_machine_that_can_do_everything_is_ok(host: Host, uid: int) -> None:
    """Where nothing is refused, every check is ok and none has advice."""
    found = report(patient(host, uid))
    assert [(c.name, c.state, c.advice) for c in found.checks] == [(probe.name, OK, "") for probe in PROBES]
    assert found.ok


def test_every_trial_is_asked_for_once(host: Host) -> None:
    """No part of the plan is left out, none is tried twice, and the whole comes after its parts."""
    someone = patient(host)
    report(someone)
    assert isinstance(someone.trials, Tried)
    assert sorted(someone.trials.ran) == sorted(TRIALS)
    assert someone.trials.ran[-1] == "container"


@pytest.mark.parametrize("name", [name for name in TRIALS if name != "container"])
def test_a_trial_is_a_part_of_the_real_plan(host: Host, name: str) -> None:
    """Every step of a trial but its last is one that a container's plan has, word for word, and in its order."""
    ids = idmap.choose(host.machine())
    whole = [repr(step) for step in TRIALS["container"].plan(ids, "../tmp/1")]
    part = TRIALS[name].plan(ids, "../tmp/1")
    steps = [repr(step) for step in part][1:-1]
    assert set(steps) <= set(whole)
    assert steps == sorted(steps, key=whole.index)
    assert type(part.prepare[0]).__name__ == "CloneInit"


# Machines on which no user namespace can be made or used: what is there, what the kernel says, and what to do.
CLOSED = [
    pytest.param(
        UID,
        {"proc/sys/kernel/unprivileged_userns_clone": "0\n"},
        errno.EPERM,
        "sysctl -w kernel.unprivileged_userns_clone=1 (as root)",
        id="Debian's switch is off",
    ),
    pytest.param(
        UID,
        {"proc/sys/user/max_user_namespaces": "0\n"},
        errno.ENOSPC,
        "sysctl -w user.max_user_namespaces=10000 (as root)",
        id="the limit is zero, for a plain user",
    ),
    pytest.param(
        0,
        {"proc/sys/user/max_user_namespaces": "0\n"},
        errno.ENOSPC,
        "sysctl -w user.max_user_namespaces=10000 (as root)",
        id="the limit is zero, for root",
    ),
    pytest.param(UID, {}, errno.ENOSPC, "raise user.max_user_namespaces", id="the limit is reached"),
    pytest.param(
        UID,
        {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
        errno.EACCES,
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root)",
        id="Ubuntu's AppArmor restriction",
    ),
    pytest.param(
        0,
        {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/status": "Seccomp:\t2\n"},
        errno.EPERM,
        "--security-opt seccomp=unconfined",
        id="root in Docker on Ubuntu, which does not restrict root",
    ),
    pytest.param(
        UID,
        {"proc/self/attr/current": "docker-default (enforce)\n", "proc/self/status": "Seccomp:\t2\n"},
        errno.EPERM,
        "--security-opt seccomp=unconfined",
        id="Docker's filter of system calls",
    ),
    pytest.param(
        UID,
        {"proc/self/attr/current": "docker-default (enforce)\n", "proc/self/status": "Seccomp:\t2\n"},
        errno.EACCES,
        "the AppArmor profile docker-default denies it: start the outer container with "
        "--security-opt apparmor=unconfined",
        id="Docker's AppArmor profile",
    ),
    pytest.param(UID, {}, errno.EPERM, "a chroot has none", id="nothing to be seen"),
]


@pytest.mark.parametrize(("uid", "files", "code", "advice"), CLOSED)
def test_without_user_namespaces_there_is_one_thing_to_do(
    host: Host, uid: int, files: dict[str, str], code: int, advice: str
) -> None:
    """The cause is found on the machine and told once; what depends on it says so, and what does not is looked at."""
    for name, text in files.items():
        host.write(name, text)
    found = report(patient(host, uid, launcher={"failed": f"unshare: {os.strerror(code)}", "errno": code}))
    assert not found.ok
    namespaces = check(found, "namespaces")
    assert namespaces.state == MISSING
    assert os.strerror(code) in namespaces.found
    assert advice in namespaces.advice
    for name in ("mounts", "/proc", "/sys", "/dev", "network", "overlay", "container"):
        assert check(found, name) == Check(name, MISSING, "not without namespaces")
    for name in ("kernel", "store", "busybox"):
        assert check(found, name).state == OK


def test_a_kernel_without_user_namespaces_is_named(host: Host) -> None:
    """Where the kernel has none built in, no setting is recommended."""
    (host.path / "proc/self/ns/user").unlink()
    host.write("proc/sys/kernel/unprivileged_userns_clone", "0\n")
    launcher = {"failed": "unshare: Invalid argument", "errno": errno.EINVAL}
    assert "CONFIG_USER_NS" in check(report(patient(host, launcher=launcher)), "namespaces").advice


def test_a_launcher_that_fails_for_no_kernels_reason_has_no_advice(host: Host) -> None:
    """Nobody is sent to change a setting because of an interpreter that does not start."""
    found = check(report(patient(host, launcher={"failed": "No module named 'nbcontainer'"})), "namespaces")
    assert (found.state, found.advice) == (MISSING, "")


@pytest.mark.parametrize(
    ("uid", "advice"),
    [(UID, "check the user's ranges in /etc/subuid and /etc/subgid"), (0, "the capabilities SETUID and SETGID")],
)
def test_a_refused_map_is_no_refused_namespace(host: Host, uid: int, advice: str) -> None:
    """When newuidmap refuses, or root may not map, the advice is about ids."""
    launcher = {"failed": "the map of user ids was refused (newuidmap)", "errno": errno.EPERM, "map": True}
    assert advice in check(report(patient(host, uid, launcher=launcher)), "namespaces").advice


# Machines on which a user has one id in containers: what is there, what is found, and what to do.
ONE_ID = [
    pytest.param({"etc/subuid": "carol:100000:65536\n"}, "no range", f"265536-331071 {UID}", id="no range of uids"),
    pytest.param(
        {"etc/subuid": "carol:100000:65536\n", "etc/subgid": ""},
        "/etc/subuid grants no range",
        f"usermod --add-subuids 165536-231071 --add-subgids 165536-231071 {UID} (as root)",
        id="no range, and others have one",
    ),
    pytest.param({"etc/subuid": "", "etc/subgid": ""}, "no range", "100000-165535", id="no ranges at all"),
    pytest.param(
        {"proc/self/status": "CapBnd:\t00000000a80425fb\n"},
        "newuidmap is setuid",
        "setcap cap_setuid=ep",
        id="a setuid newuidmap in Docker",
    ),
    pytest.param({"bin/newuidmap": None}, "newuidmap is not installed", "apt install uidmap", id="no newuidmap"),
    pytest.param(
        {"bin/newgidmap": "plain"}, "neither the setuid bit nor", "reinstall its package", id="no longer setuid"
    ),
    pytest.param(
        {"proc/self/mountinfo": ROOT_MOUNT.replace("rw,relatime", "rw,nosuid")},
        "neither the setuid bit nor",
        "not mounted nosuid",
        id="mounted nosuid",
    ),
    pytest.param(
        {"proc/self/status": "NoNewPrivs:\t1\n"},
        "no_new_privs, so newuidmap cannot work",
        "allowPrivilegeEscalation: true",
        id="no_new_privs",
    ),
    pytest.param(
        {"proc/self/uid_map": f"{UID} {UID} 1\n"},
        "not mapped in the outer container",
        "give the outer container more ids",
        id="nested",
    ),
]


@pytest.mark.parametrize(("files", "why", "advice"), ONE_ID)
def test_one_id_is_a_limit_with_its_reason(host: Host, files: dict[str, str | None], why: str, advice: str) -> None:
    """Cells run all the same: root is the only user in them, which is said with the way to more."""
    for name, text in files.items():
        if text is None:
            (host.path / name).unlink()
        else:
            host.write(name, text)
            (host.path / name).chmod(0o755)
    someone = patient(host)
    found = report(someone)
    ids = check(found, "user ids")
    assert someone.idmap.kind == idmap.MapKind.SINGLE
    assert ids.state == LIMITED
    assert why in ids.found
    assert advice in ids.advice
    assert found.ok


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ({"proc/self/uid_map": "0 1000 1\n", "proc/self/gid_map": "0 1000 1\n"}, "give that namespace a range"),
        ({"proc/self/setgroups": "deny\n"}, "give that namespace a range"),
        ({"proc/self/status": "CapEff:\t0000000000000000\n"}, "the capabilities SETUID and SETGID"),
    ],
    ids=["in a namespace with one id", "where groups cannot be set", "without capabilities"],
)
def test_a_root_that_cannot_map_has_one_id(host: Host, files: dict[str, str], advice: str) -> None:
    """Root is not always able to map a range: then it has one id, like a plain user."""
    for name, text in files.items():
        host.write(name, text)
    ids = check(report(patient(host, 0)), "user ids")
    assert ids.state == LIMITED
    assert advice in ids.advice


# Steps that the kernel refuses: on which machine, which step, with what, the check it fails, and what to do.
COVERED = ROOT_MOUNT + "23 21 0:7 / /proc/kcore rw - tmpfs tmpfs rw\n24 21 0:7 / /proc/acpi ro - tmpfs tmpfs rw\n"
STEPS = [
    pytest.param(
        {"proc/self/mountinfo": COVERED},
        at("MountProc", errno.EPERM),
        "/proc",
        "pod: hostUsers: false and securityContext: {procMount: Unmasked}",
        id="Jupyter in Docker: a covered /proc",
    ),
    pytest.param(
        {"proc/self/mountinfo": ROOT_MOUNT + "25 21 0:9 / /proc/sys/fs/binfmt_misc rw - autofs systemd rw\n"},
        at("MountProc", errno.EPERM),
        "/proc",
        "ask the administrator",
        id="what is mounted where the kernel keeps room for it covers nothing",
    ),
    pytest.param({}, at("MountOverlay", errno.ENODEV), "overlay", "modprobe overlay", id="no overlay"),
    pytest.param({}, at("MountOverlay", errno.EPERM), "overlay", "5.11 or later", id="overlay before 5.11"),
    pytest.param(
        {"proc/self/attr/current": "docker-default (enforce)\n"},
        at("MountStage", errno.EACCES),
        "mounts",
        "--security-opt apparmor=unconfined",
        id="AppArmor lets nobody mount",
    ),
    pytest.param({}, at("BindDevice", errno.ENODEV), "/dev", "mount devtmpfs there", id="an odd /dev"),
    pytest.param(
        {"proc/sys/user/max_net_namespaces": "0\n"},
        lambda step: errno.ENOSPC if "net" in getattr(step, "namespaces", ()) else 0,
        "network",
        "sysctl -w user.max_net_namespaces=10000 (as root)",
        id="no network namespaces",
    ),
    pytest.param(
        {"proc/sys/user/max_pid_namespaces": "0\n"},
        at("CloneInit", errno.ENOSPC),
        "namespaces",
        "sysctl -w user.max_pid_namespaces=10000 (as root)",
        id="no pid namespaces",
    ),
    pytest.param(
        {"proc/sys/kernel/osrelease": "5.4.0-generic\n"},
        at("MaskPaths", errno.ENOSYS),
        "container",
        "use a kernel of 5.12 or later",
        id="a call that an old kernel does not have",
    ),
    pytest.param(
        {}, at("MaskPaths", errno.ENOSYS), "container", "a system call filter hides it", id="a call that is hidden"
    ),
    pytest.param({}, at("MountProc", errno.EMFILE), "/proc", "ulimit -n", id="too many open files"),
]


@pytest.mark.parametrize(("files", "refused", "name", "advice"), STEPS)
def test_a_refused_step_is_told_as_a_cell_tells_it(
    host: Host, files: dict[str, str], refused: Callable[[Step], int], name: str, advice: str
) -> None:
    """The check has the message and the advice of a cell that fails at the same step of its plan."""
    for file, text in files.items():
        host.write(file, text)
    someone = patient(host, refused=refused)
    found = check(report(someone), name)
    assert found.state == MISSING
    assert advice in found.advice
    cell = cell_error(someone, refused)
    assert (found.found, found.advice) == (cell.message, cell.hint)


def cell_error(someone: ProbeContext, refused: Callable[[Step], int]) -> SetupFailed:
    """The error of a cell there: of the first step of its plan that is refused."""
    steps = TRIALS["container"].plan(someone.idmap, "../tmp/1")
    step, code = next((step, code) for step in steps if (code := refused(step)))
    return setup_failed(init_report(step, code), someone.machine)


@pytest.mark.parametrize("level", list(ProcLevel))
def test_each_source_of_proc_has_its_name(host: Host, level: ProcLevel) -> None:
    """The check shows the name that `inspect` shows. What does not work there is a limit, with the way out."""
    host.write("proc/self/mountinfo", COVERED)
    found = check(report(patient(host, proc=level)), "/proc")
    assert found.found.startswith(level)
    if level in (ProcLevel.OWN, ProcLevel.NOTEBOOK):
        assert (found.state, found.advice) == (OK, "")
    else:
        assert found.state == LIMITED
        assert "systempaths=unconfined" in found.advice


def test_a_host_name_that_stays_is_a_limit(host: Host) -> None:
    """A filter that refuses sethostname(2), as podman's does, stops no cell."""
    host.write("proc/self/status", f"Seccomp:\t2\n{ALL_CAPABILITIES}")
    found = report(patient(host, 0, keeps_name=True))
    assert check(found, "host name").state == LIMITED
    assert "seccomp=unconfined" in check(found, "host name").advice
    assert found.ok


def test_what_fails_for_the_same_reason_says_so(host: Host) -> None:
    """A cause is told once, where it first shows; the checks after it name that one."""
    host.write("proc/self/mountinfo", COVERED)
    found = report(patient(host, refused=at("MountProc", errno.EPERM)))
    assert check(found, "container") == Check("container", MISSING, "not without /proc")
    assert len([c for c in found.checks if c.state == MISSING and c.advice]) == 1


@pytest.mark.parametrize("fstype", ["overlay", "nfs4", "fuse.sshfs"])
def test_a_store_that_holds_no_upper_is_a_limit(host: Host, fstype: str) -> None:
    """What cells write goes to memory then, and what to do about it is what the cell says."""
    host.write("proc/self/mountinfo", ROOT_MOUNT + f"30 20 0:30 / /srv rw - {fstype} none rw\n")
    someone = patient(host, refused=at("MountOverlay", errno.EINVAL))
    found = report(someone)
    overlay = check(found, "overlay")
    assert (overlay.state, overlay.advice) == (LIMITED, UPPER_ADVICE)
    assert fstype in overlay.found
    assert "memory" in overlay.found
    assert check(found, "container").state == OK
    assert found.ok


@pytest.mark.parametrize("code", [0, errno.EINVAL], ids=["the store's", "memory"])
def test_an_upper_that_keeps_no_attributes_is_a_limit(host: Host, code: int) -> None:
    """Where overlay cannot say that a directory is gone, files are changed all the same."""
    found = report(patient(host, refused=at("MountOverlay", code), few_changes=True))
    overlay = check(found, "overlay")
    assert (overlay.state, overlay.advice) == (LIMITED, UPPER_ADVICE)
    assert overlay.found.endswith(f"; {FEW_CHANGES}")
    assert ("memory" in overlay.found) == bool(code)
    assert check(found, "container") == Check("container", LIMITED, FEW_CHANGES, UPPER_ADVICE)
    assert found.ok


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (errno.EACCES, "Permission denied", "a directory of your own"),
        (errno.EROFS, "Read-only file system", "on a writable file system"),
        (errno.ENOSPC, "No space left", FREE_SPACE),
        (errno.EDQUOT, "quota", FREE_SPACE),
        (errno.ENOTDIR, "Not a directory", "set NBCONTAINER_HOME to a directory"),
    ],
)
def test_a_store_that_cannot_be_written_is_told_in_the_stores_words(
    host: Host, code: int, words: str, advice: str
) -> None:
    """The store's own error is shown, and what has nothing to do with it is still tried."""
    error = store_error("open the store", Path("/srv/store"), OSError(code, os.strerror(code)))
    found = report(dataclasses.replace(patient(host), refused=error))
    store = check(found, "store")
    assert store.state == MISSING
    assert words in store.found
    assert "/srv/store" in store.found
    assert advice in store.advice
    assert check(found, "overlay").state == OK


def test_a_store_with_little_room_is_a_limit(host: Host) -> None:
    """A disk that no image fits on is said before it is full."""
    store = check(report(patient(host, bytes_free=5_000_000)), "store")
    assert (store.state, store.advice) == (LIMITED, FREE_SPACE)
    assert "5.0 MB free" in store.found


def test_a_store_in_memory_is_a_limit(host: Host) -> None:
    """Images and containers on a tmpfs go with the machine."""
    host.write("proc/self/mountinfo", ROOT_MOUNT + "30 20 0:30 / /srv rw - tmpfs none rw\n")
    store = check(report(patient(host)), "store")
    assert store.state == LIMITED
    assert "after a restart" in store.found


def test_roots_volumes_need_idmapped_mounts_where_the_data_is(host: Host) -> None:
    """A file system without them is a limit, and so is a root that may not mount: each is named."""
    volumes = check(report(patient(host, 0, volume=errno.EINVAL)), "volumes")
    assert volumes.state == LIMITED
    assert "--userns=host" in volumes.advice
    assert "where the store is" in volumes.found
    refused = check(report(patient(host, 0, volume=errno.EPERM)), "volumes")
    assert refused.state == LIMITED
    assert "SYS_ADMIN" in refused.found


def test_a_users_volumes_need_no_idmapped_mounts(host: Host) -> None:
    """Root in a plain user's container is that user, so nothing is tried."""
    assert look_at_volumes(patient(host, volume=errno.EPERM)).state == OK


CONTROLLERS = ("cpu", "memory", "pids")
LEGACY = "".join(
    f"4{i} 20 0:4{i} / {{cgroup}}/{name} rw - cgroup cgroup rw,{name}\n" for i, name in enumerate(CONTROLLERS)
)
LEGACY_OWN = "3:cpu:/a\n2:memory:/a\n1:pids:/a\n"


@pytest.mark.parametrize(
    ("uid", "mounts", "own", "controllers", "writable", "state", "words", "advice"),
    [
        pytest.param(UID, UNIFIED, "0::/user\n", "cpu memory pids", True, OK, "v2, limits on cpu, memory, pids", ""),
        pytest.param(UID, UNIFIED, "0::/user\n", "cpu memory pids", False, LIMITED, "v2, no limits", "systemd-run"),
        pytest.param(UID, UNIFIED, "0::/user\n", "memory pids", True, LIMITED, "on memory, pids", "Delegate=cpu"),
        pytest.param(0, UNIFIED, "0::/user\n", "cpu memory pids", False, LIMITED, "v2, no", "-v /sys/fs/cgroup"),
        pytest.param(0, LEGACY, LEGACY_OWN, "", True, OK, "v1, limits on cpu, memory, pids", ""),
        pytest.param(UID, LEGACY, LEGACY_OWN, "", False, LIMITED, "v1, no", "systemd.unified_cgroup_hierarchy=1"),
        pytest.param(0, UNIFIED + LEGACY, LEGACY_OWN + "0::/user\n", "", True, OK, "hybrid, limits on cpu", ""),
        pytest.param(0, "", "", "", True, LIMITED, "none, no limits", "mount -t cgroup2"),
    ],
    ids=[
        *("v2, delegated", "v2, not delegated", "v2, a controller missing", "v2, read-only in Docker"),
        *("v1, root", "v1, plain user", "hybrid, root", "not mounted"),
    ],
)
def test_cgroups_are_judged_by_what_can_be_limited(
    host: Host,
    uid: int,
    mounts: str,
    own: str,
    controllers: str,
    writable: bool,
    state: str,
    words: str,
    advice: str,
) -> None:
    """The version, which controllers a limit can be set with, and the way to the others."""
    host.write("proc/self/cgroup", own)
    host.write("proc/self/mountinfo", ROOT_MOUNT + mounts.format(cgroup=host.cgroup))
    host.write("cgroup/user/cgroup.controllers", controllers)
    asked: list[Path] = []

    def can_make(path: Path) -> bool:
        asked.append(path)
        return writable

    found = check(report(dataclasses.replace(patient(host, uid), can_make_group=can_make)), "cgroups")
    assert found.state == state
    assert words in found.found
    assert advice in found.advice
    assert bool(found.advice) == (state == LIMITED)
    expected = {host.cgroup / "user"} if mounts == UNIFIED else set()
    expected |= {host.cgroup / name / "a" for name in CONTROLLERS} if LEGACY in mounts else set()
    assert set(asked) == expected


def test_a_group_is_found_where_its_hierarchy_is_seen(host: Host) -> None:
    """In a container whose mount shows a part of the hierarchy, the group is looked for below that part."""
    host.write("proc/self/cgroup", "0::/docker/1234/user\n")
    part = UNIFIED.replace("0:6 /", "0:6 /docker/1234")
    host.write("proc/self/mountinfo", ROOT_MOUNT + part.format(cgroup=host.cgroup))
    assert check(report(patient(host)), "cgroups").found == "v2, limits on cpu, memory, pids"


def test_busybox_comes_from_the_machine_the_store_or_the_distribution(host: Host) -> None:
    """A static one is enough, and so is one in the store; one to be fetched is a limit; none is missing."""
    someone = patient(host)
    assert look_at_busybox(someone).found == "/bin/busybox, static"
    without = dataclasses.replace(someone, find_busybox=lambda: None)
    assert look_at_busybox(without) == (MISSING, "none that is static", INSTALL_BUSYBOX)
    for tool in ("apt-get", "dpkg-deb"):
        host.write(f"bin/{tool}", "")
        (host.path / "bin" / tool).chmod(0o755)
    fetched = look_at_busybox(without)
    assert (fetched.state, fetched.advice) == (LIMITED, INSTALL_BUSYBOX)
    kept = dataclasses.replace(without, trials=Tried(without.machine, without.idmap, has_busybox=True))
    assert look_at_busybox(kept).found == "in the store"


def test_an_old_kernel_is_a_limit(host: Host) -> None:
    """Vendors bring features to old kernels: the version is told, and the trials decide."""
    host.write("proc/sys/kernel/osrelease", "4.18.0-553.el8.x86_64\n")
    found = report(patient(host))
    assert check(found, "kernel") == Check("kernel", LIMITED, "4.18.0-553.el8.x86_64", "use a kernel of 5.12 or later")
    assert found.ok


def test_what_never_answers_is_left_behind(host: Host) -> None:
    """A probe that hangs, as on a dead network disk, is missing when time is up."""
    forever = threading.Event()

    def find_busybox() -> Path | None:
        forever.wait()
        return None

    found = diagnose(dataclasses.replace(patient(host), find_busybox=find_busybox), time.monotonic())
    forever.set()
    assert check(found, "busybox") == Check("busybox", MISSING, f"no answer in {PATIENCE:.0f} s")


REPORT = Report(
    (
        Check("kernel", OK, "6.12"),
        Check("user ids", LIMITED, "one <id>", "ask & get more"),
        Check("/proc", MISSING, "cannot mount /proc"),
    )
)


def test_the_text_is_a_table_with_advice_below() -> None:
    """States with their signs, names and findings stand in columns; what to do stands below what it is about."""
    assert str(REPORT).splitlines() == [
        "✓ ok       kernel    6.12",
        "! limited  user ids  one <id>",
        "                     → ask & get more",
        "✗ missing  /proc     cannot mount /proc",
    ]
    assert repr(REPORT) == str(REPORT)
    assert str(Report(())) == ""


def test_the_page_is_a_table_whose_words_are_escaped() -> None:
    """Nothing that was found on the machine is markup."""
    page = REPORT._repr_html_()
    assert page.count("<tr>") == 1 + len(REPORT.checks)
    assert "one &lt;id&gt;" in page
    assert "ask &amp; get more" in page
    assert "<id>" not in page


def test_the_dictionary_is_json() -> None:
    """The report has its verdict and its checks as plain values."""
    read = json.loads(json.dumps(REPORT.as_dict()))
    assert read["ok"] is False
    assert read["checks"][1] == {"name": "user ids", "state": LIMITED, "found": "one <id>", "advice": "ask & get more"}
    assert Report(REPORT.checks[:2]).as_dict()["ok"] is True


def test_an_error_without_a_hint_is_a_finding_without_advice(host: Host) -> None:
    """What nobody knows a cure for is told as it is."""
    found = report(dataclasses.replace(patient(host), refused=StoreError("it is odd")))
    assert check(found, "store") == Check("store", MISSING, "it is odd")
    assert issubclass(StoreError, NbcontainerError)


def test_the_mount_of_a_path_is_the_nearest_and_the_newest(host: Host) -> None:
    """Of mounts above a path the deepest counts, of two in one place the later; escapes are undone."""
    host.write(
        "proc/self/mountinfo",
        ROOT_MOUNT
        + "30 20 0:30 / /srv rw - xfs /dev/b rw\n"
        + "31 30 0:31 / /srv rw,nosuid shared:7 master:1 - btrfs /dev/c rw,ssd\n"
        + "32 31 0:32 /sub /srv/a\\040b rw - tmpfs none rw\n"
        + "damaged\n",
    )
    machine = host.machine()
    assert machine.mount_of(Path("/srv/x")) == Mount("/", "/srv", ("rw", "nosuid"), "btrfs", ("rw", "ssd"))
    assert machine.mount_of(Path("/srv/a b/c")) == Mount("/sub", "/srv/a b", ("rw",), "tmpfs", ("rw",))
    nearest = machine.mount_of(Path("/srvx"))
    assert nearest is not None
    assert nearest.fstype == "ext4"


def test_a_machine_without_files_has_no_facts(tmp_path: Path) -> None:
    """Where nothing can be read, nothing is claimed: no version, no mount, no capability, no setting."""
    machine = Machine(tmp_path, tmp_path, {}, UID, UID)
    assert (machine.release, machine.version, machine.mounts(), machine.covered("/proc")) == ("", (0, 0), [], [])
    assert not machine.capable("SETUID")
    assert not machine.no_new_privs
    assert machine.setting("user/max_user_namespaces") == ""
