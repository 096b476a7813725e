"""Volumes and tmpfs on the real kernel."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.errors import ContainerError, SetupFailed, UsageError
from nbcontainer.sandbox.userns import idmap
from tests.requirements import require, require_linux, require_plain_user, require_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from nbcontainer.sandbox.spec import Volume
    from tests.running import Ran

    Cell = Callable[..., Ran]


def volumes(*words: str) -> tuple[Volume, ...]:
    return tuple(cast("Volume", parse_volume(word)) for word in words)


def new_name() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of the test's user, with a file in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "hello").write_text("from the host\n")
    return folder


def test_a_directory_is_read_and_written(cell: Cell, data: Path) -> None:
    """What is in the directory is in the container, and what the cell writes there is on the host."""
    ran = cell("cat /data/hello; echo from the cell > /data/new; rm /data/hello", volumes=volumes(f"{data}:/data"))
    assert ran.text == "from the host"
    assert (data / "new").read_text() == "from the cell\n"
    assert not (data / "hello").exists()


def test_a_file_is_a_volume(cell: Cell, data: Path) -> None:
    """One file, on one of the image's and on none."""
    ran = cell(
        "cat /etc/hosts /new/file; echo x >> /new/file",
        volumes=volumes(f"{data}/hello:/etc/hosts:ro", f"{data}/hello:/new/file"),
    )
    assert ran.lines == ["from the host"] * 2
    assert (data / "hello").read_text() == "from the host\nx\n"


def test_files_made_inside_are_the_users(cell: Cell, data: Path) -> None:
    """What root in the container makes is the notebook's user's outside, and what is the user's is root's inside."""
    ran = cell(
        "stat -c '%u %g' /data /data/hello; umask; touch /data/new; mkdir /data/dir", volumes=volumes(f"{data}:/data")
    )
    assert ran.lines == ["0 0", "0 0", "0022"]
    for name in ("new", "dir"):
        facts = (data / name).stat()
        assert (facts.st_uid, facts.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IMODE((data / "new").stat().st_mode) == 0o644


def test_files_made_by_another_user_inside(cell: Cell, engine: Engine, data: Path) -> None:
    """Uid 1000 in the container is uid 1000 outside for root (by idmap), and one of the range's for a plain user."""
    if engine.idmap.kind == idmap.MapKind.SINGLE:
        pytest.skip("needs a range of ids")
    data.chmod(0o777)
    cell("echo x > /data/new; stat -c %u /data/new", volumes=volumes(f"{data}:/data"), user="1000:1000")
    facts = (data / "new").stat()
    if os.geteuid() == 0:
        assert (facts.st_uid, facts.st_gid) == (1000, 1000)
    else:
        upper = engine.idmap.uids[1]
        assert facts.st_uid == upper.outside + 1000 - upper.inside


def test_roots_files_keep_their_owners(cell: Cell, data: Path) -> None:
    """For root, a volume's files have the same numbers inside as outside, whoever they belong to."""
    require_root()
    os.chown(data / "hello", 33, 44)
    ran = cell("stat -c '%u %g' /data/hello; chown 5:6 /data/hello", volumes=volumes(f"{data}:/data"))
    assert ran.text == "33 44"
    assert ((data / "hello").stat().st_uid, (data / "hello").stat().st_gid) == (5, 6)


def test_read_only_is_read_only(cell: Cell, data: Path) -> None:
    """`:ro` refuses every kind of write, be it by root, and cannot be remounted."""
    ran = cell(
        """
        touch /data/new; rm /data/hello; mkdir /data/d; chmod 777 /data/hello; echo x >> /data/hello
        mount -o remount,rw,bind /data && echo remounted
        cat /data/hello
        """,
        volumes=volumes(f"{data}:/data:ro"),
    )
    assert ran.text == "from the host"
    assert ran.stderr.decode().count("Read-only file system") == 5
    assert sorted(path.name for path in data.iterdir()) == ["hello"]


def test_several_and_nested(cell: Cell, data: Path, tmp_path: Path) -> None:
    """A volume below another lands on it, whichever is named first; each is its own host directory."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (data / "sub").mkdir()
    named = [f"{inner}:/data/sub", f"{data}:/data", f"{inner}:/other"]
    ran = cell("echo in > /data/sub/x; echo out > /data/y; ls /other /data", volumes=volumes(*named))
    assert ran.lines == ["/data:", "hello", "sub", "y", "", "/other:", "x"]
    assert (inner / "x").exists()
    assert not (data / "sub/x").exists()


def test_a_tmpfs_below_a_volume(cell: Cell, data: Path) -> None:
    """Memory below a volume's target hides what is there for this cell alone."""
    (data / "cache").mkdir()
    (data / "cache/old").touch()
    ran = cell(
        "ls /data/cache; echo x > /data/cache/new",
        volumes=volumes(f"{data}:/data"),
        tmpfs=(parse_tmpfs("/data/cache"),),
    )
    assert ran.stdout == b""
    assert [path.name for path in (data / "cache").iterdir()] == ["old"]


@pytest.mark.parametrize("target", ["/new", "/deep/er/and/deeper", "/bin/new", "/usr/../new2"])
def test_a_missing_target_is_made(cell: Cell, data: Path, target: str) -> None:
    """The mount point is made, for root and for a directory or a file alike."""
    ran = cell(f"cat {target}/hello; stat -c %a $(dirname {target})", volumes=volumes(f"{data}:{target}"))
    assert ran.lines == ["from the host", "755"]


def test_a_missing_target_in_a_read_only_volume(cell: Cell, data: Path) -> None:
    """A mount point cannot be made in a volume that is read-only: the error is about that."""
    words = volumes(f"{data}:/data:ro", f"{data}:/data/missing")
    with pytest.raises(SetupFailed, match="at /data/missing: Read-only file system; the target does not exist"):
        cell("true", volumes=words)
    assert [path.name for path in data.iterdir()] == ["hello"]


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("data", "/etc/passwd", "Not a directory; the target, or something above it, is a file"),
        ("data", "/etc/passwd/x", "Not a directory; the target, or something above it, is a file"),
        ("data/hello", "/etc", "Is a directory; the source is a file and the target a directory"),
    ],
)
def test_a_target_of_the_other_kind(cell: Cell, data: Path, source: str, target: str, words: str) -> None:
    """A directory on a file, or a file on a directory, is refused with what to do."""
    with pytest.raises(SetupFailed, match=words):
        cell("true", volumes=volumes(f"{data.parent}/{source}:{target}"))


@pytest.mark.parametrize("target", ["/proc", "/proc/1/attr", "/sys/fs", "/dev/shm", "/", "relative"])
def test_reserved_targets_are_refused(data: Path, target: str) -> None:
    """Nothing is mounted over what is the container's own."""
    with pytest.raises(UsageError):
        parse_volume(f"{data}:{target}")


PLANTED = {
    "/etc": "ln -s /etc /data",
    "up": "ln -s ../../../../../../../../tmp /data",
    "deep": "ln -s /var /x; ln -s x/../../../../tmp /data",
    "dir": "mkdir -p /a/b; ln -s /a/b /data",
    "relative": "mkdir -p /a/b; ln -s ./a/../a/b /data",
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("below", ["", "/new/below"])
def test_links_in_the_image_do_not_lead_out(cell: Cell, data: Path, plant: str, below: str) -> None:
    """A target that is a link is followed in the container's root: the host has nothing new, wherever it pointed."""
    name = new_name()
    cell(plant, name=name)
    ran = cell(
        f"cat /data{below}/hello; ls -ld /data | cut -c 1", name=name, image="", volumes=volumes(f"{data}:/data{below}")
    )
    assert ran.lines == ["from the host", "l"]
    for place in ("/etc", "/var", "/tmp"):
        assert not Path(place, "new").exists()


@pytest.mark.parametrize("where", ["/proc/self/attr", "/proc", "/sys/fs", "/dev", "/dev/shm", "/", "/proc/1/root"])
def test_links_in_the_image_do_not_lead_into_proc(cell: Cell, data: Path, where: str) -> None:
    """A link to what is the container's own is refused as the words would be (runc's checkProcMount)."""
    name = new_name()
    cell(f"ln -s {where} /data", name=name)
    for target in ("/data", "/data/self") if where != "/" else ("/data", "/data/proc"):
        with pytest.raises(SetupFailed) as raised:
            cell("true", name=name, image="", volumes=volumes(f"{data}:{target}"))
        assert raised.value.step == "BindVolume"
    with pytest.raises(SetupFailed, match="cannot mount a tmpfs"):
        cell("true", name=name, image="", tmpfs=(parse_tmpfs("/data"),))


def test_a_dangling_link_is_refused(cell: Cell, data: Path) -> None:
    """A link to nothing is no mount point."""
    name = new_name()
    cell("ln -s /nowhere /data", name=name)
    with pytest.raises(SetupFailed, match="File exists; the target is a dangling symbolic link"):
        cell("true", name=name, image="", volumes=volumes(f"{data}:/data"))


@pytest.mark.slow
def test_a_link_that_is_swapped_does_not_lead_out(cell: Cell, engine: Engine, data: Path, tmp_path: Path) -> None:
    """Another container that swaps a directory for a link in a shared volume wins nothing (CVE-2021-30465).

    A hundred rounds against a loop that swaps as fast as it can: each mounts inside, or fails to, and whatever
    was mounted where the link points would show as a file there.
    """
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    shared.mkdir()
    outside.mkdir()
    (shared / "real").mkdir()
    (shared / "t").mkdir()
    stop = tmp_path / "stop"
    stop.mkdir()
    swap = """
        cd /shared
        ln -s ../../../../../../../../..$0 link
        while ! [ -e /stop/now ]; do
            mv -T t real2 2>/dev/null; mv -T link t 2>/dev/null; mv -T t link 2>/dev/null; mv -T real2 t 2>/dev/null
        done
    """.replace("$0", str(outside))
    words = volumes(f"{shared}:/shared", f"{stop}:/stop:ro")
    swapper = threading.Thread(target=lambda: cell(swap, volumes=words))
    swapper.start()
    mounted = 0
    try:
        for _ in range(100):
            # What fails, fails in the step that mounts: a link that was gone or came in between.
            with contextlib.suppress(SetupFailed):
                ran = cell("ls /shared/t", volumes=volumes(f"{shared}:/shared", f"{data}:/shared/t"))
                mounted += ran.text == "hello"
            assert list(outside.iterdir()) == []
    finally:
        (stop / "now").touch()
        swapper.join()
    assert mounted > 0, "no round came as far as mounting"
    assert (data / "hello").read_text() == "from the host\n"


def test_a_source_that_is_replaced_is_seen_new(cell: Cell, data: Path) -> None:
    """Between two cells the directory is another one under the same name: the second cell sees that."""
    assert cell("cat /data/hello", volumes=volumes(f"{data}:/data")).text == "from the host"
    data.rename(data.with_name("old"))
    data.mkdir()
    (data / "hello").write_text("another\n")
    assert cell("cat /data/hello", volumes=volumes(f"{data}:/data")).text == "another"


def test_a_source_that_vanishes_is_an_error(cell: Cell, data: Path) -> None:
    """What was there when the option was read, and is gone when the cell starts, is said to be gone."""
    words = volumes(f"{data}:/data")
    shutil.rmtree(data)
    with pytest.raises((SetupFailed, ContainerError), match=str(data)):
        cell("true", volumes=words)
    assert cell("echo next").text == "next"


def test_a_source_through_links_is_what_they_led_to(cell: Cell, data: Path, tmp_path: Path) -> None:
    """A link as the source is resolved once, when the option is read."""
    (tmp_path / "link").symlink_to(data)
    words = volumes(f"{tmp_path}/link:/data")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("/etc")
    assert cell("cat /data/hello", volumes=words).text == "from the host"


def test_the_container_goes_and_the_volume_stays(cell: Cell, engine: Engine, data: Path) -> None:
    """Removing a container, sweeping and closing never touch what a volume holds."""
    ran = cell("echo x > /data/kept; echo y > /file", volumes=volumes(f"{data}:/data"), name="goes")
    ran.container.remove()
    cell("echo z > /data/kept2", volumes=volumes(f"{data}:/data"))
    engine.background.wait()
    engine.close()
    assert sorted(path.name for path in data.iterdir()) == ["hello", "kept", "kept2"]


def test_a_volume_is_in_no_layer(cell: Cell, data: Path) -> None:
    """What the cell wrote to a volume is not among what the container has changed."""
    cell("echo x > /data/secret; echo y > /file", volumes=volumes(f"{data}:/data"), name="layered")
    assert cell("ls -A /data; cat /file", name="layered", image="").lines == ["y"]


def test_no_device_and_no_setuid_in_a_volume(cell: Cell, data: Path) -> None:
    """A volume is mounted nosuid and nodev: what was planted there on the host is inert."""
    ran = cell("grep ' /data ' /proc/self/mounts", volumes=volumes(f"{data}:/data"))
    assert {"nosuid", "nodev"} <= set(ran.text.split(" ")[3].split(","))
    if os.geteuid() == 0:
        os.mknod(data / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert b"Permission denied" in cell("echo x > /data/null", volumes=volumes(f"{data}:/data")).stderr


def test_a_source_that_only_others_may_enter(cell: Cell) -> None:
    """What this user may not enter outside, root in the container may not enter either."""
    require_plain_user()
    closed = Path("/root")
    require("a closed /root", available=closed.is_dir() and not os.access(closed, os.X_OK), why="/root is open")
    with pytest.raises(ContainerError, match="Permission denied; check the path's permissions"):
        parse_volume("/root/x:/data")
    ran = cell("ls /data; touch /data/x", volumes=volumes("/root:/data"))
    assert ran.stderr.decode().count("Permission denied") == 2


def test_a_closed_directory_is_closed_inside(cell: Cell, engine: Engine, data: Path) -> None:
    """Mode bits hold inside as outside: the owner's directory of mode 0700 is root's, and no other user's."""
    data.chmod(0o700)
    assert cell("cat /data/hello", volumes=volumes(f"{data}:/data")).text == "from the host"
    if engine.idmap.kind != idmap.MapKind.SINGLE:
        ran = cell("cat /data/hello", volumes=volumes(f"{data}:/data"), user="1000")
        assert b"Permission denied" in ran.stderr


@pytest.mark.parametrize(("words", "size"), [("/scratch:size=1m", 1 << 20), ("/scratch:size=64k", 64 << 10)])
def test_a_tmpfs_has_its_size(cell: Cell, words: str, size: int) -> None:
    """`--tmpfs DST:size=N` holds N bytes and no more; every user may write there."""
    ran = cell(
        f"head -c {size + 4096} /dev/zero > /scratch/big; stat -c %s /scratch/big; stat -c %a /scratch",
        tmpfs=(parse_tmpfs(words),),
    )
    assert ran.lines == [str(size), "1777"]
    assert b"No space left" in ran.stderr


def test_several_tmpfs(cell: Cell) -> None:
    """Each has its own memory, and is gone with the cell."""
    both = (parse_tmpfs("/a"), parse_tmpfs("/b/c"))
    assert cell("echo x > /a/f; ls /b/c; echo y > /b/c/g; ls /a /b/c", tmpfs=both).lines == [
        "/a:",
        "f",
        "",
        "/b/c:",
        "g",
    ]
    assert cell("ls /a /b/c", tmpfs=both).lines == ["/a:", "", "/b/c:"]


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from nbcontainer.containers.engine import Engine
from nbcontainer.commands.options.volumes import parse_volume
from tests.running import run_script

store, data = Path(sys.argv[1]), Path(sys.argv[2])
userns = sys.argv[3]

def mount(target):
    subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)

def cell(script, mode=""):
    ran = run_script(engine, script, volumes=(parse_volume(f"{data}:/data{mode}"),), userns=userns)
    return ran.text, ran.stderr.decode()

engine = Engine(store)
try:
    before = cell("ls /data")[0]
    mount(data)                                     # a mount made after the launcher started
    (data / "on-the-mount").touch()
    (data / "sub").mkdir()
    mount(data / "sub")                             # and one below it
    (data / "sub" / "deep").touch()
    print(before, *cell("ls /data /data/sub")[0].split(), sep=",")
    print(cell("touch /data/x /data/sub/x", ":ro")[1].count("Read-only file system"))
    subprocess.run(["umount", data / "sub"], check=True)
    subprocess.run(["umount", data], check=True)    # no container holds it
    print(cell("ls /data")[0])
finally:
    engine.close()
"""


@pytest.mark.parametrize("propagation", ["private", "shared"])
@pytest.mark.parametrize("userns", ["", "host"])
def test_a_volume_that_is_a_mount_with_mounts_below(
    cell: Cell, store_path: Path, data: Path, propagation: str, userns: str
) -> None:
    """Mounts made after the launcher started are seen, with those below them, all read-only with `:ro`, and let go.

    In a mount namespace of the test's own, where its mounts reach the launcher's (shared) and where they do not.
    """
    require_root()
    require("unshare")
    if not userns:
        require_linux(6, 3, "idmapped mounts of a tmpfs")
    cell("true")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", propagation, sys.executable, "-c", MOUNTED, store_path, data, userns],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["hello,/data:,on-the-mount,sub,/data/sub:,deep", "2", "hello"]
