"""The attacks on /proc, processes and other cells in places where containers have another /proc than usual."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.proc import MountProc
from tests import places
from tests.attacks.test_host import visible_processes
from tests.attacks.test_init import look_into
from tests.attacks.test_kernel_files import SETTINGS, open_to_write
from tests.combinations import combinations
from tests.places import Kind

if TYPE_CHECKING:
    from nbcontainer.sandbox.steps.base import Step
    from tests.attacks.attacker import Attacker

ATTACKS = ("test_outer_proc.py", "test_kernel_files.py", "test_init.py", "test_host.py")

_QUICK = "outer_proc or looked_into or arguments or no_signal or kernel_files"
"""Those that are about /proc and processes alone (`pytest -k`)."""

_USUAL = Kind.ROOTFUL if os.geteuid() == 0 else Kind.ROOTLESS
"""The place of this user's that the quick run tries."""


def attack_in(kind: Kind, masks: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the attacks in a place."""
    folder = Path(__file__).parent
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--reruns=0",
        *options,
    ]
    words += ["--basetemp", str(tmp_path / "place"), *(str(folder / name) for name in ATTACKS)]
    program = places.program(kind, masks, *words)
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=folder.parents[1])


def test_the_attacks_fail_in_a_place(tmp_path: Path, attack: Attacker) -> None:
    """A place like a container of Docker's: no attack on /proc and processes succeeds there either."""
    assert attack.engine.launcher.pid
    done = attack_in(_USUAL, "docker", tmp_path, "-k", _QUICK, "-m", "not slow")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "masks"), combinations(places.kinds(), list(places.MASKS)))
def test_all_attacks_fail_in_every_place(kind: Kind, masks: str, tmp_path: Path) -> None:
    """Whatever the kind of its root and the program that covers parts of /proc."""
    done = attack_in(kind, masks, tmp_path)
    assert done.returncode == 0, done.stdout


def with_processes_only(step: Step) -> Step:
    """Return the step, or the one that mounts /proc as a kernel does that refuses all of it."""
    return MountProc(ProcLevel.PROCESSES.value) if isinstance(step, MountProc) else step


def test_a_proc_of_processes_only_shows_no_more(attack: Attacker) -> None:
    """Init stays closed, no setting opens for writing, and there are two processes."""
    found = attack(look_into, "init", change=with_processes_only)
    assert set(found.values()) <= {"EACCES", "EPERM", "ENOENT", "EROFS", "its own"}, found
    written = attack(open_to_write, SETTINGS, change=with_processes_only)
    assert set(written.values()) <= {"EROFS", "EACCES", "EPERM", "ENOENT"}, written
    assert len(attack(visible_processes, change=with_processes_only)) == 2
