"""Attacks by way of an outer /proc, in a place where the kernel allows no other (`ProcLevel.OUTER`).

`test_places.py` runs them in such places. Processes that started before the attacker are covered, so the attacks are on
later ones.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.namespaces import OWN_USER, CloneInit
from nbcontainer.sandbox.steps.proc import CoverProcesses
from tests.attacks.attacker import attack_script
from tests.attacks.inside import attempt, call
from tests.attacks.ways import ALL, WAYS, Way
from tests.running import DEADLINE, appear, marker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.sandbox.steps.base import Step
    from tests.attacks.attacker import Attacker

    Victim = Callable[[Attacker], contextlib.AbstractContextManager[int]]

TRACED = ["environ", "mem", "maps", "auxv", "root", "cwd", "exe", "fd/0", "fd/1", "ns/mnt", "ns/user", "ns/pid"]
"""The files of a process that open only for a process that may trace it (proc(5))."""

SET = ["oom_score_adj", "comm", "coredump_filter", "autogroup", "sched", "clear_refs", "timens_offsets", "uid_map"]
"""The files of a process that a process of the same user may write without that right (fs/proc/base.c)."""


@pytest.fixture(autouse=True)
def _outer(attack: Attacker) -> None:
    if attack.engine.launcher.proc != ProcLevel.OUTER:
        pytest.skip("containers have a /proc of their own here")


def reach(traced: list[str], written: list[str], remount: bool = False) -> object:
    """Wait for the number of a process, and return what each way to it answers; `remount` makes /proc writable."""
    if remount:
        bind_remount_nothing_goes = 4096 | 32 | 2 | 4 | 8
        call("mount", None, b"/proc", None, bind_remount_nothing_goes, None)
    print("ready", flush=True)
    number = int(sys.stdin.readline())
    place = f"/proc/{number}"
    found: dict[str, object] = {"stat": os.path.exists(f"{place}/stat")}
    for name in traced:
        opened = attempt(os.open, f"{place}/{name}", os.O_RDONLY)
        found[name] = opened if isinstance(opened, str) else "opened"
    for name in written:
        opened = attempt(os.open, f"{place}/{name}", os.O_WRONLY)
        found[f"{name} written"] = opened if isinstance(opened, str) else "opened"
    directory = attempt(os.open, place, os.O_RDONLY)
    found["listed"] = attempt(os.listdir, f"{place}/root")
    found["signal"] = call("pidfd_send_signal", directory, signal.SIGKILL, None, 0)
    found["kill"] = attempt(os.kill, number, signal.SIGKILL)
    return found


def on_late(attack: Attacker, victim: Victim, *arguments: object, **options: Any) -> Any:
    """Return what `reach` answers of a victim that begins after the attack, and whether the victim lived."""
    hear, say = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, hear)
        stack.callback(os.close, say)

        def begin(output: bytes) -> None:
            if b"ready" in output:
                os.write(say, f"{stack.enter_context(victim(attack))}\n".encode())

        script = attack_script(reach, arguments)
        return attack.run(script, stdin=hear, on_output=begin, remove=True, **options).answer


@contextlib.contextmanager
def outside(_: Attacker) -> Iterator[int]:
    """A process of the notebook's user, outside all containers. It must be alive at the end."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def another_cell(attack: Attacker, change: Callable[[Step], Step] = lambda step: step) -> Iterator[int]:
    """A cell of the same notebook, in another container. It must be alive at the end."""
    mark = marker()
    ended: list[object] = []
    run = functools.partial(attack.run, None, command=("sleep", mark), remove=True, change=change)
    thread = threading.Thread(target=lambda: ended.append(run()))
    thread.start()
    (pid,) = appear(mark, 1)
    try:
        yield pid
        assert not ended
    finally:
        os.kill(pid, signal.SIGKILL)
        thread.join(DEADLINE)


def in_the_launchers(step: Step) -> Step:
    """Return the step, or one that leaves init in the launcher's user namespace, as at the other levels."""
    if isinstance(step, CloneInit):
        return CloneInit(tuple(name for name in step.namespaces if name != OWN_USER))
    return step


@pytest.mark.parametrize("victim", [outside, another_cell])
@pytest.mark.parametrize("way", WAYS)
def test_a_later_process_is_closed(victim: Victim, way: Way, attack: Attacker) -> None:
    """Its variables, memory, files, root and namespaces are closed, and no signal reaches it."""
    found = on_late(attack, victim, TRACED, [], **way.options())
    assert found["stat"]
    assert {found[name] for name in TRACED} == {"EACCES"}, found
    assert found["listed"] == "EACCES"
    assert found["signal"] in ("EINVAL", "EBADF")
    assert found["kill"] == "ESRCH"


def test_it_is_the_user_namespace_that_refuses(attack: Attacker) -> None:
    """In the launcher's, a cell reads the variables of another cell, and lists its files."""
    victim = functools.partial(another_cell, change=in_the_launchers)
    found = on_late(attack, victim, TRACED, [], change=in_the_launchers)
    assert {found[name] for name in ("environ", "mem", "root", "fd/1")} == {"opened"}, found
    assert "bin" in found["listed"]


@pytest.mark.parametrize("way", [way for way in WAYS if way.id != "cap-add=ALL"])
def test_nothing_of_a_later_process_is_written(way: Way, attack: Attacker) -> None:
    """Neither its score for the out-of-memory killer nor another file that asks for the user alone."""
    found = on_late(attack, outside, [], SET, **way.options())
    assert {found[f"{name} written"] for name in SET} <= {"EROFS", "EACCES", "ENOENT"}, found
    own = attack.engine.idmap.root_uid == os.geteuid()  # the cell's root is the notebook's user
    assert found["oom_score_adj written"] == ("EROFS" if own else "EACCES")


def test_it_is_the_mount_that_refuses(attack: Attacker) -> None:
    """With SYS_ADMIN, which SECURITY.md names as a limit, a cell makes /proc writable, and root's reaches the score."""
    found = on_late(attack, outside, [], ["oom_score_adj"], True, capabilities=ALL)
    own = attack.engine.idmap.root_uid == os.geteuid()
    assert found["oom_score_adj written"] == ("opened" if own else "EACCES")


def names_with_files() -> object:
    """Return the numbers in /proc under which there are files."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and os.path.exists(f"/proc/{name}/stat")]


def test_earlier_processes_are_empty_directories(attack: Attacker) -> None:
    """The notebook, its launcher and what else runs outside have a number there and no file; nor their threads."""
    earlier = {os.getpid(), os.getppid(), attack.engine.launcher.pid, 1}
    with outside(attack) as pid:
        assert not {*earlier, pid} & set(attack(names_with_files))
        uncovered = attack(names_with_files, without=(CoverProcesses,))
    assert {*earlier, pid} <= set(uncovered)
