"""A container that wants to leave something in the root of the next one."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import run
from nbcontainer.containers.cells import cell
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.writes import reused_layers, root_mount
from tests.attacks.descriptors import SEND_DESCRIPTOR
from tests.requirements import require
from tests.reusing import WHICH

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

ROUNDS = 12
"""Containers after an attack: more than wait with a root, so that each root is used again."""

LOOK = r"""
exec 2>&1
stat -c '%x' / /tmp
head -2 /etc/hosts
(ls -la / | grep -v ' proc$'; ls -laR /bin /etc /home /mnt /opt /root /run /srv /tmp /usr /var) |
    sed -E 's/[A-Z][a-z]{2} +[0-9]+ [0-9]{2}:[0-9]{2} //'
cat /etc/passwd
stat -c '%a %u %g %y' /
"""
"""What a cell sees of its root but for its own name, and the times of what was made for it: those of today."""


def ran(engine: Engine, script: str, **options: Any) -> str:
    """What a cell in busybox writes; what it left is settled then."""
    out: list[bytes] = []
    run.run(engine, request_of_keywords("busybox", (), script, options), Streams(out.append, out.append))
    engine.background.wait()
    return b"".join(out).decode()


def first_line(text: str) -> str:
    """What `WHICH` has written, at the beginning of a script."""
    return text.splitlines()[0]


CHANGES = {
    "a file that is removed": "touch /f; rm /f",
    "a directory that is removed": "mkdir /d; rmdir /d",
    "a file in a directory": "touch /tmp/f; rm /tmp/f",
    "a file far down": "touch /var/spool/f 2>/dev/null || touch /var/f; rm -f /var/spool/f /var/f",
    "a file that stays": "echo planted > /planted",
    "a setuid program": "cp /bin/busybox /tmp/su; chmod 4755 /tmp/su",
    "a changed program": "echo >> /bin/busybox 2>/dev/null; echo x > /bin/added; rm /bin/added",
    "the mode of the root": "chmod 700 /; chmod 755 /",
    "the owner of the root": "chown 1:1 /; chown 0:0 /",
    "the times of the root": "touch -d '2020-01-01 00:00:00' /",
    "the mode of a file": "chmod 600 /etc/passwd; chmod 644 /etc/passwd",
    "text of a file": "echo 'x::0:0::/:/bin/sh' >> /etc/passwd",
    "the opening of a file": ": >> /etc/passwd",
    "the hosts file": "echo 10.0.0.1 example.com >> /etc/hosts",
    "no hosts file": "rm /etc/hosts",
    "another hosts file": "mv /etc/hosts /etc/h; ln -s /etc/passwd /etc/hosts",
    "a link": "ln -s /etc/passwd /l; rm /l",
    "a hard link": "ln /etc/passwd /etc/l; rm /etc/l",
    "a pipe": "mkfifo /p; rm /p",
    "a device": "mknod /n c 1 3; rm -f /n; touch /m; rm /m",
    "a new name": "mv /etc /e; mv /e /etc",
    "a removed directory": "rm -r /home",
    "all removed": "rm -rf /bin /etc /home /usr 2>/dev/null",
    "a mount point": "rmdir /mnt; mkdir /mnt",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_root_that_was_changed_has_no_next_container(reusing: Engine, change: str) -> None:
    """Even if all is as before again, no other container has this root, and none sees anything of the change."""
    before = ran(reusing, LOOK)
    changed = first_line(ran(reusing, f"{WHICH}\n{CHANGES[change]}"))
    for _ in range(ROUNDS):
        found = first_line(seen := ran(reusing, f"{WHICH}\n{LOOK}"))
        assert found != changed
        assert seen.partition("\n")[2] == before


@pytest.mark.parametrize("change", ["touch -d '2030-01-01 00:00:00' /", "chmod 711 /; chmod 755 /", "touch /f; rm /f"])
def test_only_the_marks_show_such_a_change(reusing: Engine, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Without the comparison of the marks, the next container gets a root like that: the attack works."""
    monkeypatch.setattr(root_mount, "marks", lambda _: ())
    for _ in range(ROUNDS):  # those with marks are used up
        ran(reusing, "echo > /changed")
    for _ in range(6):
        ran(reusing, "true")
    changed = first_line(ran(reusing, f"{WHICH}\n{change}"))
    assert changed in {first_line(ran(reusing, WHICH)) for _ in range(ROUNDS)}


SENDS = (
    SEND_DESCRIPTOR
    + r"""
#include <fcntl.h>
#include <sys/un.h>
int main(void) {
    struct sockaddr_un place = {AF_UNIX, "/mnt/socket"};
    int peer = socket(AF_UNIX, SOCK_STREAM, 0), root = open("/", O_RDONLY | O_DIRECTORY);
    return connect(peer, (struct sockaddr *)&place, sizeof place) || send_descriptor(peer, root);
}
"""
)


@pytest.mark.parametrize("careless", [True, False])
def test_who_was_handed_the_root_reaches_no_next_container(
    reusing: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, careless: bool
) -> None:
    """By a socket in a volume, a container hands a descriptor of its root to a process that lives on.

    If containers with volumes left their roots to others, that process could write into the next container.
    """
    require("gcc")
    if careless:
        for module in (reused_layers, cell):
            monkeypatch.setattr(module, "leaves_root", lambda template: template.compiled)
    subprocess.run(["gcc", "-static", "-x", "c", "-o", str(tmp_path / "send"), "-"], input=SENDS.encode(), check=True)
    os.chmod(tmp_path, 0o777)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as held:
        listener.bind(str(tmp_path / "socket"))
        os.chmod(tmp_path / "socket", 0o777)
        listener.listen()
        ran(reusing, "true", volumes=[f"{tmp_path}:/mnt"])
        ran(reusing, "/mnt/send", volumes=[f"{tmp_path}:/mnt"])
        peer = held.enter_context(listener.accept()[0])
        root = _descriptor(peer)
        held.callback(os.close, root)
        with contextlib.suppress(FileNotFoundError):  # the root's directories are removed with its container
            passwords = os.open("etc/passwd", os.O_WRONLY | os.O_APPEND, dir_fd=root)
            os.write(passwords, b"planted:x:0:0::/:/bin/sh\n")
            os.close(passwords)
        look = "grep planted /etc/passwd"
        seen = [ran(reusing, look, volumes=[f"{tmp_path}:/mnt"]) for _ in range(ROUNDS)]
        seen += [ran(reusing, look) for _ in range(ROUNDS)]
    assert any(seen) == careless


def _descriptor(peer: socket.socket) -> int:
    found = array.array("i")
    _, ancillary, _, _ = peer.recvmsg(1, socket.CMSG_SPACE(found.itemsize))
    found.frombytes(ancillary[0][2])
    return found[0]


SHARED: dict[str, dict[str, object]] = {
    "a volume": {"volumes": ["{directory}:/v"]},
    "a named volume": {"volumes": ["named:/v"]},
    "the host's network": {"network": "host"},
    "SYS_ADMIN": {"cap_add": ["SYS_ADMIN"]},
    "all capabilities": {"cap_add": ["ALL"]},
    "new privileges": {"security_opt": ["no-new-privileges=false"]},
    "an interpreted init": {"explain": True},
}


@pytest.mark.parametrize("name", SHARED)
def test_a_container_that_is_not_alone_leaves_no_root(reusing: Engine, tmp_path: Path, name: str) -> None:
    """One that can hand on descriptors, or change a mount, may have a root of another, and leaves it to no other."""
    options = {
        key: [item.format(directory=tmp_path) for item in value] if isinstance(value, list) else value
        for key, value in SHARED[name].items()
    }
    used = {first_line(ran(reusing, WHICH, **options)) for _ in range(4)}
    assert len(used) == 4
    after = {first_line(ran(reusing, WHICH)) for _ in range(ROUNDS)}
    assert not used & after


def fewest_descriptors(pid: int) -> int:
    """How many descriptors a process has at rest: while the server starts an init, it has that one's, too."""
    return min(len(os.listdir(f"/proc/{pid}/fd")) for _ in range(1000))


def test_no_process_of_a_container_has_a_descriptor_of_its_root(reusing: Engine) -> None:
    """Init closes what travelled with its order before anything of the image runs, and so does its server."""
    server = reusing.launcher.connection.helper
    assert server is not None
    root = os.geteuid() == 0  # it lets no other user look
    before = fewest_descriptors(server.pid) if root else 0
    seen = ran(
        reusing,
        "for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$fd ] && echo $fd; done; grep -c ' / ' /proc/self/mounts",
    )
    assert seen.split() == ["0", "1", "2", "1"]
    if root:
        reusing.background.wait()
        assert fewest_descriptors(server.pid) == before
