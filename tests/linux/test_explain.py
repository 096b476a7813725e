"""What is explained of a cell is what strace(1) sees of it, as root and as a plain user."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import backports.zstd
import pytest

import nbcontainer
from tests.requirements import require, require_root
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAMPLES = """
{"script": "true"}
{"script": "echo $0", "hostname": "box", "workdir": "/a/b"}
{"script": "ls /x", "volumes": ["DATA:/x", "DATA:/y/z:ro"]}
{"script": "cat", "tmpfs": ["/scratch:size=1m,mode=700"]}
{"script": "id", "read_only": true, "ulimits": ["nofile=64"]}
{"script": "id", "cap_drop": ["ALL"]}
{"script": "id", "cap_add": ["SYS_PTRACE"]}
{"command": ["ls", "-l", "/"], "env": ["A=b"]}
{"script": "ip a", "network": "host", "add_host": ["db:10.0.0.1"]}
{"script": "true", "shm_size": "1m", "dns": ["9.9.9.9"]}
"""
SAMPLES = [json.loads(line) for line in _SAMPLES.strip().splitlines()]

# Runs the samples one after the other: the process number of the launcher first, then one explanation a line.
_RUNNER = """
import json, sys
from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.run import run
from pathlib import Path
engine = Engine(Path(sys.argv[1]))
engine.background.hold()  # no container is made ahead, where the tracer would miss it
def cell(command=(), script=None, **options):
    explained = []
    streams = Streams(lambda data: None, lambda data: None, on_explained=explained.append)
    run(engine, request_of_keywords("busybox", tuple(command), script, {**options, "explain": True}), streams)
    print(json.dumps(str(explained[0]).splitlines()), flush=True)
cell(script="true")
print(engine.launcher.pid, flush=True)
for line in sys.stdin:
    cell(**json.loads(line))
engine.close()
"""

# Calls of the interpreter, and of init outside the steps.
_NOISE = {
    *"brk fcntl futex getdents64 getpid getrusage gettid getrandom lseek madvise mmap mprotect munmap poll".split(),
    *"recvmsg rt_sigaction rt_sigprocmask rt_sigtimedwait sendmsg uname wait4 read exit_group kill close".split(),
}


def _normalized(call: str) -> str:
    """Return a call without descriptors, pointers, what was returned by a pointer, and comments."""
    call = re.sub(r"/\*.*?\*/", "", call)
    call = re.sub(r"^(ioctl\((?:\d+|FD), [A-Z]+).*", r"\1)", call)
    call = re.sub(r"^(clone3?)\(.*flags=([A-Z_|]+).*", r"\1(\2)", call)
    call = re.sub(r"0x[0-9a-f]{6,}", "", call)
    call = re.sub(r'^(write\(\d+, ".{20}).*', r"\1)", call)
    call = re.sub(r",\s*(?:\{st_mode[^}]*\}|ifr_flags=[A-Z_|]*|\{rlim_cur=[^}]*\}(?=\)$)|filter=)", "", call)
    call = re.sub(r"\] => \[\d+\]", "]", call)
    call = re.sub(r'^(readlink\("[^"]*")[^)]*', r"\1", call)
    call = re.sub(r"(?<=[(\s])(?:\d{1,3}|FD)(?=,)", "N", call)
    call = re.sub(r"/proc/self/fd/\d+", "/proc/self/fd/N", call)
    flags = re.sub(r"[A-Z_0-9]+(?:\|[A-Z_0-9]+)+", lambda found: "|".join(sorted(found[0].split("|"))), call)
    return re.sub(r"[\s,]+", " ", flags).replace(" )", ")")


def _relevant(calls: Iterator[str]) -> list[str]:
    return [_normalized(call) for call in calls if call.partition("(")[0] not in _NOISE]


def _traced(path: Path) -> dict[int, list[str]]:
    """Return the calls of each process in a log of `strace -f`."""
    unfinished: dict[str, str] = {}
    found: dict[int, list[str]] = {}
    for line in path.read_text(errors="replace").splitlines():
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = text.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
            text = unfinished.pop(pid, "") + resumed[1]
        found.setdefault(int(pid), []).append(re.sub(r"\)\s+= .*$", ")", text))
    return found


def _in_order(wanted: list[str], made: list[str]) -> str:
    """Return the first of the calls that was not made after those before it; empty if all were."""
    left = iter(made)
    return next((call for call in wanted if call not in left), "")


@contextlib.contextmanager
def _runner(user: int, home: Path, code: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `_RUNNER` as a user whose home (host) is `home`, with the packages in `code`; end it."""
    # The interpreter of root's environment may be in a directory that others cannot enter.
    for package in (Path(nbcontainer.__file__).parent, Path(backports.zstd.__file__).parent.parent):
        # Other tests compile modules and build the helper meanwhile, and rename what they have written.
        shutil.copytree(package, code / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.lock", "*.new"))
    home.mkdir()
    os.chown(home, user, user)
    for above in home.parents:
        above.chmod(above.stat().st_mode | 0o011)
    runner = subprocess.Popen(
        ["/usr/bin/python3", "-c", _RUNNER, str(home / "store")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(code)},
        cwd=home,
    )
    with runner:
        try:
            yield runner
        finally:
            runner.kill()


@pytest.mark.parametrize("user", [0, 4321], ids=["root", "plain"])
def test_ten_cells_make_the_calls_that_explain_shows(user: int, tmp_path: Path) -> None:
    """strace, attached to the launcher, sees each of these calls, in this order, by one process.

    The mounts, links, capabilities, limits and ids that it sees of that process are all explained.
    """
    require_root()
    require("strace")
    data, log = tmp_path / "data", tmp_path / "log"
    data.mkdir()
    data.chmod(0o755)
    explained = []
    with _runner(user, tmp_path / "home", tmp_path / "code") as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None
        runner.stdout.readline()
        trace = ["strace", "-f", "-s", "4096", "-o", str(log), "-p", runner.stdout.readline().strip()]
        with subprocess.Popen(trace, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            for sample in SAMPLES:
                runner.stdin.write(json.dumps(sample).replace("DATA", str(data)) + "\n")
                runner.stdin.flush()
                explained.append(json.loads(runner.stdout.readline()))
            runner.stdin.close()
            try:
                runner.wait(DEADLINE)
            finally:
                runner.kill()  # the tracer ends with it
    traced = _traced(log)
    for sample, calls in zip(SAMPLES, explained, strict=True):
        _compare(sample, calls, traced)


_DECISIVE = (
    *("mount", "umount2", "pivot_root", "move_mount", "mount_setattr", "open_tree", "symlink", "capset", "unshare"),
    *("setresuid", "setresgid", "setgroups", "seccomp", "sethostname", "chown", "chmod"),
)


def _decisive(calls: list[str]) -> list[str]:
    return [call for call in calls if call.partition("(")[0] in _DECISIVE]


def _compare(sample: object, calls: list[str], traced: dict[int, list[str]]) -> None:
    # The clone is the launcher's; the last two are the program's own process.
    wanted = _relevant(iter(calls[1:-2]))
    made = {pid: _relevant(iter(lines)) for pid, lines in traced.items()}
    missing = {pid: _in_order(wanted, lines) for pid, lines in made.items()}
    init = next((pid for pid, call in missing.items() if not call), None)
    assert init is not None, (sample, missing)
    told, seen = _decisive(wanted), _decisive(made[init])
    assert seen[: len(told)] == told, sample
    # Once the cell has begun, init drops the capabilities that it needed for that.
    assert {call.partition("(")[0] for call in seen[len(told) :]} <= {"capset"}, sample
    assert any(_normalized(calls[0]) in lines for lines in made.values()), sample
    assert any(_normalized(calls[-1]) in lines for lines in made.values()), sample
