"""A machine in a network of the test's, with resolvers on its loopback and cells of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.requirements import require, require_private_network

IPV4 = "ip route add default via 203.0.113.2"
IPV6 = "ip addr add 2001:db8::1/64 dev wan nodad; ip -6 route add default via 2001:db8::2"
"""What leads from the machine to everywhere. It is at 203.0.113.1, and with IPv6 at 2001:db8::1."""

_MACHINE = """
set -e
ip link set lo up
ip link add wan type veth peer name far
ip addr add 203.0.113.1/24 dev wan
ip link set wan up; ip link set far up
eval "$ROUTE"
echo "nameserver $RESOLVER" > "$1/resolv.conf"
echo "search made.example" >> "$1/resolv.conf"
mount --bind "$1/resolv.conf" /etc/resolv.conf
shift
exec "$@"
"""

_CHILD = """
import contextlib, json, socket, sys, threading
from pathlib import Path
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
from nbcontainer.sandbox import network
from nbcontainer.sandbox.network.carrier import Tool
from tests.running import run_script

RECORDS = {b"\\0\\1": socket.inet_aton("203.0.113.1"), b"\\0\\x1c": socket.inet_pton(socket.AF_INET6, "2001:db8::1")}

def answer(names):
    while True:
        asked, sender = names.recvfrom(512)
        question = asked[12 : asked.index(b"\\0", 12) + 5]
        data = RECORDS.get(question[-4:-2], b"") if b"\\4made\\7example\\0" in question else b""
        record = b"\\xc0\\x0c" + question[-4:] + b"\\0\\0\\0\\x3c\\0" + bytes([len(data)]) + data if data else b""
        flags = b"\\x81\\x80" if data else b"\\x81\\x83"
        many = bytes([bool(data)])
        names.sendto(asked[:2] + flags + b"\\0\\1\\0" + many + b"\\0\\0\\0\\0" + question + record, sender)

for address in ("127.0.0.53", "::1", "2001:db8::1"):
    names = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):
        names.bind((address, 53))
        threading.Thread(target=answer, args=(names,), daemon=True).start()
tools = [Tool(*word.split("=")) for word in sys.argv[3:]]
network.find_tools = lambda _: tools
engine = Engine(Path(sys.argv[1]))
said = {"stdout": "", "error": ""}
try:
    ran = run_script(engine, sys.argv[2], network="private")
    said["stdout"] = ran.stdout.decode() + ran.stderr.decode()
except NbcontainerError as error:
    said["error"] = str(error)
engine.close()
print(json.dumps(said))
"""


def run_there(folder: Path, script: str, *tools: str, route: str, resolver: str) -> dict[str, str]:
    """What a cell on such a machine says: its `stdout`, or an `error`. `folder` is for its store and its files.

    `tools` are the programs that are installed there, `route` a script that makes routes, `resolver` the address of
    the machine's own resolver, which knows made.example.
    """
    for name in tools:
        require(name)
    require_private_network()
    if IPV6 in route:
        require("ipv6", available=Path("/proc/net/if_inet6").exists(), why="this kernel has no IPv6")
    place = ("unshare", "--user", "--map-root-user", "--mount", "--net")
    words = [f"{name}={shutil.which(name)}" for name in tools]
    child = [sys.executable, "-c", _CHILD, str(folder / "store"), script, *words]
    done = subprocess.run(
        [*place, "sh", "-c", _MACHINE, "machine", str(folder), *child],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "ROUTE": route, "RESOLVER": resolver},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found
