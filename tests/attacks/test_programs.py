"""What all the confinement must not be in the way of: programs that use what programs use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.attacks.attacker import PYTHON, python_nodes

if TYPE_CHECKING:
    from tests.attacks.attacker import Attacker

SHELL = """
set -e
echo one | tee /tmp/a > /dev/null
cp -a /tmp/a /tmp/b; ln /tmp/b /tmp/c; ln -s c /tmp/d; mkfifo /tmp/pipe; chmod 4711 /tmp/b; touch -d @0 /tmp/b
tar -C /tmp -cf /tmp.tar a b c d pipe; mkdir /tmp/out; tar -C /tmp/out -xf /tmp.tar
gzip -c /tmp.tar | gunzip | cmp - /tmp.tar
find /tmp -type p | wc -l
true & wait $!
trap 'echo trapped' TERM; kill -TERM $$
timeout 5 true; setsid true; chroot / true
dd if=/dev/zero of=/tmp/zeros bs=1M count=4 2> /dev/null; sync; df /tmp > /dev/null; mount > /dev/null; ps > /dev/null
exec 3<> /tmp/pipe
nc -l -p 4711 > /tmp/heard <&3 &
until echo hello | nc 127.0.0.1 4711 2> /dev/null; do :; done
wait; cat /tmp/heard
"""

PROGRAM = """
import asyncio, concurrent.futures.thread, os, pkgutil, random, runpy, selectors
import signal, subprocess, tempfile, threading
import multiprocessing, multiprocessing.connection, multiprocessing.pool, multiprocessing.queues
import multiprocessing.shared_memory, multiprocessing.popen_fork
import multiprocessing.forkserver, multiprocessing.popen_forkserver, multiprocessing.popen_spawn_posix
import multiprocessing.resource_tracker, multiprocessing.spawn, multiprocessing.synchronize

def square(number):
    return number * number

async def talk():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    child = await asyncio.create_subprocess_exec("true")
    assert await child.wait() == 0

def main():
    said = []
    thread = threading.Thread(target=said.append, args=("thread",))
    thread.start()
    thread.join()
    said.append(subprocess.run(["echo", "child"], capture_output=True, text=True, check=True).stdout.strip())
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
        said.append(method)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(square, range(10))) == 285
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()
    asyncio.run(talk())
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0)
    said.append("alarm")
    with tempfile.NamedTemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, 4096)
        os.setxattr(file.name, "user.note", b"x")
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    print(*said)

if __name__ == "__main__":
    main()
"""


def test_a_shell_has_what_it_needs(attack: Attacker) -> None:
    """Files of every sort, jobs, traps, archives and a connection work in a shell cell."""
    ran = attack.run(SHELL, image="busybox")
    assert ran.outcome.ok, ran.stderr
    assert ran.stdout.split() == [b"2", b"trapped", b"hello"]


def test_python_has_what_it_needs(attack: Attacker) -> None:
    """Threads, processes by each way to start them, shared memory, sockets, timers and attributes work in Python."""
    nodes = python_nodes(PROGRAM)
    image = attack.image_of("program", nodes)
    ran = attack.run(f"#!{PYTHON}\n{PROGRAM}", image=image)
    assert ran.outcome.ok, ran.stderr.decode()
    assert ran.stdout.split() == [b"thread", b"child", b"fork", b"spawn", b"forkserver", b"alarm"]
