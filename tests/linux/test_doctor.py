"""Doctor on the real kernel: on this machine, and on what it can be made to be for one process and its children.

Each of those runs doctor and then a cell, so that the one's words can be held against the other's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.doctor.checks import PROBES
from nbcontainer.commands.doctor.examination import examine
from nbcontainer.commands.doctor.report import LIMITED, MISSING, OK
from nbcontainer.images.builtin.busybox import static_busybox
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.overlay import FEW_CHANGES, UPPER_ADVICE
from nbcontainer.sandbox.userns.idmap import range_refusal
from nbcontainer.store.errors import FREE_SPACE
from nbcontainer.store.layout import MEMORY, Store
from tests.requirements import require, require_plain_user, require_root
from tests.running import DEADLINE, descendants, mounts, open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

CHILD = """
import json, sys
from pathlib import Path
from nbcontainer.containers import run
from nbcontainer.containers.commit import commit
from nbcontainer.commands.doctor.examination import examine
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.options import run_options
from nbcontainer.containers.cleanup import prune
from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.errors import NbcontainerError

store, volumes = Path(sys.argv[1]), tuple(parse_volume(text) for text in sys.argv[2:])
said = {"report": examine(store).as_dict(), "stdout": "", "stderr": "", "message": "", "hint": "", "layers": 0}
out, err = [], []
try:
    engine = Engine(store)
    for script in ("echo one; rm -r /etc/passwd; mkdir /made", "ls -d /made; test -e /etc/passwd || echo gone"):
        request = run.Request("busybox", "box", script=script, options=run_options({"volumes": volumes}))
        container, _ = run.run(engine, request, run.Streams(out.append, err.append))
    said["layers"] = len(commit(container, "kept").layers)
    container.remove()
    engine.store.index.drop_image("kept")
    prune(engine)
    engine.close()
except NbcontainerError as error:
    said["message"], said["hint"] = error.message, error.hint
said["stdout"], said["stderr"] = b"".join(out).decode(), b"".join(err).decode()
print(json.dumps(said))
"""

MOUNTS = ("unshare", "--mount")
"""Root's way to mounts of the test's own."""

DELETES = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 6)
"""Whether a tmpfs can hold an upper from which directories of the image are removed (shmem.c)."""

USERNS = ("unshare", "--user", "--map-root-user", "--mount")
"""Anybody's: root in a user namespace that has this user and nobody else."""


@pytest.fixture(autouse=True)
def _namespaces(_containers_work: str) -> None:
    require("namespaces", available=not _containers_work, why=_containers_work)
    require("busybox", available=static_busybox() is not None, why="there is no static busybox")


@pytest.fixture(params=[MOUNTS, USERNS], ids=["root", "in a user namespace"])
def inside(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """A command to run others where mounts can be made."""
    if request.param == MOUNTS:
        require_root()
    return tuple(request.param)


@dataclass(frozen=True)
class Told:
    """What doctor said there, and what became of the cells after it."""

    report: dict[str, Any]
    stdout: str
    stderr: str
    message: str
    hint: str
    layers: int

    def check(self, name: str) -> dict[str, str]:
        return next(check for check in self.report["checks"] if check["name"] == name)

    @property
    def missing(self) -> list[str]:
        """The checks that are missing."""
        return [check["name"] for check in self.report["checks"] if check["state"] == MISSING]

    @property
    def ran(self) -> bool:
        """Whether two cells ran one after another, the second saw what the first did, and both were committed."""
        return self.stdout == "one\n/made\ngone\n" and self.layers == 2 and not self.message


def tell(
    *before: str, store: Path, setup: str = "", volumes: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> Told:
    """Runs the shell's `setup` below the command `before`, then doctor and cells on a store at `store` (host)."""
    child = [sys.executable, "-c", CHILD, str(store), *volumes]
    if setup:
        child = ["sh", "-e", "-c", f'{setup}\nexec "$@"', "sh", *child]
    done = subprocess.run(
        [*before, *child],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        # chroot is not on every plain user's path.
        env=os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"} | (env or {}),
    )
    assert done.returncode == 0, done.stderr
    return Told(**json.loads(done.stdout))


def memory(*stores: Path) -> set[str]:
    """The directories in memory of these stores: other tests have their own there."""
    names = {hashlib.sha256(os.fsencode(store)).hexdigest()[:12] for store in stores}
    return {path.name for path in MEMORY.glob("nbcontainer-*") if path.name.rpartition("-")[2] in names}


def test_what_doctor_says_of_this_machine_a_cell_confirms(engine: Engine, cell: Callable[..., Ran]) -> None:
    """Where cells run, the whole plan of one is ok, and so is each of its parts."""
    assert cell("echo it runs").text == "it runs"
    states = {check.name: check.state for check in examine(engine).checks}
    assert list(states) == [probe.name for probe in PROBES]
    for name in ("namespaces", "mounts", "/proc", "/dev", "network", "/sys", "overlay", "container"):
        assert states[name] != MISSING, f"{name} is {states[name]}, and cells run"


@pytest.mark.parametrize("there", [True, False], ids=["with a store", "without"])
def test_nothing_is_left_behind(engine: Engine, tmp_path: Path, there: bool) -> None:
    """No process, mount, descriptor or file of an examination is there when it is over, and no store is made by one."""
    store = engine.store.path if there else tmp_path / "a" / "store"
    engine.background.wait()

    def everything() -> tuple[object, ...]:
        folder = engine.store.path
        files = {str(path.relative_to(folder)) for name in ("", "tmp", "layers") for path in (folder / name).iterdir()}
        descriptors = open_descriptors()
        places = hierarchy.look(Machine()).places()
        groups = sum(1 for place in places for _ in place.glob(f"{hierarchy.PREFIX}{os.getpid()}-*"))
        own = [line for line in mounts() if str(folder) in line or str(tmp_path) in line]  # other tests mount, too
        return files, set(tmp_path.iterdir()), memory(folder, store), descendants(os.getpid()), own, descriptors, groups

    before: tuple[object, ...] = ()
    while before != (before := everything()):  # what earlier tests ended may still be dying
        time.sleep(0.2)
    examine(store)
    deadline = time.monotonic() + DEADLINE
    while everything() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert everything() == before


@pytest.mark.parametrize(
    ("setup", "name", "advice"),
    [
        pytest.param(
            "echo 0 > /proc/sys/user/max_user_namespaces",
            "namespaces",
            "sysctl -w user.max_user_namespaces=10000 (as root)",
            id="user",
        ),
        pytest.param(
            "echo 0 > /proc/sys/user/max_net_namespaces",
            "network",
            "sysctl -w user.max_net_namespaces=10000 (as root)",
            id="network",
        ),
        pytest.param(
            "echo 0 > /proc/sys/user/max_ipc_namespaces",
            "namespaces",
            "sysctl -w user.max_ipc_namespaces=10000 (as root)",
            id="ipc",
        ),
    ],
)
def test_where_namespaces_are_closed_the_limit_is_named(tmp_path: Path, setup: str, name: str, advice: str) -> None:
    """A limit of zero, which is a user namespace's own, stops doctor's trial and the cell with the same words."""
    told = tell(*USERNS, store=tmp_path / "store", setup=setup)
    check = told.check(name)
    assert (check["state"], check["found"], check["advice"]) == (MISSING, told.message, told.hint)
    assert advice in told.hint


@pytest.mark.parametrize("cover", ["mount --bind /dev/null /proc/keys", "mount -t tmpfs none /proc/fs"])
def test_where_proc_is_covered_the_notebook_mounts_it(inside: tuple[str, ...], tmp_path: Path, cover: str) -> None:
    """A container cannot mount a new /proc beside one that is hidden in part: a notebook with SYS_ADMIN can."""
    told = tell(*inside, store=tmp_path / "store", setup=cover)
    assert told.missing == []
    assert told.ran
    check = told.check("/proc")
    assert (check["state"], check["found"]) == (OK, ProcLevel.NOTEBOOK)


@pytest.mark.parametrize("cover", ["mount -t tmpfs none /sys/bus", "umount -l -R /sys"], ids=["covered", "not there"])
def test_where_sys_is_not_whole_a_cell_has_what_there_is(inside: tuple[str, ...], tmp_path: Path, cover: str) -> None:
    """A fresh sysfs is refused there, and the machine's own is shown instead, read-only."""
    if inside == USERNS and "umount" in cover:
        pytest.skip("what was mounted before a user namespace was made is locked in it")
    told = tell(*inside, store=tmp_path / "store", setup=cover)
    assert told.check("/sys")["state"] == OK
    assert told.ran


def test_on_overlayfs_cells_write_to_memory_and_say_so_once(inside: tuple[str, ...], tmp_path: Path) -> None:
    """A store in a Docker container: history and commit work, and when all is removed the memory is empty."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = ",".join(f"{name}dir={tmp_path}/{name}" for name in ("lower", "upper", "work"))
    told = tell(
        *inside,
        store=tmp_path / "merged/store",
        setup=f"mount -t overlay -o {options},userxattr overlay {tmp_path}/merged",
    )
    check = told.check("overlay")
    assert (check["state"], check["advice"]) == (LIMITED, UPPER_ADVICE)
    assert "overlay" in check["found"]
    assert (FEW_CHANGES in check["found"]) == (not DELETES)
    assert told.check("container")["state"] == (OK if DELETES else LIMITED)
    assert told.ran
    assert told.stderr.count("kept in memory") == 1
    assert told.stderr.count(FEW_CHANGES) == (not DELETES)
    assert UPPER_ADVICE in told.stderr
    assert memory(tmp_path / "merged/store") == set()


@pytest.mark.parametrize("planted", ["link", "file"])
def test_a_place_in_memory_that_another_has_made_is_not_used(tmp_path: Path, planted: str) -> None:
    """Everybody may write to /dev/shm: what is in the way there is neither followed nor taken over."""
    store = Store(tmp_path / "store", (os.geteuid(), os.getegid()))
    store.memory.symlink_to(tmp_path) if planted == "link" else store.memory.touch()
    try:
        with pytest.raises(PermissionError, match="it belongs to another user"):
            store.use_memory()
        assert not store.in_memory
    finally:
        store.memory.unlink()
        store.close()


def test_a_store_in_memory_works_and_is_a_limit(inside: tuple[str, ...], tmp_path: Path) -> None:
    """A tmpfs can hold a store, which is gone with it."""
    told = tell(*inside, store=tmp_path / "store", setup=f"mount -t tmpfs none {tmp_path}")
    assert (told.check("store")["state"], told.check("overlay")["state"]) == (LIMITED, OK if DELETES else LIMITED)
    assert "on tmpfs" in told.check("store")["found"]
    assert told.ran
    assert not told.stderr


def test_a_store_that_is_mounted_noexec_works(inside: tuple[str, ...], tmp_path: Path) -> None:
    """Programs run from the overlay, whose mount has flags of its own."""
    told = tell(*inside, store=tmp_path / "store", setup=f"mount -t tmpfs -o noexec,nosuid,nodev none {tmp_path}")
    assert told.check("container")["state"] == (OK if DELETES else LIMITED)
    assert told.ran


@pytest.mark.parametrize(
    ("options", "words", "advice"),
    [
        ("ro", "Read-only file system", "set NBCONTAINER_HOME to a directory on a writable file system"),
        ("size=16k", "No space left on device", FREE_SPACE),
        ("nr_inodes=6", "No space left on device", FREE_SPACE),
    ],
    ids=["read-only", "no space", "no inodes"],
)
def test_a_store_that_cannot_be_written_is_one_clear_line(
    inside: tuple[str, ...], tmp_path: Path, options: str, words: str, advice: str
) -> None:
    """Doctor and the cell name the store, the reason and the same way out; what needs no store is tried elsewhere."""
    told = tell(*inside, store=tmp_path / "store", setup=f"mount -t tmpfs -o {options} none {tmp_path}")
    check = told.check("store")
    assert (check["state"], check["advice"], told.hint) == (MISSING, advice, advice)
    for text in (check["found"], told.message):
        assert words in text
        assert str(tmp_path / "store") in text
    assert told.missing == ["store"]


def test_a_store_below_what_nobody_may_enter_is_refused(tmp_path: Path) -> None:
    """A directory of somebody else's is one clear line for a plain user."""
    require_plain_user()
    told = tell(store=Path("/root/nbcontainer-test"))
    check = told.check("store")
    assert (check["state"], check["advice"]) == (MISSING, told.hint)
    assert "set NBCONTAINER_HOME to a directory of your own" in told.hint


def test_under_no_new_privs_cells_run(tmp_path: Path) -> None:
    """Root loses nothing; a plain user has one id, by which cells run all the same."""
    require("setpriv")
    told = tell("setpriv", "--no-new-privs", store=tmp_path / "store")
    assert told.check("user ids")["state"] == (OK if os.geteuid() == 0 else LIMITED)
    assert told.ran


def test_without_newuidmap_a_user_has_one_id(tmp_path: Path) -> None:
    """A plain user with a range and no tool to map it is told which, and cells run."""
    require_plain_user()
    told = tell(store=tmp_path / "store", env={"PATH": "/nonexistent"})
    assert told.check("user ids")["state"] == LIMITED
    assert told.ran


def test_a_plain_user_in_a_user_namespace_has_one_id(tmp_path: Path) -> None:
    """A range of ids that do not exist in what the notebook runs in is not asked for."""
    require_plain_user()
    told = tell("unshare", "--user", "--map-current-user", store=tmp_path / "store")
    assert told.check("user ids")["state"] == LIMITED
    assert told.ran


def test_root_in_a_user_namespace_of_one_id_runs_cells(tmp_path: Path) -> None:
    """That root can map nobody but itself, and its volumes need no idmapped mounts."""
    data = tmp_path / "data"
    data.mkdir()
    told = tell(*USERNS, store=tmp_path / "store", volumes=(f"{data}:/data",))
    assert told.check("user ids")["state"] == LIMITED
    assert told.check("volumes")["state"] == OK
    assert told.ran


def test_in_a_chroot_it_is_said_that_there_are_no_user_namespaces(inside: tuple[str, ...], tmp_path: Path) -> None:
    """The kernel makes none for a process whose root is not that of its mounts, and gives no reason."""
    root = tmp_path / "root"
    root.mkdir()
    told = tell(
        *inside,
        store=tmp_path / "store",
        setup=f'mount --rbind / {root}\nexec chroot {root} env -C / "$@"',
    )
    check = told.check("namespaces")
    assert (check["state"], check["found"], check["advice"]) == (MISSING, told.message, told.hint)
    assert "a chroot has none" in told.hint


def test_a_root_that_may_not_mount_has_volumes_with_the_hosts_owners(tmp_path: Path) -> None:
    """Without SYS_ADMIN root cannot make an idmapped mount. Doctor and a cell with a volume say the same of it."""
    require_root()
    require("setpriv")
    bounded = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
    assert tell(*bounded, store=tmp_path / "store").ran
    told = tell(*bounded, store=tmp_path / "store", volumes=(f"{tmp_path}:/data",))
    assert told.missing == []
    assert told.ran
    check = told.check("volumes")
    assert (check["state"], told.stderr) == (LIMITED, f"nbcontainer: {check['found']}\n")
    assert "SYS_ADMIN" in check["advice"]


def test_a_root_without_capabilities_is_told_which_it_needs(tmp_path: Path) -> None:
    """Root in a container that dropped all of them can map nobody, itself included (user_namespaces(7))."""
    require_root()
    require("setpriv")
    told = tell("setpriv", "--bounding-set=-all", "--inh-caps=-all", store=tmp_path / "store")
    check = told.check("namespaces")
    assert (check["state"], check["found"], check["advice"]) == (MISSING, told.message, told.hint)
    assert "the capabilities SETUID and SETGID" in told.hint


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    """A command in a podman container on this machine's own root, whose changes are thrown away.

    With the options that are added to it, it ends with `--rootfs /:O`.
    """
    require_root()
    for program in ("podman", "runc"):
        require(program)
    short = tempfile.mkdtemp(prefix="nbc-")  # podman's runroot has at most 50 characters
    settings = Path(short) / "containers.conf"
    settings.write_text('[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = "cgroupfs"\n')
    yield (
        *("env", f"CONTAINERS_CONF={settings}", "podman", "--root", f"{short}/root", "--runroot", f"{short}/run"),
        *("--runtime", str(shutil.which("runc")), "run", "--rm", "--network=none"),
    )
    deadline = time.monotonic() + DEADLINE
    while Path(short).exists():  # a process of podman's may still clean up, and make files in there
        shutil.rmtree(short, ignore_errors=time.monotonic() < deadline)


def test_in_podman_as_it_comes_cells_run(podman: tuple[str, ...]) -> None:
    """It hides parts of /proc, and its root may not mount: doctor names these limits, and a store on overlayfs."""
    told = tell(*podman, "--rootfs", "/:O", store=Path("/home/nbcontainer"), volumes=("/tmp:/data",))
    assert told.missing == []
    assert told.ran
    assert told.check("/proc")["found"].partition(":")[0] == ProcLevel.OUTER
    assert "systempaths=unconfined" in told.check("/proc")["advice"]
    assert told.check("overlay")["state"] == told.check("volumes")["state"] == LIMITED
    assert f"nbcontainer: {told.check('volumes')['found']}" in told.stderr.splitlines()


def test_in_podman_with_sys_admin_the_notebook_mounts_proc(podman: tuple[str, ...]) -> None:
    """The covers of /proc stay, and root's volumes keep their owners."""
    told = tell(*podman, "--cap-add=SYS_ADMIN", "--rootfs", "/:O", store=Path("/home/nbcontainer"))
    assert told.ran
    assert (told.check("/proc")["state"], told.check("/proc")["found"]) == (OK, ProcLevel.NOTEBOOK)


FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    "syscalls": [
        {
            "names": ["fsconfig", "fsmount", "fsopen", "mount", "mount_setattr", "move_mount", "open_tree", "setns"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 1,
        },
        {"names": ["umount2", "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 1,
            "args": [{"index": 0, "value": 1 << 28, "valueTwo": 1 << 28, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}
"""What Docker's default filter refuses to a container without SYS_ADMIN, of what makes namespaces (moby/profiles)."""


def test_where_a_filter_refuses_namespaces_the_options_are_named(podman: tuple[str, ...], tmp_path: Path) -> None:
    """Docker's default: a cell and doctor name the same options, and with the first of them cells run."""
    (tmp_path / "filter.json").write_text(json.dumps(FILTER))
    place = ("--rootfs", "/:O")
    told = tell(*podman, f"--security-opt=seccomp={tmp_path}/filter.json", *place, store=Path("/home/nbcontainer"))
    assert told.check("namespaces")["advice"] == told.hint
    assert "start the outer container with --security-opt seccomp=unconfined --security-opt systempaths" in told.hint
    assert '"runArgs": ["--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined"]' in told.hint
    assert "securityContext: {seccompProfile: {type: Unconfined}}" in told.hint
    assert tell(*podman, "--security-opt=seccomp=unconfined", *place, store=Path("/home/nbcontainer")).ran


def root_of_links(top: Path) -> Path:
    """Return a root directory that lacks /usr and /etc: a plain user cannot put an overlay on this machine's root."""
    for name in ("usr", "etc", "proc", "sys", "dev", "tmp", "var", "home", "root", "run"):
        (top / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (top / name).symlink_to(f"usr/{name}")
    return top


def test_in_rootless_podman_as_it_comes_cells_run(tmp_path: Path) -> None:
    """Root there is a plain user outside: cells have the outer /proc, and volumes keep their owners."""
    require_plain_user()
    require("podman")
    if refused := range_refusal(Machine()):
        pytest.skip(refused.why)
    data = tmp_path / "shown" / "data"
    data.mkdir(parents=True)
    shown = {"/usr:/usr:ro", "/etc:/etc:ro", f"{tmp_path}/shown:{tmp_path}/shown"}
    shown |= {f"{path}:{path}:ro" for path in (sys.base_prefix, Path(__file__).parents[2])}
    with tempfile.TemporaryDirectory(prefix="nbc-") as short:
        settings = Path(short) / "containers.conf"
        settings.write_text('[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = "cgroupfs"\n')
        command = ("env", f"CONTAINERS_CONF={settings}", f"XDG_RUNTIME_DIR={short}", "podman")
        places = ("--root", f"{short}/root", "--runroot", f"{short}/run", "--runtime", str(shutil.which("runc")))
        told = tell(
            *(*command, *places, "run", "--rm", "--network=none", "--workdir", str(Path(__file__).parents[2])),
            *(f"--volume={volume}" for volume in sorted(shown)),
            *("--rootfs", str(root_of_links(tmp_path / "rootfs"))),
            store=tmp_path / "shown" / "store",
            volumes=(f"{data}:/data",),
        )
        subprocess.run([*command, *places, "system", "reset", "--force"], check=False, capture_output=True)
    assert told.missing == []
    assert told.ran
    assert told.check("/proc")["found"].partition(":")[0] == ProcLevel.OUTER
    assert told.check("volumes")["state"] == OK


def test_in_podman_with_a_whole_proc_cells_run(podman: tuple[str, ...]) -> None:
    """Nothing else of podman's defaults stops a cell: its host name stays podman's, and its files are in memory."""
    told = tell(*podman, "--security-opt=unmask=ALL", "--rootfs", "/:O", store=Path("/home/nbcontainer"))
    assert told.check("container")["state"] == OK
    assert told.check("host name")["state"] == LIMITED
    assert told.ran


def test_the_command_examines_a_machine_whose_store_cannot_be_opened() -> None:
    """`nbcontainer doctor` says why there is no store, tries the rest, and ends with 1."""
    code = "from nbcontainer.cli import main; main()"
    words = [sys.executable, "-c", code, "--json", "--store", "/proc/nowhere", "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert (done.returncode, done.stderr, states["store"], states["overlay"]) == (1, "", MISSING, OK)


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbcontainer")
print(shell.run_line_magic("container", "doctor"))
shell.run_line_magic("unload_ext", "nbcontainer")
"""


def test_the_magic_examines_a_machine_whose_store_cannot_be_opened(tmp_path: Path) -> None:
    """The extension loads, and `%container doctor` says why there is no store and that the rest works."""
    env = os.environ | {"NBCONTAINER_HOME": "/proc/nowhere", "IPYTHONDIR": str(tmp_path)}
    words = [sys.executable, "-c", NOTEBOOK]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False, env=env)
    assert "missing  store" in done.stdout, done.stderr
    assert "/proc/nowhere" in done.stdout
    assert "ok       overlay" in done.stdout
