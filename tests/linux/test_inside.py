"""What a cell sees of the world."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer import api
from nbcontainer.errors import SetupFailed, UsageError
from nbcontainer.linux.process import CAPABILITIES, capability_mask, last_capability
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.spec import Tmpfs
from nbcontainer.sandbox.steps.devices import MASKED, READ_ONLY
from nbcontainer.sandbox.userns import idmap

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]


def status(text: str) -> dict[str, str]:
    """The fields of proc_pid_status(5)."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def test_it_is_root_in_a_machine_of_its_own(cell: Cell) -> None:
    """A cell is root, pid 2, in /, on a host named like its container."""
    ran = cell("id -u; id -g; echo $$; pwd; hostname; echo $HOSTNAME")
    assert ran.lines == ["0", "0", "2", "/", ran.container.name, ran.container.name]


def test_a_hostname_can_be_chosen(cell: Cell) -> None:
    """`--hostname` is what the container calls itself."""
    assert cell("hostname; echo $HOSTNAME", hostname="box.example").lines == ["box.example"] * 2


def test_only_the_three_standard_descriptors_are_open(cell: Cell) -> None:
    """No descriptor of the notebook's, of init's or of the store's comes through (CVE-2024-21626)."""
    ran = cell(None, command=("sh", "-c", "echo /proc/$$/fd/*; readlink /proc/$$/fd/0; readlink /proc/$$/fd/1"))
    opened, stdin, stdout = ran.lines
    pid = opened.split("/")[2]
    # The last is the directory that the shell reads for the pattern.
    assert opened.split(" ") == [f"/proc/{pid}/fd/{fd}" for fd in (0, 1, 2, 3)]
    assert stdin == "/dev/null"
    assert stdout.startswith("pipe:")


def test_a_body_has_one_descriptor_more(cell: Cell) -> None:
    """The shell that runs a body has 0, 1 and 2, the body itself, and nothing else."""
    ran = cell("for fd in /proc/$$/fd/*; do readlink $fd; done")
    assert [line.partition(":")[0] for line in ran.lines] == ["/dev/null", "pipe", "/dev/cell", "pipe"]


def test_the_working_directory_is_inside(cell: Cell) -> None:
    """The working directory has a path in the container, and `..` of the root is the root: there is no way up."""
    ran = cell("readlink /proc/self/cwd; cd ..; ls -d bin proc; cd ../../..; pwd -P; ls -d /../../bin")
    assert ran.lines == ["/", "bin", "proc", "/", "/../../bin"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [("/tmp", "/tmp"), ("/new/and/deep", "/new/and/deep"), ("/bin/..", "/")],
)
def test_a_working_directory_can_be_chosen(cell: Cell, asked: str, found: str) -> None:
    """`-w` is entered, and made where the image does not have it."""
    assert cell("pwd -P", workdir=asked).text == found


@pytest.mark.parametrize("asked", ["/proc/self/fd/0", "/proc/self/fd/3", "/proc/self/fd/8/../../..", "/proc/1/cwd"])
def test_a_working_directory_is_no_descriptor(cell: Cell, asked: str) -> None:
    """A path by way of an open descriptor is refused before the cell begins (CVE-2024-21626)."""
    with pytest.raises(SetupFailed, match="cannot enter the working directory"):
        cell("pwd", workdir=asked)


def test_a_working_directory_that_is_a_file(cell: Cell) -> None:
    """The error says that it is a file, and what to do."""
    with pytest.raises(SetupFailed, match="it is a file in the image: choose another with -w"):
        cell("pwd", workdir="/etc/passwd")


def test_it_sees_no_process_but_its_own(cell: Cell) -> None:
    """/proc is the container's: init, the cell, and what it starts."""
    ran = cell("for p in /proc/[0-9]*; do echo ${p#/proc/}; done; cat /proc/1/comm")
    assert ran.lines == ["1", "2", "nbcontainer-ini"]


def test_it_cannot_look_into_init(cell: Cell) -> None:
    """Pid 1 is the one process of the notebook's interpreter: its files, memory and program are closed to the cell."""
    ran = cell(
        """
        for name in exe cwd root ns/user; do readlink /proc/1/$name && echo "leaked $name"; done
        for fd in /proc/1/task/1/fd/*; do readlink $fd; done; cat /proc/1/environ /proc/1/maps /proc/1/mem | head -c 10
        """
    )
    assert ran.stdout == b""


def test_dev_has_these_and_no_others(cell: Cell, engine: Engine) -> None:
    """/dev has the devices that every program expects, the usual links, and the cell's own body.

    With a single id, apt's settings are there, too.
    """
    ran = cell(
        """
        cd /dev
        for f in *; do
            kind=-; [ -c $f ] && kind=c; [ -d $f ] && kind=d; [ -h $f ] && kind=l
            echo $kind$f
        done
        """
    )
    assert set(ran.lines) == {
        *("-cell", "dnbcontainer", "cfull", "cnull", "crandom", "ctty", "curandom", "czero"),
        *("dmqueue", "dpts", "dshm"),
        *(("-apt.conf",) if engine.single_id else ()),
        *("lcore", "lfd", "lptmx", "lstderr", "lstdin", "lstdout"),
    }


def test_devices_do_what_they_are_for(cell: Cell) -> None:
    """Null swallows, zero gives zeros, full is full, random gives bytes, shm and pts take files of their own."""
    ran = cell(
        """
        echo x > /dev/null && head -c 4 /dev/zero | od -An -tx1 && head -c 4 /dev/urandom | wc -c
        echo x > /dev/full || echo full
        echo y > /dev/shm/file && cat /dev/shm/file
        [ -c /dev/ptmx ] && echo ptmx; stat -c %a /dev /dev/shm
        """
    )
    assert ran.lines == [" 00 00 00 00", "4", "full", "y", "ptmx", "755", "1777"]


def test_its_streams_can_be_opened_by_name(cell: Cell) -> None:
    """/dev/stdout and /dev/stderr write to the cell's output, for root as for others."""
    ran = cell("echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin | wc -c")
    assert (ran.lines, ran.stderr) == (["out", "0"], b"err\n")


def test_no_device_can_be_made(cell: Cell) -> None:
    """There is no mknod(2) in a container: not of a disk, not of the null device."""
    ran = cell("mknod /tmp/disk b 254 0; mknod /tmp/null c 1 3; ls /tmp")
    assert ran.stdout == b""


def test_sys_is_read_only(cell: Cell) -> None:
    """/sys can be looked at and nothing in it changed."""
    ran = cell("ls -d /sys/class; echo 1 > /sys/kernel/mm/ksm/run; touch /sys/x; mount | grep ' /sys '")
    assert ran.lines[0] == "/sys/class"
    assert re.fullmatch(r"\S+ on /sys type sysfs \(ro,nosuid,nodev,noexec,relatime\)", ran.lines[1])
    assert ran.stderr.decode().count("Read-only file system") == 2


def test_masked_paths_are_empty(cell: Cell) -> None:
    """What Docker hides is hidden: a file reads as empty, a directory has no entries, and neither can be written."""
    script = "".join(
        f"[ -d /{path} ] && ls -A /{path}; [ -f /{path} -o -c /{path} ] && head -c 1 /{path} | wc -c; "
        f"[ -d /{path} ] && touch /{path}/x 2>&1; "
        for path in MASKED
    )
    ran = cell(script)
    assert set(ran.lines) <= {"0"} | {line for line in ran.lines if line.endswith("Read-only file system")}
    assert ran.lines.count("0") >= 1, "this kernel has none of the masked files?"


def test_kernel_settings_cannot_be_written(cell: Cell) -> None:
    """Docker's read-only paths are read-only, be it by the container's root."""
    ran = cell("echo 1 > /proc/sys/kernel/panic; echo x > /proc/sys/kernel/core_pattern")
    assert ran.stderr.decode().count("Read-only file system") == 2
    mounted = cell("cat /proc/self/mounts").text
    for path in READ_ONLY:
        if Path("/", path).exists():
            assert re.search(rf"^\S+ /{path} proc ro,nosuid,nodev,noexec", mounted, re.MULTILINE), path


def test_its_mounts_are_these_and_no_others(cell: Cell, engine: Engine) -> None:
    """The mount table is the root, /proc, /sys, /dev and what covers parts of them; no path of the host's is in it."""
    ran = cell("cat /proc/self/mountinfo")
    fields = [line.split(" ") for line in ran.lines]
    targets = [field[4] for field in fields]
    covered = {target for target in targets if target.removeprefix("/") in (*MASKED, *READ_ONLY)}
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    assert set(targets) - covered == devices | {
        *("/", "/proc", "/proc/1/fd", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    }
    assert len(targets) == len(set(targets))
    roots = {field[4]: field[3] for field in fields}
    assert roots["/"] == "/"
    for target, root in roots.items():
        assert root in ("/", "/null", target.removeprefix("/dev").removeprefix("/proc").removeprefix("/etc")), (
            f"{target} shows {root}"
        )
    assert str(engine.store.path) not in ran.text


def test_no_mount_leads_back(cell: Cell) -> None:
    """Every mount is private to the container or a slave of nothing: no peer group of the host's is joined."""
    assert not re.search(r" shared:\d+", cell("cat /proc/self/mountinfo").text)


def test_the_environment_is_these_and_no_others(cell: Cell, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH, HOME, TERM and HOSTNAME, and nothing of the notebook's environment, be it secret or not."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-host's-secret")
    ran = cell(None, command=("env",))
    env = dict(line.split("=", 1) for line in ran.lines)
    assert env == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TERM": "dumb",
        "HOSTNAME": ran.container.name,
        **({"APT_CONFIG": "/dev/apt.conf"} if engine.single_id else {}),
    }
    everything = cell("cat /proc/[0-9]*/environ | tr '\\0' '\\n'").text
    assert "secret" not in everything


def test_the_environment_can_be_added_to(cell: Cell) -> None:
    """`-e` adds to it and wins over the image's."""
    ran = cell('echo "$A/$B/$PATH"', env=("A=1 2", "B=x=y", "PATH=/bin"))
    assert ran.text == "1 2/x=y//bin"


def test_root_has_podmans_default_capabilities(cell: Cell) -> None:
    """Permitted, effective and bounding are the eleven, inheritable and ambient are empty (CVE-2022-29162)."""
    found = status(cell("cat /proc/self/status").text)
    mask = f"\t{capability_mask(DEFAULT_CAPABILITIES):016x}"
    assert (found["CapPrm"], found["CapEff"], found["CapBnd"]) == (mask, mask, mask)
    assert (found["CapInh"], found["CapAmb"]) == ("\t" + "0" * 16,) * 2
    assert len(DEFAULT_CAPABILITIES) == 11
    assert last_capability() < len(CAPABILITIES) + 5


def test_it_can_gain_nothing(cell: Cell, engine: Engine) -> None:
    """No new privileges, no groups of the notebook's where the kernel lets go of them, and the usual file mode mask."""
    found = status(cell("cat /proc/self/status; umask").text)
    assert found["NoNewPrivs"] == "\t1"
    left = {"0", "65534"} if engine.idmap.kind == idmap.MapKind.SINGLE else set()
    assert set(found["Groups"].split()) <= left
    assert cell("umask; touch /tmp/f; stat -c %a /tmp/f").lines == ["0022", "644"]


def test_it_has_a_session_of_its_own(cell: Cell) -> None:
    """The cell leads its session, and has no terminal to push characters into."""
    ran = cell("cut -d' ' -f 5,6,7 /proc/$$/stat; echo x > /dev/tty")
    assert ran.text == "2 2 0"
    assert b"/dev/tty" in ran.stderr


def test_no_signal_is_left_blocked_or_ignored(cell: Cell) -> None:
    """A program starts with every signal as the kernel has it: nothing of an interpreter's is inherited."""
    found = status(cell(None, command=("cat", "/proc/self/status")).text)
    threads_own = 1 << 31 | 1 << 32  # 32 and 33, which glibc's posix_spawn(3) leaves ignored; no program uses them
    assert [int(found[name], 16) & ~threads_own for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_the_only_interface_is_a_loopback_that_is_up(cell: Cell) -> None:
    """`--network none`: 127.0.0.1 can be talked to, and nothing else is there."""
    ran = cell("ls /sys/class/net; cat /sys/class/net/lo/flags; ip route")
    assert (ran.lines[0], int(ran.lines[1], 16) & 1) == ("lo", 1)
    assert len(ran.lines) == 2, "there is a route"
    served = cell("echo pong > /tmp/x; httpd -p 127.0.0.1:80 -h /tmp; wget -q -O - http://127.0.0.1/x")
    assert served.text == "pong"


def test_the_hosts_network_can_be_asked_for(cell: Cell) -> None:
    """`--network host`: the interfaces are the host's, and names resolve as there."""
    names: list[str] = []
    while names != (names := sorted(path.name for path in Path("/sys/class/net").iterdir())):
        ran = cell("ls /sys/class/net; cat /etc/resolv.conf", network="host")  # other tests make interfaces meanwhile
    assert ran.lines[: len(names)] == names
    resolver = Path("/etc/resolv.conf")
    if resolver.exists():
        assert ran.lines[len(names) :] == resolver.read_text().splitlines()


@pytest.mark.parametrize(
    ("user", "ids"),
    [("nobody", "65534 65534 65534"), ("33", "33 33 33"), ("www-data:users", "33 100 100"), ("1234:5", "1234 5 5")],
)
def test_a_user_can_be_chosen(cell: Cell, engine: Engine, user: str, ids: str) -> None:
    """`-u` by name and by number: the ids are the image's, and no capability is left to anybody but root."""
    if engine.idmap.kind == idmap.MapKind.SINGLE:
        with pytest.raises(SetupFailed, match=r"without a range in /etc/subuid .* root is the only user"):
            cell("id", user=user)
        return
    ran = cell("echo $(id -u) $(id -g) $(id -G); grep Cap /proc/self/status; echo x > /root/x", user=user)
    assert ran.lines[0] == ids
    found = status("\n".join(ran.lines[1:]))
    assert {found[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"\t" + "0" * 16}
    assert b"Permission denied" in ran.stderr


def test_another_user_writes_and_reads_its_streams(cell: Cell, engine: Engine) -> None:
    """A plain user in the container reads the body, and opens the streams by their names."""
    if engine.idmap.kind == idmap.MapKind.SINGLE:
        pytest.skip("needs a range of ids")
    ran = cell("echo out > /dev/stdout; echo err > /dev/stderr; head -c 4 $0; echo; echo $HOME", user="www-data")
    assert (ran.lines, ran.stderr) == (["out", "echo", "/var/www"], b"err\n")


@pytest.mark.parametrize("user", ["70000", "4294967294", "33:70000", "4294967295"])
def test_an_id_that_is_not_mapped_is_refused(cell: Cell, engine: Engine, user: str) -> None:
    """An id beyond the container's ends in an error that says so, and never in another user's cell."""
    if engine.idmap.maps(int(user.rpartition(":")[2])):
        assert cell("id", user=user).outcome.ok
        return
    with pytest.raises(
        SetupFailed, match=r"cannot become the user.*(that id is not mapped|the highest id .* is 4294967294)"
    ):
        cell("id", user=user)


@pytest.mark.parametrize(("user", "word"), [("carol", "user carol"), ("root:nogroup2", "group nogroup2")])
def test_a_user_that_the_image_does_not_have(cell: Cell, user: str, word: str) -> None:
    """The error names who is missing, and what to give instead."""
    with pytest.raises(SetupFailed, match=f"no {word} in the image.*or a number"):
        cell("id", user=user)


def test_files_made_inside_have_owners(cell: Cell, engine: Engine) -> None:
    """chown(2) works to every mapped id; with a single id the file's owner stays root."""
    ran = cell("touch /tmp/f && chown 33:33 /tmp/f; stat -c '%u %g' /tmp/f; stat -c '%u %g' /bin/busybox /root")
    assert ran.lines[0] == ("0 0" if engine.idmap.kind == idmap.MapKind.SINGLE else "33 33")
    assert ran.lines[1:] == ["0 0", "0 0"]


def test_a_read_only_root_refuses_writes(cell: Cell) -> None:
    """`--read-only`: the root refuses, tmpfs and /dev/shm take writes."""
    ran = cell(
        "touch /x; touch /tmp/x; touch /dev/shm/y /scratch/z && echo ok", read_only=True, tmpfs=(Tmpfs("/scratch"),)
    )
    assert ran.stderr.decode().count("Read-only file system") == 2
    assert ran.text == "ok"


def test_the_hosts_limits_are_lowered(cell: Cell) -> None:
    """No core file is written into a layer, and the number of open files is the usual one."""
    ran = cell("ulimit -c; ulimit -n")
    assert ran.lines == ["0", "1024"]


@pytest.mark.parametrize("count", [0, 20])
@pytest.mark.parametrize("name", ["nofile", "ofile"])
def test_a_limit_on_open_files_starts_the_program_or_is_refused(
    engine: Engine, tmp_path: Path, name: str, count: int
) -> None:
    """What is too low for init and its volumes is refused with the lowest limit, with which the program runs."""
    volumes = [f"{tmp_path}:/volumes/{number}" for number in range(count)]

    def limited(number: int) -> list[str]:
        script = "ulimit -n; ls / >/dev/null && echo ok"
        ran = api.run("busybox", script=script, ulimits={name: number}, volumes=volumes, engine=engine)
        return ran.text.splitlines()

    with pytest.raises(UsageError, match=rf"^--ulimit {name}=0 is too low to start the program; write \d+") as caught:
        limited(0)
    least = int(caught.value.hint.split()[1])
    assert least <= 20 + count
    assert limited(least) == [str(least), "ok"]
    with pytest.raises(UsageError, match="too low"):
        limited(least - 1)


def test_the_oom_score_is_the_one_that_was_asked_for(cell: Cell) -> None:
    """`--oom-score-adj` is that of init and of all that the cell starts; without it, they have the notebook's."""
    own = int(Path("/proc/self/oom_score_adj").read_text(encoding="utf-8"))
    higher = min(own + 300, 1000)
    script = "cat /proc/1/oom_score_adj /proc/$$/oom_score_adj; (cat /proc/self/oom_score_adj)"
    for _ in range(2):  # in a new container, and in a warm one
        assert cell(script, oom_score_adj=higher).lines == [str(higher)] * 3
    assert cell(script).lines == [str(own)] * 3


def test_the_oom_score_leaves_init_closed(cell: Cell) -> None:
    """A cell with an OOM score of its own cannot look into init, as any cell cannot."""
    own = int(Path("/proc/self/oom_score_adj").read_text(encoding="utf-8"))
    ran = cell("readlink /proc/1/exe || echo closed; id -u", oom_score_adj=own)
    assert ran.lines == ["closed", "0"]


def test_a_lower_oom_score_is_refused_in_one_line(cell: Cell) -> None:
    """In a user namespace no process may go below the notebook's value: the error says which value is possible."""
    own = Path("/proc/self/oom_score_adj").read_text(encoding="utf-8").strip()
    message = rf"cannot set the OOM score adjustment: .*; write {own} .* or more"
    with pytest.raises(SetupFailed, match=message) as failed:
        cell("true", oom_score_adj=-1000)
    assert "\n" not in str(failed.value)
    assert cell("echo ok").text == "ok"


def test_each_cell_is_a_new_machine(cell: Cell) -> None:
    """What one anonymous cell wrote is not there for the next; nor are its processes or its shared memory."""
    first = cell("echo x > /left; echo x > /dev/shm/left; hostname")
    second = cell("ls /left /dev/shm/left; hostname")
    assert second.lines == [second.container.name]
    assert first.container.name != second.container.name


def test_the_kernel_is_the_hosts(cell: Cell) -> None:
    """A container has no kernel of its own: uname says what the host's says."""
    assert cell("uname -r").text == os.uname().release


@pytest.mark.parametrize("network", ["none", "host"])
def test_name_servers_are_those_that_are_asked_for(cell: Cell, network: str) -> None:
    """They take the place of the network's own, also where there is none, as with Docker; the image keeps its file."""
    ran = cell("grep nameserver /etc/resolv.conf", network=network, dns=("9.9.9.9", "::1"))
    assert ran.lines == ["nameserver 9.9.9.9", "nameserver ::1"]


@pytest.mark.parametrize("network", ["none", "host"])
def test_hosts_that_are_added_have_their_addresses(cell: Cell, network: str) -> None:
    """They are found by name, beside the container's own, and nothing of them is in a layer."""
    hosts = (("db.example", "127.0.0.9"), ("six.example", "fd00::7"))
    script = "ping -c1 -w1 db.example | head -n1; cat /etc/hosts"
    ran = cell(script, network=network, hosts=hosts, hostname="box")
    assert "db.example (127.0.0.9)" in ran.lines[0]
    assert {"127.0.0.9\tdb.example", "fd00::7\tsix.example", "127.0.0.1\tbox"} <= set(ran.lines)
    assert ("127.0.0.1\tlocalhost" in ran.lines) == (network == "none") or network == "host"
    ran = cell("cat /etc/hosts || echo none", network=network)
    assert "db.example" not in ran.text
