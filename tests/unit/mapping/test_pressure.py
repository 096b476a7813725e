"""Back-pressure: what a machine lacks, and how starts wait for it."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import ContainerError, LauncherError, SetupFailed
from nbcontainer.mapping.neighbours import Neighbours
from nbcontainer.mapping.pressure import Gate, Machine, Room, is_short
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator


def machine(
    place: Path, *, memory: int = 1 << 30, limit: str = "max", used: int = 0, threads: int = 1000, pids: str = "max"
) -> Machine:
    """A machine of files: bytes of memory, and the limits of a control group."""
    for name, text in {
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {memory >> 10} kB\n",
        "proc/loadavg": f"0.1 0.1 0.1 1/{threads} 77\n",
        "proc/sys/kernel/pid_max": "32768\n",
        "proc/sys/kernel/threads-max": "5000\n",
        "proc/self/cgroup": "0::/user/one\n",
        "cgroup/user/memory.max": f"{limit}\n",
        "cgroup/user/memory.current": f"{used}\n",
        "cgroup/user/one/pids.max": f"{pids}\n",
        "cgroup/user/one/pids.current": "10\n",
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (place / "proc/self/fd").mkdir(exist_ok=True)
    return Machine(place / "proc", place / "cgroup")


def test_there_is_room_for_what_the_scarcest_allows(tmp_path: Path) -> None:
    """It is what the least of memory, processes and descriptors is enough for; a lot, where nothing is known."""
    assert machine(tmp_path, threads=4920).room() == (10, "processes (80 left)")
    assert machine(tmp_path, memory=144 << 20).room().containers == 10
    assert Machine(Path("/nonexistent"), Path("/nonexistent")).room().containers >= 1 << 20
    assert Machine().room().containers > 0


@pytest.mark.parametrize(
    ("facts", "least"),
    [
        ({"memory": 10 << 20}, "memory (10.5 MB available)"),
        ({"limit": str(1 << 30), "used": (1 << 30) - 4096}, "memory (4.1 kB available)"),
        ({"threads": 4999}, "processes (1 left)"),
        ({"pids": "12"}, "processes (2 left)"),
    ],
)
def test_each_shortage_is_named(tmp_path: Path, facts: dict[str, Any], least: str) -> None:
    """Memory of the machine and of a group above, processes of both: each is named with what is left."""
    room = machine(tmp_path, **facts).room()
    assert room.containers <= 0
    assert room.least == least


def test_too_many_descriptors_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of open files is compared with those that are open."""
    monkeypatch.setattr("nbcontainer.mapping.pressure.resource.getrlimit", lambda _: (30, 30))
    found = machine(tmp_path)
    for number in range(20):
        (tmp_path / "proc/self/fd" / str(number)).touch()
    assert found.room() == (0, "file descriptors (10 left, ulimit -n)")


class Counted(Machine):
    """A machine with room for some containers, which counts how often it is looked at."""

    def __init__(self, *rooms: int) -> None:
        super().__init__()
        vars(self)["rooms"], vars(self)["looks"] = list(rooms), 0

    def room(self) -> Room:
        vars(self)["looks"] += 1
        return Room(vars(self)["rooms"].pop(0), "memory")


def test_a_machine_is_looked_at_again_when_its_room_is_used_up() -> None:
    """Of starts that come at once, as many are let in as there was room for; then another look decides."""
    found, said = Counted(3, 0, 1), list[str]()
    gate = Gate(found, clock=lambda: 0.0)
    with contextlib.ExitStack() as stack:
        for _ in range(4):  # the first one is let in without a look
            stack.enter_context(gate.admitted(said.append, lambda: False))
        assert (vars(found)["looks"], said) == (1, [])
        stack.enter_context(gate.admitted(said.append, lambda: False))
    assert (vars(found)["looks"], said) == (3, ["memory", ""])


def test_what_was_found_is_believed_for_a_moment() -> None:
    """A look is repeated when it is too old: other programs take what there was."""
    found, now = Counted(100, 0, 5), [0.0]
    gate, said = Gate(found, clock=lambda: now[0]), list[str]()
    with contextlib.ExitStack() as stack:
        for moment in (0.0, 0.01, 0.02, 1.0):
            now[0] = moment
            stack.enter_context(gate.admitted(said.append, lambda: False))
    assert (vars(found)["looks"], said) == (3, ["memory", ""])


def test_a_start_waits_until_another_container_ends(tmp_path: Path) -> None:
    """The first start is always admitted; a second one waits while memory is short, and says so."""
    said: list[str] = []
    gate, admitted = Gate(machine(tmp_path, memory=1 << 20)), threading.Event()

    def second() -> None:
        with gate.admitted(said.append, lambda: False):
            admitted.set()

    with gate.admitted(said.append, lambda: False):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            assert thread.is_alive()
        assert not admitted.is_set()
    assert admitted.wait(DEADLINE)
    thread.join()
    assert said[0] == "memory (1.0 MB available)"
    assert said[-1] == ""


def test_a_stopped_start_does_not_wait(tmp_path: Path) -> None:
    """A start that was given up is let through: its run ends at once."""
    gate = Gate(machine(tmp_path, memory=1 << 20))
    with gate.admitted(lambda _: None, lambda: False), gate.admitted(lambda _: None, lambda: True):
        pass


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EUSERS])
def test_errors_of_a_short_machine_are_known(number: int) -> None:
    """These errors of a start, as a failed step or below another error, are cured by another container's end."""
    assert is_short(SetupFailed("it failed", step="MakeOverlay", errno=number))
    error = LauncherError("it failed")
    error.__cause__ = OSError(number, "short")
    assert is_short(error)
    assert not is_short(SetupFailed("it failed", step="Execute", errno=errno.ENOENT))
    assert not is_short(ContainerError("it failed"))


SHORT = SetupFailed("it failed", step="MakeOverlay", errno=errno.ENOMEM)


def test_a_start_that_failed_waits_for_another_end() -> None:
    """Alone, a start that failed is not tried again; beside another container it waits until that one has ended."""
    gate = Gate()
    ready, ended = threading.Event(), threading.Event()

    def other() -> None:
        with gate.admitted(lambda _: None, lambda: False):
            ready.set()
            ended.wait(DEADLINE)

    thread = threading.Thread(target=other)
    with gate.admitted(lambda text: ended.set() if text else None, lambda: False) as place:
        assert not place.may_start_again(SHORT)
        thread.start()
        assert ready.wait(DEADLINE)
        assert not place.may_start_again(ContainerError("it failed"))
        assert place.may_start_again(SHORT)
    thread.join()


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("room", [False, True])
def test_starts_that_all_fail_do_not_wait_for_each_other(count: int, room: bool) -> None:
    """If the machine refuses all starts of one moment, each of them ends, with success if there is room later."""
    gate, together = Gate(), threading.Barrier(count)
    found = []

    def item() -> None:
        with gate.admitted(lambda _: None, lambda: False) as place:
            together.wait(DEADLINE)  # all are refused
            tries, started = 1, False
            while not started and place.may_start_again(SHORT):
                tries, started = tries + 1, room
            found.append((started, tries))

    threads = [threading.Thread(target=item, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(found) == count
    assert all(started == room for started, _ in found)
    assert all(tries <= count + 1 for _, tries in found)


def test_a_stopped_item_does_not_wait_for_another_end() -> None:
    """An item that is given up while it waits for another container is not started again."""
    gate, stopped = Gate(), threading.Event()
    with (
        gate.admitted(lambda _: None, lambda: False),
        gate.admitted(lambda text: stopped.set() if text else None, stopped.is_set) as place,
    ):
        assert not place.may_start_again(SHORT)


@contextlib.contextmanager
def another_process(store: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Run lines of Python in another process, with an item `one` of `store`, until its input ends."""
    (store / "oci-layout").touch()
    first = (
        "import sys; from pathlib import Path; from nbcontainer.mapping.neighbours import Neighbours\n"
        "one = Neighbours(Path(sys.argv[1]))\n"
    )
    words = [sys.executable, "-c", f"{first}{script}\nsys.stdin.read()", str(store)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with two items that run on the same store."""
    script = "one.hold(); two = Neighbours(Path(sys.argv[1])); two.hold(); print('runs', flush=True)"
    with another_process(tmp_path, script) as process:
        assert line_of(process) == "runs\n"
        yield process


def test_a_start_waits_for_items_of_other_processes(tmp_path: Path, neighbour: subprocess.Popen[str]) -> None:
    """The first start of a process waits while the machine lacks something and another process runs an item."""
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        neighbour.kill()

    with Gate(machine(tmp_path, memory=1 << 20)).admitted(note, lambda: False, tmp_path):
        assert neighbour.wait(DEADLINE)
    assert (said[0], said[-1]) == ("memory (1.0 MB available)", "")


def test_a_start_that_failed_is_tried_again_beside_other_processes(
    tmp_path: Path, neighbour: subprocess.Popen[str]
) -> None:
    """It waits a moment each time; when no other item runs, its error is what is wrong."""
    now, said = [0.0], list[str]()
    gate = Gate(clock=lambda: now[0])
    with gate.admitted(said.append, lambda: False, tmp_path) as place:
        assert place.may_start_again(SHORT)
        assert said == ["another container's end, since the machine refused this one", ""]
        assert not place.may_start_again(ContainerError("it failed"))
        now[0] = 61.0
        assert not place.may_start_again(SHORT)
    with gate.admitted(said.append, lambda: False, tmp_path) as place:
        assert place.may_start_again(SHORT)
        neighbour.kill()
        neighbour.wait(DEADLINE)
        assert not place.may_start_again(SHORT)


def test_items_that_were_all_refused_have_no_neighbours(tmp_path: Path) -> None:
    """One that waits does not count as running, and one that runs again does."""
    (tmp_path / "oci-layout").touch()
    one, other = Neighbours(tmp_path), Neighbours(tmp_path)
    one.hold()
    assert not other.hold_alone()
    one.release()
    assert other.hold_alone()
    assert not one.hold_alone()
    one.hold()
    one.hold()
    assert not other.hold_alone()
    one.release()
    assert other.hold_alone()
    other.release()
    assert Neighbours(None).hold_alone()
    assert Neighbours(tmp_path / "nowhere").hold_alone()


def test_of_items_that_start_at_once_one_is_alone(tmp_path: Path) -> None:
    """However many processes look at the same time, no two of them find that they are the only one."""
    script = "print('ready', flush=True); sys.stdin.readline(); print(one.hold_alone(), flush=True)"
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(another_process(tmp_path, script)) for _ in range(6)]
        assert [line_of(one) for one in started] == ["ready\n"] * 6
        for one in started:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        assert sorted(map(line_of, started)) == ["False\n"] * 5 + ["True\n"]


def test_an_interrupted_start_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is interrupted just when it found itself alone leaves no lock: the next one is alone, too."""
    (tmp_path / "oci-layout").touch()
    hold_alone = Neighbours.hold_alone

    def interrupted(one: Neighbours) -> bool:
        hold_alone(one)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Neighbours, "hold_alone", interrupted)
        with pytest.raises(KeyboardInterrupt), Gate().admitted(lambda _: None, lambda: False, tmp_path):
            pass
    with Neighbours(tmp_path) as other:
        assert other.hold_alone()


def test_a_fork_has_no_items(tmp_path: Path) -> None:
    """What the parent runs is not waited for in the child."""
    gate = Gate(machine(tmp_path, memory=1 << 20))
    with gate.admitted(lambda _: None, lambda: False):
        gate.forget()
        with gate.admitted(lambda _: None, lambda: False):  # it would wait
            pass
