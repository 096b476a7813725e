"""`--network private` on the real kernel, by pasta and by slirp4netns: what a cell reaches, and what reaches a cell."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.commands.doctor.examination import examine
from nbcontainer.commands.doctor.report import LIMITED, OK, Check
from nbcontainer.commands.options.ports import parse_port
from nbcontainer.containers.lookup import get
from nbcontainer.errors import LauncherError, NetworkUnavailable, UsageError
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.network import carrier, private
from nbcontainer.sandbox.network.carrier import Tool
from tests.attacks.attacker import Attacker
from tests.networks import asking, free_port, greeting, own_address
from tests.requirements import require, require_root
from tests.running import (
    DEADLINE,
    all_dead,
    appear,
    descendants,
    init_of,
    marker,
    open_descriptors,
    pidfds,
    processes_with,
    run_script,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]

PRIVATE = {"network": "private"}

PROGRAMS = {"pasta", "passt", "passt.avx2", "slirp4netns"}
"""What the programs call themselves (proc_pid_comm(5)): pasta runs itself anew as what the processor can do best."""


def helpers(of: int = 0) -> list[int]:
    """Host pids of the programs that carry networks for this process's containers, or those of process `of`."""
    found = []
    for pid in descendants(of or os.getpid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() in PROGRAMS:
                found.append(pid)
    return found


@contextlib.contextmanager
def running(engine: Engine, script: str, *ports: str, **options: Any) -> Iterator[None]:
    """A cell that has come to the end of a script, and waits there until it is no longer wanted."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    ready = threading.Event()
    failures: list[BaseException] = []
    said: list[bytes] = []

    def hear(data: bytes) -> None:
        said.append(data)
        if b"ready\n" in b"".join(said):
            ready.set()

    def live() -> None:
        try:
            published = tuple(parse_port(text) for text in ports)
            body = f"{script}\necho ready; read -r _"
            ran = run_script(
                engine, body, stdin=reader, stdout=hear, remove=True, ports=published, **{**PRIVATE, **options}
            )
            said.append(ran.stderr)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert ready.wait(DEADLINE)
        if failures:
            raise failures[0]
        assert b"ready\n" in b"".join(said), said
        yield
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)


def web(word: str, port: int = 80) -> str:
    """A script that serves a word by HTTP, in the background and from its return on."""
    return f"mkdir /www; echo {word} > /www/index.html; httpd -p {port} -h /www"


def fetch(address: str, port: int) -> str:
    """What is served there. Raises `OSError`."""
    with socket.create_connection((address, port), timeout=DEADLINE) as client:
        client.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    if not answer:
        raise ConnectionResetError(errno.ECONNRESET, "nothing came")
    return answer.decode().rpartition("\r\n\r\n")[2].strip()


# What a cell reaches


def test_a_cell_has_an_address_a_way_out_and_a_resolver(cell: Cell, tool: str) -> None:
    """Before its first word: the same by either program, so that nothing depends on which one a machine has."""
    ran = cell("ip -4 addr show eth0 | grep -o 'inet [^ ]*'; ip route | grep -o 'default via [^ ]*'", **PRIVATE)
    assert ran.lines == [f"inet {carrier.ADDRESS}/24", f"default via {carrier.GATEWAY}"]
    ran = cell("cat /etc/resolv.conf; echo x >> /etc/resolv.conf", **PRIVATE)
    assert ran.lines[0] == f"nameserver {carrier.RESOLVER}"
    assert b"Read-only file system" in ran.stderr


def test_a_cell_reaches_servers_outside(cell: Cell, tool: str) -> None:
    """A server on this machine's own address answers; without a network it cannot be asked."""
    address = own_address()
    with greeting(address) as port:
        assert cell(asking(address, port), **PRIVATE).text == "hello"
        assert cell(asking(address, port)).text == ""


def test_a_cell_cannot_change_its_network(cell: Cell, tool: str) -> None:
    """Root in it has no say over its addresses, its routes and its interfaces."""
    ran = cell("ip addr add 10.9.9.9/24 dev eth0; ip route del default; ip link set eth0 down; ip route", **PRIVATE)
    assert ran.stderr.count(b"Operation not permitted") == 3
    assert ran.lines[0].startswith(f"default via {carrier.GATEWAY}")


def test_a_named_container_and_another_user_have_it_too(cell: Cell, engine: Engine, tool: str) -> None:
    """Each cell of a container has the network that it asks for, whoever it runs as."""
    with greeting(own_address()) as port:
        ask = asking(own_address(), port)
        assert cell(ask, name="net-box", **PRIVATE).text == "hello"
        assert cell(ask, name="net-box").text == ""
        assert cell(ask, name="net-box", read_only=True, **PRIVATE).text == "hello"
        if not engine.single_id:
            assert cell(ask, name="net-box", user="1000", **PRIVATE).text == "hello"


@pytest.mark.parametrize("wanted", ["private", "host"])
@pytest.mark.parametrize("to", ["../run/systemd/resolve/stub-resolv.conf", "/tmp/there"])
def test_a_link_in_the_resolvers_place_is_no_hindrance(cell: Cell, tool: str, wanted: str, to: str) -> None:
    """Debian's and Ubuntu's own is one, to where no container has anything; it stays as it is."""
    name = f"net-link-{wanted}-{len(to)}"
    cell(f"touch /tmp/there; ln -sf {to} /etc/resolv.conf", name=name)
    shown = cell("cat /etc/resolv.conf", name=name, network=wanted).text
    assert shown == (private.resolver_text() if wanted == "private" else Path("/etc/resolv.conf").read_text()).rstrip()
    assert cell("readlink /etc/resolv.conf", name=name).text == to


# What reaches a cell


def test_a_port_is_published_for_this_machine_alone(engine: Engine, tool: str) -> None:
    """At 127.0.0.1, unless another address is named: from elsewhere nothing answers there."""
    port = free_port()
    with running(engine, web("inside"), f"{port}:80"):
        assert fetch("127.0.0.1", port) == "inside"
        with pytest.raises(ConnectionRefusedError):
            fetch(own_address(), port)


def test_a_port_is_published_for_everybody_who_asks_for_it(engine: Engine, tool: str) -> None:
    """At 0.0.0.0 it is there by every address of this machine."""
    port = free_port()
    with running(engine, web("inside"), f"0.0.0.0:{port}:80/tcp"):
        assert fetch(own_address(), port) == fetch("127.0.0.1", port) == "inside"


def test_nothing_is_published_that_was_not_asked_for(engine: Engine, tool: str) -> None:
    """A cell that listens is not found by its port; pasta would publish every such port by default."""
    port = free_port()
    with running(engine, web("inside", port)), pytest.raises(ConnectionRefusedError):
        fetch("127.0.0.1", port)


def test_two_cells_have_the_same_port_inside(engine: Engine, tool: str) -> None:
    """Each behind another port of this machine's."""
    first, second = free_port(), free_port()
    with running(engine, web("one"), f"{first}:80"), running(engine, web("two"), f"{second}:80"):
        assert (fetch("127.0.0.1", first), fetch("127.0.0.1", second)) == ("one", "two")


ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1])))
print("ready", flush=True)
data, sender = server.recvfrom(100)
server.sendto(data[::-1], sender)
"""


def test_udp_is_published(engine: Engine, tmp_path: Path, tool: str) -> None:
    """A datagram goes in, and the answer comes out; TCP is not there by that port."""
    port = free_port(socket.SOCK_DGRAM)
    address = "127.0.0.1" if tool == "pasta" else own_address()
    inner = 5353 if private.find_tools(Machine())[0].recent else port
    image = Attacker(engine, tmp_path).image
    script = f"python3 -c '{ECHO}' {inner} > /said & until grep -q ready /said; do usleep 10000; done"
    published = f"{address}:{port}:{inner}/udp"
    with running(engine, script, published, image=image), socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.sendto(b"abc", (address, port))
        assert client.recvfrom(100)[0] == b"cba"
        with pytest.raises(ConnectionRefusedError):
            fetch(address, port)


def test_udp_that_would_be_lost_is_refused(cell: Cell, tool: str) -> None:
    """A pasta before August 2024 brings it to no other port, and slirp4netns no answer from 127.0.0.1."""
    if private.find_tools(Machine())[0].recent and tool == "pasta":
        pytest.skip("this pasta loses nothing")
    said = (
        r"cannot publish 127\.0\.0\.1:\d+:5353/udp: .* loses .*; .* a pasta \(package passt\) of August 2024 or later"
    )
    with pytest.raises(NetworkUnavailable, match=said):
        cell("echo run", ports=(parse_port(f"{free_port(socket.SOCK_DGRAM)}:5353/udp"),), **PRIVATE)


def test_a_port_in_use_is_named(engine: Engine, cell: Cell, tool: str) -> None:
    """Before anything of the cell has run, in one line; the same port may be asked for when it is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = rf"cannot publish port {port}/tcp on 127\.0\.0\.1: Address already in use; choose another"
        with pytest.raises(NetworkUnavailable, match=said):
            cell("echo run", ports=(parse_port(f"{port}:80"),), **PRIVATE)
    for _ in range(3):  # one right after the other, which must have let go of it
        assert cell("echo run", ports=(parse_port(f"{port}:80"),), **PRIVATE).text == "run"
    engine.background.wait()
    assert helpers() == []


def test_a_udp_port_in_use_is_named(cell: Cell, tool: str) -> None:
    """By a socket that would share it, too, as pasta's would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NetworkUnavailable, match=f"cannot publish port {port}/udp .* in use"):
            cell("echo run", ports=(parse_port(f"{port}:80/udp"),), **PRIVATE)


def test_a_privileged_port_is_nobodys(cell: Cell, tool: str) -> None:
    """Not root's either: who publishes it has no rights over this machine."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    require("privileged ports", available=first > 1, why="this machine has no privileged ports")
    problem = f"ports below {first} are privileged, also for root; publish a port from {first} on"
    with pytest.raises(NetworkUnavailable, match=problem):
        cell("echo run", ports=(parse_port("1:80"),), **PRIVATE)


def test_an_address_of_another_machine_is_named(cell: Cell, tool: str) -> None:
    """It cannot be published at, in the kernel's words."""
    with pytest.raises(NetworkUnavailable, match=r"on 192\.0\.2\.199: Cannot assign requested address"):
        cell("echo run", ports=(parse_port(f"192.0.2.199:{free_port()}:80"),), **PRIVATE)


def test_inspect_shows_the_network_of_what_runs(engine: Engine, tool: str) -> None:
    """With its ports."""
    port = free_port()
    with running(engine, "sleep 0.1", f"{port}:80", name="net-seen"):
        found = get(engine, "net-seen").as_dict()["running"]
        assert (found["network"], found["ports"]) == ("private", [f"127.0.0.1:{port}:80/tcp"])


def test_python_asks_for_it_too(engine: Engine, tool: str) -> None:
    """`nbcontainer.run(network="private", publish=…)`."""
    published = [f"{free_port()}:80"]
    with greeting(own_address()) as port:
        script = asking(own_address(), port)
        found = nbcontainer.run("busybox", script=script, network="private", publish=published, engine=engine)
    assert found.text == "hello\n"
    with pytest.raises(UsageError, match="invalid port 'web'"):
        nbcontainer.run("busybox", script="true", network="private", publish=["web:80"], engine=engine)


# What is left


def test_many_cells_leave_nothing(engine: Engine, cell: Cell, tool: str) -> None:
    """No process, no descriptor and no file is there after twenty that was not there after one.

    How many containers wait depends on the time between two cells: their descriptors are not counted.
    """

    def state() -> tuple[list[int], int, int]:
        engine.background.wait()
        spares = engine.launcher.spares
        spares.collect_all()
        launcher = len(list(Path(f"/proc/{engine.launcher.pid}/fd").iterdir())) if os.geteuid() == 0 else 0
        waiting = len(spares.ready)  # each is a pidfd and a socket here, and a pidfd in the launcher
        return helpers(), open_descriptors() - 2 * waiting, max(0, launcher - waiting)

    def is_within(after: tuple[list[int], int, int], before: tuple[list[int], int, int]) -> bool:
        return after[0] == [] and after[1] <= before[1] and after[2] <= before[2]

    def sockets() -> set[Path]:
        return {path for path in (engine.store.path / "tmp").iterdir() if path.is_socket()}

    port = free_port()
    published = (parse_port(f"{port}:80"),)
    others = sockets()
    for _ in range(3):  # until what is prepared ahead is as it stays
        cell("true", ports=published, **PRIVATE)
    before = state()
    for _ in range(20):
        cell("true", ports=published, **PRIVATE)
    deadline = time.monotonic() + DEADLINE
    while not is_within(after := state(), before) and time.monotonic() < deadline:
        time.sleep(0.05)  # a container that was ended takes a moment to die
    assert is_within(after, before), (after, before)
    assert sockets() <= others


NOTEBOOK = """
import sys
from pathlib import Path
from nbcontainer.containers.engine import Engine
from nbcontainer.sandbox import network
from nbcontainer.sandbox.network.carrier import Tool
from tests.running import run_script

def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()

network.find_tools = lambda _: [Tool(*sys.argv[3:])]
run_script(Engine(Path(sys.argv[1])), sys.argv[2], stdout=show, stderr=show, network="private")
"""


def launcher_of(pid: int) -> int:
    """The parent of a process (field 4 of proc_pid_stat(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("whom", ["notebook", "launcher", "init", "helper"])
def test_nothing_outlives_who_is_killed(cell: Cell, store_path: Path, tool: str, whom: str) -> None:
    """SIGKILL of the notebook, of its launcher or of a container's init ends the program that carried its network.

    The end of the program itself is not the container's: it goes on without a network.
    """
    cell("true")  # the image is there
    seconds = marker()
    words = [str(store_path), f"echo ready; sleep {seconds}", tool, str(shutil.which(tool))]
    process = subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK, *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (helper,) = helpers(process.pid)
        launcher = launcher_of(helper)
        init = init_of(seconds)
        fds = pidfds([helper] if whom in ("init", "helper") else descendants(process.pid))
        os.kill({"notebook": process.pid, "launcher": launcher, "init": init, "helper": helper}[whom], signal.SIGKILL)
        assert all_dead(fds)
        if whom == "helper":
            assert Path(f"/proc/{init}").exists()
    finally:
        process.kill()
        process.communicate()


def test_the_program_has_no_rights_over_this_machine(engine: Engine, tool: str) -> None:
    """It runs in the user namespace of containers, with no new privileges and a filter, and sees no file.

    Of what it was given it has the network's namespace, and where to write what it has to say.
    """
    require_root()
    with running(engine, "true"):
        (helper,) = helpers()
        place = Path(f"/proc/{helper}")
        status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["Uid"].split() == [str(engine.idmap.root_uid)] * 4
        assert (place / "ns/user").readlink() != Path("/proc/self/ns/user").readlink()
        assert {path.name for path in (place / "root").iterdir()} <= {"etc", "run"}  # slirp4netns reads resolv.conf
        inherited = [str((place / f"fd/{number}").readlink()).partition(":")[0] for number in range(3)]
        assert inherited[0] == "net"
        assert set(inherited[1:]) <= {"pipe", "/memfd"}


# Where it cannot be had


def test_without_a_program_the_cell_says_what_to_install(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the cell has run then."""
    monkeypatch.setattr(private, "find_tools", lambda _: [])
    with pytest.raises(NetworkUnavailable, match=r"^`--network private` requires pasta or slirp4netns; install pasta"):
        cell("echo run", **PRIVATE)


def test_doctor_and_a_cell_say_the_same(engine: Engine, cell: Cell, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor makes a network by the program that a cell would have; without one, it has the cell's words."""

    def look() -> Check:
        return next(check for check in examine(engine).checks if check.name == "private network")

    assert look() == Check("private network", OK, f"access to other machines and published ports, by {tool}")
    monkeypatch.setattr(private, "find_tools", lambda _: [])
    with pytest.raises(NetworkUnavailable) as raised:
        cell("echo run", **PRIVATE)
    assert look() == Check("private network", LIMITED, raised.value.message, raised.value.hint)


def test_where_no_process_can_be_made_nothing_has_run(engine: Engine, cell: Cell, tool: str) -> None:
    """The launcher says why, and goes on for the next one."""
    cell("true", **PRIVATE)
    engine.background.wait()  # a container waits, and needs no more than the program
    engine.launcher.spares.collect_all()
    before = resource.prlimit(engine.launcher.pid, resource.RLIMIT_NPROC)
    resource.prlimit(engine.launcher.pid, resource.RLIMIT_NPROC, (1, before[1]))
    try:
        with pytest.raises(LauncherError, match=rf"cannot start /\S+{tool}: Resource temporarily unavailable"):
            cell("echo run", **PRIVATE)
    finally:
        resource.prlimit(engine.launcher.pid, resource.RLIMIT_NPROC, before)
    assert cell("echo run", **PRIVATE).text == "run"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Has a file with this content be all the pasta that is installed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where root's launcher may go, too
        Path(folder).chmod(0o755)
        path = Path(folder) / "pasta"

        def write(content: bytes) -> None:
            path.write_bytes(content)
            path.chmod(0o755)
            monkeypatch.setattr(private, "find_tools", lambda _: [Tool("pasta", str(path))])

        yield write


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF", "Exec format error"),
        (b"#!/no/such/program\n", "No such file or directory"),
        (b"#!/bin/sh\nexit 0\n", "it exited without an error message"),
        (b"#!/bin/sh\necho one >&2; echo 'No such luck' >&2; exit 1\n", "No such luck"),
        (b"#!/bin/sh\nprintf 'not \\033[1m fine' >&2; exit 1\n", r"'not \\x1b\[1m fine'"),
        (b"#!/bin/sh\nhead -c 1000000 /dev/zero >&2 && echo never >&2\n", "."),
    ],
    ids=["no program", "no interpreter", "silent", "last line", "not printable", "too many words"],
)
def test_what_a_program_says_is_said(cell: Cell, program: Callable[[bytes], None], content: bytes, said: str) -> None:
    """In one line, the last it said, and nothing of the cell has run."""
    program(content)
    with pytest.raises(NetworkUnavailable, match=rf"^cannot make a private network: pasta: .*{said}") as raised:
        cell("echo run", **PRIVATE)
    assert str(raised.value).isprintable()
    assert helpers() == []


def test_a_program_that_never_is_ready_is_ended(
    cell: Cell, program: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time, which is said."""
    seconds = marker()
    program(f"#!/bin/sh\nexec sleep {seconds}\n".encode())
    monkeypatch.setattr(carrier, "START_LIMIT", 0.5)
    with pytest.raises(NetworkUnavailable, match=r"pasta: it is not ready after 0\.5 s"):
        cell("echo run", **PRIVATE)
    assert all_dead(pidfds(processes_with(seconds)))  # the launcher ends it when the container is dead


def test_an_interrupt_does_not_wait_for_a_program(cell: Cell, program: Callable[[bytes], None]) -> None:
    """It ends what is being started, and the next cell runs."""
    seconds = marker()
    program(f"#!/bin/sh\nexec sleep {seconds}\n".encode())
    cell("true")

    def interrupt() -> None:
        appear(seconds, 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        cell("echo run", **PRIVATE)
    thread.join()
    assert all_dead(pidfds(processes_with(seconds)))  # the launcher ends it when the container is dead
    assert cell("echo run").text == "run"


# On a machine that is made for it


@pytest.mark.parametrize("name", ["pasta", "slirp4netns"])
def test_names_resolve_by_a_resolver_on_the_hosts_loopback(made: Callable[..., dict[str, str]], name: str) -> None:
    """As systemd-resolved is, at 127.0.0.53, which no container reaches; its search of names holds inside too."""
    said = made(
        "nslookup some.made.example; cat /etc/resolv.conf; nslookup some.made.example 127.0.0.53 2>&1 || echo no", name
    )
    assert "203.0.113.1" in said["stdout"], said
    assert f"nameserver {carrier.RESOLVER}\nsearch made.example\n" in said["stdout"]
    assert said["stdout"].endswith("Connection refused\n;; connection timed out; no servers could be reached\n\nno\n")


def test_a_machine_without_a_route_has_slirp4netns(made: Callable[..., dict[str, str]]) -> None:
    """Where pasta wants one, the other is tried; alone, it says what it wants and what to do."""
    assert made("ip route", "pasta", "slirp4netns", route="")["stdout"].startswith("default via")
    said = made("ip route", "pasta", route="")
    hint = "the host has no default route, which pasta may need: install slirp4netns"
    assert said["stdout"].startswith("default via") or said["error"].endswith(hint)
