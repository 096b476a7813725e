"""How long a cell with `true` takes, beside IPython's own `%%sh` and beside other ways to start a container.

    python -m tests.benchmarks.cells [--rounds 100] [--pause 0.05] [--slow-rounds 10]

Everything takes turns in one process; docker and podman, which take a hundred times as long, in fewer rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.commit import export
from nbcontainer.errors import NbcontainerError
from tests.benchmarks.measuring import Subject, interleave, machine, report
from tests.benchmarks.prepared import notebook

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

OURS = "%%container busybox"
LIMITS = "-m 64m --cpus 1 --pids-limit 100"


def main() -> None:
    """Prints the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slow-rounds", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before each run (default: %(default)s)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place, engine, shell = stack.enter_context(notebook())
        rootfs = _rootfs(engine, place)
        # Whole cells, as a notebook runs them: IPython's reading of them is part of both.
        ours = Subject(OURS, lambda: shell.run_cell(f"{OURS}\ntrue").raise_error())
        theirs = Subject("%%sh", lambda: shell.run_cell("%%sh\ntrue").raise_error())
        quick = [ours, theirs, *_floors(shell), *_bwrap(rootfs), *_runc(place)]
        print(machine())
        print(f"\n`true`, {options.rounds} rounds, taking turns, {options.pause * 1e3:.0f} ms apart:\n")
        print(report(interleave(quick, options.rounds, options.pause), OURS))
        limited = Subject(f"{OURS} {LIMITS}", lambda: shell.run_cell(f"{OURS} {LIMITS}\ntrue").raise_error())
        if _works(limited):
            print(f"\nthe same with limits, beside %%sh, {options.rounds} rounds:\n")
            print(report(interleave([limited, theirs], options.rounds, options.pause), limited.name))
        print(f"\nlauncher: {engine.launcher.memory() / 1e6:.1f} MB resident")
        slow = [ours, *_podman(place, rootfs, stack), *_docker()]
        if len(slow) > 1:
            print(f"\n`true`, {options.slow_rounds} rounds:\n")
            print(report(interleave(slow, options.slow_rounds, options.pause), OURS))


def _floors(shell: Any) -> list[Subject]:
    """What no cell can do without: IPython's part of a magic, and with it a shell that runs `true` on the host."""
    busybox = shutil.which("busybox")
    if busybox is None:
        return []

    def spawned(_line: str, script: str) -> None:
        reader, writer = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, writer, number) for number in (1, 2)]
        pid = os.posix_spawn(busybox, ["sh", "-c", script], {}, file_actions=actions)
        os.close(writer)
        while os.read(reader, 1 << 16):
            pass
        os.close(reader)
        assert os.waitpid(pid, 0)[1] == 0

    shell.register_magic_function(lambda _line, _script: None, "cell", "nothing")
    shell.register_magic_function(spawned, "cell", "spawned")
    return [
        Subject("a magic that does nothing", lambda: shell.run_cell("%%nothing\ntrue").raise_error()),
        Subject("a magic that spawns the shell", lambda: shell.run_cell("%%spawned\ntrue").raise_error()),
    ]


def _rootfs(engine: Engine, place: Path) -> Path:
    """The busybox image as a plain directory, for the others to run."""
    image = engine.images.find("busybox")
    export(engine, engine.images.lowers(image), place / "busybox.tar")
    rootfs = place / "bundle" / "rootfs"
    rootfs.mkdir(parents=True)
    subprocess.run(["tar", "-xf", place / "busybox.tar", "-C", rootfs], check=True)
    return rootfs


def _command(name: str, *words: Any, env: dict[str, str] | None = None) -> Subject:
    argv = [str(word) for word in words]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return Subject(name, lambda: subprocess.run(argv, check=True, env=env, **quiet))


def _bwrap(rootfs: Path) -> list[Subject]:
    if not shutil.which("bwrap"):
        return []
    mounts = ("--bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev")
    return [_command("bwrap --unshare-all", "bwrap", "--unshare-all", *mounts, "true")]


def _runc(place: Path) -> list[Subject]:
    if not shutil.which("runc"):
        return []
    bundle = place / "bundle"
    rootless = [] if subprocess.run(["id", "-u"], capture_output=True, check=True).stdout == b"0\n" else ["--rootless"]
    subprocess.run(["runc", "spec", *rootless], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["true"], "terminal": False}
    (bundle / "config.json").write_text(json.dumps(config))
    subject = _command("runc run", "runc", "--root", place / "runc", "run", "--bundle", bundle, "nbcontainer-bench")
    return [subject] if _works(subject) else []


def _podman(place: Path, rootfs: Path, stack: contextlib.ExitStack) -> list[Subject]:
    if not shutil.which("podman") or not shutil.which("runc"):
        return []
    # Its defaults ask for limits that a machine in a machine may not have.
    settings = place / "containers.conf"
    settings.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n')
    environment = os.environ | {"CONTAINERS_CONF": str(settings)}
    podman = (
        "podman",
        "--root",
        place / "podman",
        "--runroot",
        place / "podman-run",
        "--runtime",
        shutil.which("runc"),
    )
    words = (*podman, "run", "--rm", "--network", "none", "--rootfs", rootfs, "true")
    mounted = ["umount", "-l", str(place / "podman" / "overlay")]
    stack.callback(lambda: subprocess.run(mounted, check=False, stderr=subprocess.DEVNULL))
    subject = _command("podman run (runc)", *words, env=environment)
    return [subject] if _works(subject) else []


def _docker() -> list[Subject]:
    if not shutil.which("docker"):
        return []
    subject = _command("docker run", "docker", "run", "--rm", "--network", "none", "busybox", "true")
    return [subject] if _works(subject) else []


def _works(subject: Subject) -> bool:
    try:
        subject.run()
    except (OSError, NbcontainerError, subprocess.CalledProcessError) as error:
        print(f"{subject.name} does not run here: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    main()
