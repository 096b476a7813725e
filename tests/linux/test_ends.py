"""How cells end, who ends them, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nbcontainer import api
from nbcontainer.sandbox import supervisor
from nbcontainer.sandbox.supervisor import GRACE
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.running import (
    DEADLINE,
    all_dead,
    beginners,
    descendants,
    init_of,
    marker,
    mounts_of,
    open_descriptors,
    pidfds,
    processes_of,
    processes_with,
    run_script,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]

# What is left running by a cell that ends, and by one that never would.
STUBBORN = {
    "background": "sleep {} & echo ready",
    "setsid": "setsid sleep {} & echo ready",
    "nohup": "(trap '' HUP; exec sleep {} > /dev/null 2>&1) & echo ready",
    "daemon": "(setsid sh -c 'setsid sleep {} &' &) ; echo ready",
    "deaf": "sh -c 'trap \"\" INT TERM HUP; sleep {}' & echo ready",
    "stopped": "sleep {} & kill -STOP $!; echo ready",
}
EVERY_STUBBORN = pytest.mark.parametrize("leave", STUBBORN.values(), ids=STUBBORN)


class Watched:
    """A sink that does something when a cell has said `ready`."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.then = then
        self.said = b""
        self.at = 0.0

    def __call__(self, data: bytes) -> None:
        self.said += data
        if b"ready\n" in self.said and not self.at:
            self.at = time.monotonic()
            self.then()


def watching(engine: Engine, then: Callable[[], object]) -> tuple[Watched, list[int]]:
    """Such a sink, and what will be descriptors of the engine's processes of before it did it, for `all_dead`."""
    alive: list[int] = []

    def look() -> None:
        alive.extend(pidfds(beginners(engine.launcher) | processes_of(engine.launcher)))
        then()

    return Watched(look), alive


@pytest.mark.parametrize("code", [0, 1, 2, 42, 126, 127, 137, 255])
def test_an_exit_code_is_the_cells(cell: Cell, code: int) -> None:
    """What the cell exits with is what the outcome has; 0 alone is ok."""
    outcome = cell(f"exit {code}").outcome
    assert (outcome.reason, outcome.exit_code, outcome.signal, outcome.ok) == ("exited", code, 0, code == 0)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "ABRT", "HUP", "PIPE", "USR1"])
def test_a_signal_of_its_own(cell: Cell, name: str) -> None:
    """A cell that dies of a signal is told by the signal, and with the shell's exit code."""
    outcome = cell(f"kill -{name} $$").outcome
    number = getattr(signal, f"SIG{name}").value
    assert (outcome.reason, outcome.signal, outcome.exit_code) == ("signal", number, 128 + number)
    assert outcome.describe() == f"ended by SIG{name}"


def test_the_last_command_decides(cell: Cell) -> None:
    """A body ends with the code of its last command, as in any script."""
    assert cell("false; true").outcome.exit_code == 0
    assert cell("true; false").outcome.exit_code == 1


def test_what_it_cost_is_measured(cell: Cell) -> None:
    """Time on the clock, time of the processor, and the largest process's memory are facts of the outcome."""
    outcome = cell(
        "x=$(head -c 30000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    ).outcome
    assert outcome.ok
    assert 0 < outcome.cpu_time <= outcome.wall_time * (os.cpu_count() or 1) + 0.1
    assert 30_000_000 < outcome.peak_memory < 500_000_000


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds until a cell that was asked to end is killed: so many that no cell needs them."""
    monkeypatch.setattr(supervisor, "GRACE", DEADLINE)
    return DEADLINE


@EVERY_STUBBORN
def test_nothing_outlives_the_cell(cell: Cell, leave: str) -> None:
    """When the cell's first process ends, everything else in the container is dead before the outcome is there."""
    seconds = marker()
    ran = cell(leave.format(seconds))
    assert (ran.text, ran.outcome.ok) == ("ready", True)
    assert processes_with(seconds) == []


@EVERY_STUBBORN
def test_nothing_outlives_an_interrupt(cell: Cell, leave: str) -> None:
    """A KeyboardInterrupt ends the cell and all that it started, deaf ones too."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    seconds, watched = marker(), Watched(interrupt)
    ran = cell(f"{leave.format(seconds)}; wait; sleep {seconds}", stdout=watched)
    assert ran.outcome.reason == "interrupted"
    assert processes_with(seconds) == []


def test_nothing_outlives_a_deaf_cell(cell: Cell) -> None:
    """A cell that ignores every signal it may ignore is ended all the same, after the grace that it is given."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    seconds, watched = marker(), Watched(interrupt)
    ran = cell(f"trap '' INT TERM HUP QUIT; echo ready; sleep {seconds}", stdout=watched)
    took = time.monotonic() - watched.at
    assert (ran.outcome.reason, ran.outcome.signal) == ("interrupted", signal.SIGKILL)
    assert processes_with(seconds) == []
    assert took > GRACE * 0.9


def test_a_second_interrupt_does_not_wait(cell: Cell, patient: float) -> None:
    """Who interrupts again is not made to wait for the grace."""
    watched = Watched()

    def impatient(data: bytes) -> None:
        watched(data)
        raise KeyboardInterrupt

    ran = cell("trap 'echo once more' INT; echo ready; while :; do sleep 1000 & wait; done", stdout=impatient)
    assert ran.outcome.reason == "interrupted"
    assert time.monotonic() - watched.at < patient


@pytest.mark.usefixtures("patient")
def test_an_interrupt_can_be_handled(cell: Cell) -> None:
    """The cell is sent SIGINT first, and its last words are heard."""
    said: list[bytes] = []

    def interrupt(data: bytes) -> None:
        said.append(data)
        if data == b"ready\n":
            raise KeyboardInterrupt

    ran = cell("trap 'echo bye; exit 7' INT; echo ready; sleep 1000 & wait", stdout=interrupt)
    assert (ran.outcome.reason, ran.outcome.exit_code) == ("interrupted", 7)
    assert b"".join(said) == b"ready\nbye\n"


@pytest.mark.usefixtures("patient")
def test_an_interrupt_reaches_a_whole_pipeline(cell: Cell) -> None:
    """SIGINT goes to the cell's process group, as from a terminal's ^C."""
    said: list[bytes] = []

    def interrupt(data: bytes) -> None:
        said.append(data)
        if data == b"ready\n":
            raise KeyboardInterrupt

    # A shell has what it starts by & ignore SIGINT: the sleep would hold the pipe until the grace is over.
    inner = 'trap "echo inner; kill \\$!; exit" INT; echo ready; sleep 1000 & wait'
    body = f"trap : INT; sh -c '{inner}' | (trap '' INT; cat)"
    assert cell(body, stdout=interrupt).outcome.reason == "interrupted"
    assert b"inner\n" in b"".join(said)


@EVERY_STUBBORN
def test_nothing_outlives_a_timeout(cell: Cell, leave: str) -> None:
    """At its time limit the cell and all that it started are ended; what it said before is kept."""
    seconds = marker()
    ran = cell(f"{leave.format(seconds)}; sleep {seconds}", timeout=3)
    assert (ran.outcome.reason, ran.text) == ("timeout", "ready")
    assert ran.outcome.wall_time >= 3
    assert "time limit" in ran.outcome.describe()
    assert processes_with(seconds) == []


@pytest.mark.parametrize("limit", [60, 3e6, 1e9], ids=["a minute", "longer than poll(2) waits", "the longest"])
def test_a_cell_that_is_in_time_is_not_stopped(cell: Cell, limit: float) -> None:
    """A limit that is not reached changes nothing, however long it is."""
    assert cell("sleep 0.1; exit 3", timeout=limit).outcome.reason == "exited"


def test_init_killed_from_outside(cell: Cell) -> None:
    """Who kills init ends the container: the cell is `killed`, and nothing of it is left."""
    seconds = marker()
    watched = Watched(lambda: os.kill(init_of(seconds), signal.SIGKILL))
    ran = cell(f"sleep {seconds} & echo ready; wait", stdout=watched)
    assert (ran.outcome.reason, ran.outcome.exit_code) == ("killed", 137)
    assert processes_with(seconds) == []
    assert cell("echo next").text == "next"


def test_the_launcher_killed_from_outside(cell: Cell, engine: Engine) -> None:
    """Its containers go with the launcher, and the next cell has a new one."""
    seconds, first = marker(), engine.launcher.pid
    watched, alive = watching(engine, lambda: os.kill(first, signal.SIGKILL))
    ran = cell(f"setsid sleep {seconds} & echo ready; sleep {seconds}", stdout=watched)
    assert ran.outcome.reason == "killed"
    assert all_dead(alive)
    assert processes_with(seconds) == []
    assert cell("echo next").text == "next"
    assert engine.launcher.pid != first


@pytest.mark.parametrize("user", ["", "33"])
def test_the_launcher_killed_under_another_user(cell: Cell, engine: Engine, user: str) -> None:
    """A change of user clears the parent's death signal (prctl(2)): it is set again, whoever the cell is."""
    if user and engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("needs a range of ids")
    watched, alive = watching(engine, lambda: os.kill(engine.launcher.pid, signal.SIGKILL))
    seconds = marker()
    ran = cell(f"echo ready; sleep {seconds}", stdout=watched, user=user)
    assert ran.outcome.reason == "killed"
    assert all_dead(alive)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_to_init_is_the_cells(cell: Cell, number: signal.Signals) -> None:
    """What is sent to the container is handed on to the cell."""
    seconds, name = marker(), number.name.removeprefix("SIG")
    watched = Watched(lambda: os.kill(init_of(seconds), number))
    ran = cell(f"trap 'echo got {name}; exit 5' {name}; sleep {seconds} & echo ready; wait", stdout=watched)
    assert (watched.said, ran.outcome.exit_code) == (f"ready\ngot {name}\n".encode(), 5)


def test_the_cell_cannot_end_init(cell: Cell) -> None:
    """No signal of the container's own ends pid 1: the cell goes on."""
    ran = cell("trap '' HUP INT QUIT TERM USR1 USR2; for s in $(seq 1 64); do kill -$s 1; done 2>/dev/null; echo still")
    assert (ran.text, ran.outcome.reason) == ("still", "exited")


def test_a_cell_that_kills_everything(cell: Cell) -> None:
    """`kill -9 -1` takes all but init and the killer."""
    ran = cell("sleep 1000 & sleep 1000 & kill -9 -1; echo alone; ls -d /proc/[0-9]* | wc -l")
    assert ran.lines[0] == "alone"
    assert ran.outcome.ok


def test_orphans_are_reaped(cell: Cell) -> None:
    """Init reaps what its parents left: no zombie stays in the container."""
    ran = cell(
        """
        for i in 1 2 3 4 5; do (sh -c 'exit 0' &) ; done
        until ! grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done
        echo clean
        """
    )
    assert ran.text == "clean"


def test_a_thousand_processes_end_with_the_cell(cell: Cell) -> None:
    """Many processes are as dead as one when the outcome is there."""
    seconds = marker()
    ran = cell(f"i=0; while [ $i -lt 300 ]; do setsid sleep {seconds} & i=$((i+1)); done; echo ready")
    assert ran.text == "ready"
    assert processes_with(seconds) == []


def test_no_mount_is_the_hosts(cell: Cell, engine: Engine) -> None:
    """While a cell runs, as after it, nothing on the host is mounted in the store or from it."""
    during: list[list[str]] = []
    cell("echo x > /file; echo ready", stdout=Watched(lambda: during.append(mounts_of(engine.store.path))))
    assert during == [[]]
    assert mounts_of(engine.store.path) == []


def test_nothing_of_a_cell_is_left_when_the_engine_closes(cell: Cell, engine: Engine) -> None:
    """At the end there are no processes below this one but those that were there before, and nothing in `tmp`."""
    before = descendants(os.getpid())
    cell("echo x > /file; sleep 1000 &")
    assert descendants(os.getpid()) > before
    fds = pidfds(descendants(os.getpid()) - before)
    engine.close()
    assert all_dead(fds, DEADLINE)
    assert [path for path in (engine.store.path / "tmp").iterdir() if path.name.startswith(engine.store.session)] == []


def test_no_descriptor_is_left(cell: Cell, engine: Engine) -> None:
    """Cells that end in every way leave no descriptor open in the notebook."""

    def interrupt(_: bytes) -> None:
        raise KeyboardInterrupt

    def every_way() -> None:
        cell("true")
        cell("exit 3")
        cell("sleep 1000", timeout=0.05)
        cell("echo; sleep 1000", stdout=interrupt)
        with contextlib.suppress(Exception):
            cell("id", user="no-such-user")
        with contextlib.suppress(Exception):
            cell(None, command=("no-such-program",))
        cell("true")  # after it, all is prepared for the next one
        engine.background.wait()

    def count() -> int:
        return open_descriptors() - 2 * engine.launcher.spares.roots.mounted

    every_way()
    before = count()
    for _ in range(5):
        every_way()
    # Seven cells each time; and containers that wait ready have two descriptors each.
    assert count() <= before + 8


def test_stop_asks_by_the_images_signal(engine: Engine) -> None:
    """An image with a StopSignal is asked to end by that; its program ends by itself, and says what it heard."""
    busybox = engine.images.find("busybox")
    config = replace(busybox.config, other={"StopSignal": "SIGUSR1"})
    engine.store.index.add_image(replace(busybox, config=config), "stops-by-usr1")
    said: list[bytes] = []
    stopping = threading.Thread(target=lambda: api.get("to-stop", engine=engine).stop())

    def hear(data: bytes) -> None:
        said.append(data)
        if data == b"ready\n":
            stopping.start()

    script = "trap 'echo asked; exit 7' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done"
    ran = run_script(engine, script, image="stops-by-usr1", name="to-stop", stdout=hear)
    stopping.join()
    assert (b"".join(said), ran.outcome.exit_code) == (b"ready\nasked\n", 7)
    ran.container.remove()
