"""A pause ends when the process that asked for it ends: nothing that is killed leaves a container stopped."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.pause import paused
from nbcontainer.errors import ContainerError
from nbcontainer.linux import tracing
from nbcontainer.linux.procfs import STANDING, children, descendants, state, threads
from nbcontainer.sandbox.pause_file import PauseFile, resume_left
from nbcontainer.sandbox.standstill import Standstill
from tests.attacks.attacker import Node, attack_script
from tests.attacks.inside import call
from tests.requirements import require
from tests.running import DEADLINE, run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from tests.attacks.attacker import Attacker

PROGRAM = [sys.executable, "-c", "import sys; from nbcontainer.cli import main; main()"]

ROUNDS = int(os.environ.get("NBCONTAINER_PAUSE_ROUNDS", "4"))
"""How often a copy is killed in each way, at a moment of its own."""

FILES = "mkdir /m; cd /m; seq 3000 | xargs touch; echo ready; "
"""Files that take a while to copy."""


class Victim:
    """A container that runs, as the callback of its output has it, and the program on its store."""

    def __init__(self, engine: Engine) -> None:
        ((self.name, facts),) = engine.active.items()
        self.init = int(facts.pid)
        self.env = {**os.environ, "NBCONTAINER_HOME": str(engine.store.path)}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts the program, in a process group of its own."""
        return subprocess.Popen(
            [*PROGRAM, *words], env=self.env, process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def do(self, *words: str) -> None:
        """Runs the program, which ends well."""
        with self.start(*words) as process:
            _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()

    def states(self) -> set[str]:
        """What each of its threads does."""
        return {state(pid, tid) for pid in descendants(self.init) for tid in threads(pid)}

    @property
    def stands(self) -> bool:
        """Whether everything stands still."""
        return self.states() <= STANDING

    def stop_all(self) -> None:
        """Stops everything as a version did that used signals, and was killed."""
        for pid in descendants(self.init):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: self.stands)


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits until it has happened: the kernel tells nobody when a process stops or goes on."""
    deadline = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_pause(victim: Victim, copier: subprocess.Popen[bytes]) -> None:
    """Waits until a copy holds its container still, or has ended."""
    wait_for(lambda: victim.stands or copier.poll() is not None)


def while_it_runs(engine: Engine, script: str, do: Callable[[Victim], None], **options: Any) -> None:
    """Runs a cell, and does something when it has said `ready`; ends it then."""
    failed: list[BaseException] = []
    victim: Victim | None = None

    def look(said: bytes) -> None:
        nonlocal victim
        if b"ready" not in said:
            return
        victim = Victim(engine)
        try:
            do(victim)
        except BaseException as error:
            failed.append(error)
        finally:
            os.kill(victim.init, signal.SIGKILL)

    ran = run_script(engine, script, stdout=look, **options)
    assert victim is not None, ran.stderr
    if failed:
        raise failed[0]


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and everything that it has started, whatever session that is in."""
    for pid in (process.pid, *descendants(process.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def guards(pid: int) -> list[int]:
    """The guards of pauses that a process has asked for."""
    found = []
    for one in children(pid):
        with contextlib.suppress(OSError):  # it has just ended
            if b"standstill" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


WAYS: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
    "it alone": lambda process: process.kill(),
    "its group": lambda process: os.killpg(process.pid, signal.SIGKILL),
    "all it started": kill_all,
    "terminated": lambda process: process.terminate(),
    "hung up": lambda process: process.send_signal(signal.SIGHUP),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_container_goes_on_when_its_copy_is_killed(engine: Engine, way: str) -> None:
    """At whatever moment that is: once it stands still, and as often at random."""

    def attack_it(victim: Victim) -> None:
        caught = 0
        for number in itertools.count():
            if number >= ROUNDS and caught:
                break
            copier = victim.start("commit", victim.name, "copy")
            if number % 2:
                time.sleep(random.uniform(0, 0.5))
            else:
                wait_for_pause(victim, copier)
                caught += victim.stands
            WAYS[way](copier)
            copier.communicate()
            wait_for(lambda: not victim.stands)

    while_it_runs(engine, f"{FILES} while :; do date > /tick; sleep 0.01; done", attack_it)


@pytest.mark.parametrize("verb", ["commit", "diff", "export", "ps", "inspect", "stop"])
def test_what_was_left_stopped_goes_on(engine: Engine, tmp_path: Path, verb: str) -> None:
    """A version before left a container so: the next command that looks at it wakes it, and it may end in order."""
    name = f"left-{verb}-{os.urandom(4).hex()}"
    words = {
        "commit": [name, "copy"],
        "export": [name, "-o", str(tmp_path / "tar")],
        "ps": [],
        "stop": ["-t", f"{DEADLINE:.0f}", name],
    }
    ended: list[bytes] = []

    def wake(victim: Victim) -> None:
        victim.stop_all()
        victim.do(verb, *words.get(verb, [name]))
        if verb != "stop":
            wait_for(lambda: not victim.stands)

    def look(said: bytes) -> None:
        ended.append(said)
        if b"ready" in said:
            victim = Victim(engine)
            try:
                wake(victim)
            finally:
                if verb != "stop":
                    os.kill(victim.init, signal.SIGKILL)

    script = "trap 'echo in order; exit' TERM; echo ready; while :; do sleep 0.1; done"
    ran = run_script(engine, script, name=name, stdout=look)
    try:
        assert b"".join(ended) == (b"ready\nin order\n" if verb == "stop" else b"ready\n")
    finally:
        ran.container.remove()


def test_what_stopped_itself_stays_stopped(engine: Engine) -> None:
    """A job that its cell has stopped is so after a copy, and after a command that looks at what runs."""

    def look(victim: Victim) -> None:
        wait_for(lambda: "T" in victim.states())
        (stopped,) = (pid for pid in descendants(victim.init) if state(pid) == "T")
        for words in (["commit", victim.name, "copy"], ["ps"], ["diff", victim.name]):
            victim.do(*words)
            wait_for(lambda: state(stopped) == "T")
        assert not victim.stands

    while_it_runs(engine, "sleep 1000 & kill -STOP $!; touch /a; echo ready; while :; do sleep 0.1; done", look)


def test_two_copies_at_once_do_not_wake_each_other(engine: Engine, tmp_path: Path) -> None:
    """The second waits for the first; a third that is killed while it waits wakes nothing and leaves nothing."""

    def look(victim: Victim) -> None:
        path = engine.store.path / "tmp" / f"{engine.active[victim.name].upper}.pause"
        copies = [victim.start("commit", victim.name, f"copy:{number}") for number in range(2)]
        with paused(victim.init, path):
            again = victim.start("commit", victim.name, "killed")
            wait_for(lambda: bool(guards(again.pid)))
            kill_all(again)
            again.communicate()
            resume_left(victim.init, path)
            assert victim.stands
        for copy in copies:
            assert copy.communicate()[1] == b""
            assert copy.returncode == 0
        wait_for(lambda: not victim.stands)
        assert not path.exists()

    while_it_runs(engine, f"{FILES} while :; do date > /tick; sleep 0.01; done", look)


def trace_a_child() -> None:
    """A process has a tracer in the cell, as under strace, and runs on."""
    child = os.fork()
    if child == 0:
        call("ptrace", 0, 0, 0, 0)
        print("ready", flush=True)
        while True:
            ctypes.CDLL(None).usleep(1000)
    while os.WIFSTOPPED(status := os.waitpid(child, 0)[1]):
        call("ptrace", 7, child, 0, os.WSTOPSIG(status))  # PTRACE_CONT


def changing(function: Callable[..., object]) -> str:
    """The body of a cell that makes a file, so that there is something to commit, and then calls a function."""
    *lines, call_it = attack_script(function, ()).split("\n")
    return "\n".join((*lines, "open('/file', 'w').close()", call_it))


def test_what_has_a_tracer_in_its_cell_goes_on_too(attack: Attacker) -> None:
    """It cannot be traced from outside: it stands still by a signal. With all that knew of it killed, `ps` wakes it."""

    def look(victim: Victim) -> None:
        path = attack.engine.store.path / "tmp" / f"{attack.engine.active[victim.name].upper}.pause"
        with paused(victim.init, path):
            assert victim.stands
        wait_for(lambda: not victim.stands)
        for _ in range(ROUNDS):
            copier = victim.start("commit", victim.name, "copy")
            wait_for_pause(victim, copier)
            kill_all(copier)
            copier.communicate()
            victim.do("ps")
            wait_for(lambda: "T" not in victim.states() and "t" not in victim.states())

    while_it_runs(attack.engine, changing(trace_a_child), look, image=attack.image)


def trace_a_child_with_a_name_like_a_field() -> None:
    """The same, and the names of both look like the field that says what traces them."""
    ctypes.CDLL(None).prctl(15, b"\x0cTracerPid:x", 0, 0, 0)
    child = os.fork()
    if child == 0:
        call("ptrace", 0, 0, 0, 0)
        print("ready", flush=True)
        while True:
            ctypes.CDLL(None).usleep(1000)
    while os.WIFSTOPPED(status := os.waitpid(child, 0)[1]):
        call("ptrace", 7, child, 0, os.WSTOPSIG(status))  # PTRACE_CONT


def test_no_name_of_a_process_holds_up_a_pause(attack: Attacker, tmp_path: Path) -> None:
    """A name is in the file that says what traces a process, and may have what `str.splitlines` ends a line at."""

    def look(victim: Victim) -> None:
        with paused(victim.init, tmp_path / "pause"):
            assert victim.stands
        wait_for(lambda: not victim.stands)

    script = changing(trace_a_child_with_a_name_like_a_field)
    while_it_runs(attack.engine, script, look, image=attack.image)


EXECUTES_ITSELF = """
#include <pthread.h>
#include <unistd.h>
static void *wait(void *_) { for (;;) pause(); }
int main(int count, char **words) {
    pthread_t thread;
    for (int number = 0; number < 30; number++) pthread_create(&thread, 0, wait, 0);
    execv("/program", words);
    return 1;
}
"""


def test_a_program_in_execve_holds_up_no_pause(attack: Attacker, tmp_path: Path) -> None:
    """It waits for its threads to be dead, who are so when their tracer knows; who traces it waits for it, too.

    And the thread that called it has the number of the first one afterwards.
    """
    require("gcc")
    words = ["gcc", "-static", "-pthread", "-x", "c", "-o", str(tmp_path / "program"), "-"]
    subprocess.run(words, input=EXECUTES_ITSELF.encode(), check=True)
    image = attack.image_of("execve", {"program": Node((tmp_path / "program").read_bytes())}, python=False)

    def look(victim: Victim) -> None:
        for _ in range(ROUNDS * 10):
            with paused(victim.init, tmp_path / "pause"):
                assert victim.stands
            wait_for(lambda: not victim.stands)

    while_it_runs(attack.engine, "echo ready; exec /program", look, image=image)


def test_where_nothing_may_be_traced_signals_stop(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may refuse ptrace(2) altogether. What is stopped then is written down, and found by who comes next."""

    def refused(_: int) -> None:
        raise PermissionError(1, "refused")

    def look(victim: Victim) -> None:
        monkeypatch.setattr(tracing, "seize", refused)
        file = PauseFile.take(tmp_path / "pause")
        assert file is not None
        still = Standstill(victim.init, file.note)
        still.hold()
        assert victim.stands
        resume_left(victim.init, tmp_path / "pause")  # whose pause lasts
        assert victim.stands
        still.resume()
        wait_for(lambda: not victim.stands)
        Standstill(victim.init, file.note).hold()
        file.close()  # as if the guard were killed
        resume_left(victim.init, tmp_path / "pause")
        wait_for(lambda: not victim.stands)
        assert not (tmp_path / "pause").exists()

    while_it_runs(engine, "sleep 1000 & echo ready; while :; do sleep 0.01; done", look)


def test_a_copy_whose_guard_is_killed_fails(engine: Engine, tmp_path: Path) -> None:
    """What it copied may be of two moments."""

    def look(victim: Victim) -> None:
        pause = paused(victim.init, tmp_path / "pause")
        pause.__enter__()
        (guard,) = guards(os.getpid())
        os.kill(guard, signal.SIGKILL)
        wait_for(lambda: not victim.stands)
        with pytest.raises(ContainerError, match="continued while it was copied"):
            pause.__exit__(None, None, None)

    while_it_runs(engine, "echo ready; while :; do sleep 0.1; done", look)
