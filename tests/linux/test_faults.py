"""Every step of a cell's plan fails, or init dies there: one clear line, nothing left, and the next cell runs."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.containers.warm.warm_pool import DEPTH
from nbcontainer.errors import SandboxError, SetupFailed
from nbcontainer.sandbox.helper.program import SWITCH
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.steps.base import Plan, Step
from tests.linux.faulty import DIE, FLAG, PASSED, WAIT, WHILE, Fault
from tests.running import all_dead, beginners, descendants, mounts_of, pidfds, processes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from nbcontainer.sandbox.spec import Directory, Overlay
    from tests.running import Ran

    Cell = Callable[..., Ran]


class Faults:
    """Puts a fault into the plan of cells, before step number `at`; 0 is the first after the clone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
        monkeypatch.setenv(SWITCH, "0")  # a fault is more than system calls: an interpreter does it
        engine.launcher.connection.preload += ("tests.linux.faulty",)
        self.build = PlanTemplate.on
        self.at = -1
        self.code = 0
        self.steps: list[Step] = []
        self.others = descendants(os.getpid()) - processes_of(engine.launcher) - beginners(engine.launcher)
        monkeypatch.setattr(PlanTemplate, "on", lambda template, root, name="": self._on(template, root, name))

    def _on(self, template: PlanTemplate, root: Overlay | Directory, name: str) -> Plan:
        sound = self.build(template, root, name)
        if template.spec.hostname != "faulty":
            return sound
        self.steps = list(sound)[1:]
        if self.at < 0:
            return sound
        parts = []
        passed = -1  # the clone
        for part in (sound.prepare, sound.setup, sound.enter):
            here = self.at - passed
            parts.append((*part[:here], Fault(self.code), *part[here:]) if 0 <= here < len(part) else part)
            passed += len(part)
        return Plan(*parts)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Faults:
    return Faults(monkeypatch, engine)


@pytest.fixture
def faulty(cell: Cell, faults: Faults, engine: Engine, tmp_path: Path) -> Iterator[Callable[[], Ran]]:
    """Runs a cell with something of everything. At its end, nothing of any cell is left."""
    (tmp_path / "data").mkdir()
    options: dict[str, Any] = {
        "hostname": "faulty",
        "volumes": (parse_volume(f"{tmp_path}/data:/data"),),
        "tmpfs": (parse_tmpfs("/scratch"),),
        "workdir": "/work",
        "read_only": True,
    }
    faults_at, faults.at = faults.at, -1
    assert cell("echo sound", **options).text == "sound"
    engine.background.wait()
    cell("true")  # the next cell finds no warm container with the plan of this one
    engine.background.wait()
    faults.at = faults_at
    yield lambda: cell("echo sound", **options)
    assert list((tmp_path / "data").iterdir()) == []


def nothing_is_left(engine: Engine, faults: Faults) -> None:
    """After the engine is closed: no process of its own, no mount and nothing in `tmp`.

    Processes that were there before this test belong to others: pools and engines that last as long as the process.
    """
    engine.background.wait()
    fds = pidfds(descendants(os.getpid()) - faults.others)
    engine.close()
    assert all_dead(fds)
    assert mounts_of(engine.store.path) == []
    assert [path for path in (engine.store.path / "tmp").iterdir() if path.name.startswith(engine.store.session)] == []


def test_an_error_at_any_step_is_one_line(
    faulty: Callable[[], Ran], faults: Faults, cell: Cell, engine: Engine
) -> None:
    """ENOSPC, EPERM or EINVAL anywhere is a SetupFailed that names the step, and the next cell runs."""
    codes = (errno.ENOSPC, errno.EPERM, errno.EINVAL)
    for at in range(len(faults.steps)):
        faults.at, faults.code = at, codes[at % len(codes)]
        with pytest.raises(SetupFailed) as raised:
            faulty()
        before = type(faults.steps[at]).__name__
        assert (raised.value.step, raised.value.errno) == ("Fault", faults.code), before
        assert str(raised.value).startswith(f"cannot apply Fault at /fault: {os.strerror(faults.code)}"), before
        assert "\n" not in str(raised.value)
        if at % 5 == 0:
            assert cell("echo next").text == "next", before
    assert len(faults.steps) > 30
    assert cell("echo last").text == "last"
    nothing_is_left(engine, faults)


def test_init_may_die_at_any_step(faulty: Callable[[], Ran], faults: Faults, cell: Cell, engine: Engine) -> None:
    """An init that is gone without a word ends the cell with an error or as killed, and the next cell runs."""
    for at in range(len(faults.steps)):
        faults.at, faults.code = at, DIE
        before = type(faults.steps[at]).__name__
        try:
            ran = faulty()
        except SandboxError as error:
            assert "ended before its cell began" in str(error), before  # noqa: PT017 - one of two good ends
        else:
            assert (ran.outcome.reason, ran.stdout) == ("killed", b""), before
        if at % 5 == 0:
            assert cell("echo next").text == "next", before
    assert cell("echo last").text == "last"
    nothing_is_left(engine, faults)


def test_init_may_be_killed_at_any_step(faulty: Callable[[], Ran], faults: Faults, cell: Cell, engine: Engine) -> None:
    """SIGKILL to an init in the middle of its plan leaves as little as an error does."""
    ends: list[str] = []

    def run() -> None:
        try:
            ends.append(faulty().outcome.reason)
        except SandboxError as error:
            ends.append(type(error).__name__)

    for at in range(0, len(faults.steps), 3):
        faults.at, faults.code = at, WAIT
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            killed = pidfds(processes_of(engine.launcher))
            for fd in killed:
                with contextlib.suppress(ProcessLookupError):  # it ended with another one
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            assert all_dead(killed)
            thread.join(0.05)
    assert set(ends) <= {"killed", "ContainerLost"}
    faults.at = -1
    assert cell("echo last").text == "last"
    nothing_is_left(engine, faults)


def _note(path: Path) -> None:
    """Make an empty file to which every init may add a line."""
    path.touch()
    path.chmod(0o666)


def test_what_failed_ahead_is_made_again(faulty: Callable[[], Ran], faults: Faults, cell: Cell, engine: Engine) -> None:
    """A container that was made when the kernel refused it something fails no cell that comes when it does not."""
    faults.at, faults.code = 0, WHILE
    flag, passed = engine.store.path / FLAG, engine.store.path / PASSED
    try:
        _note(passed)
        assert faulty().text == "sound"
        while passed.read_text().count("\n") < 1 + DEPTH + 1:  # it, those that wait, and one for any other cell
            time.sleep(0.001)
        engine.background.wait()
        _note(flag)
        for refused in range(DEPTH):  # in the place of each that waits comes one that is refused
            assert faulty().text == "sound"
            engine.background.wait()
            while flag.read_text().count("\n") <= refused:
                time.sleep(0.001)
        with pytest.raises(SetupFailed):  # it, and the one that is made at once instead
            faulty()
    finally:
        for note in (flag, passed):
            note.unlink(missing_ok=True)
    assert faulty().text == "sound"
    assert cell("echo next").text == "next"
    nothing_is_left(engine, faults)
