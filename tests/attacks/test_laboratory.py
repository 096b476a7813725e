"""The laboratory's attacks, with and without the steps that stop them, and attacks on this machine from inside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.lab.attacks import ATTACKS, SECRET, Attack
from nbcontainer.lab.laboratory import Laboratory
from tests.running import appear, marker, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from nbcontainer.lab.laboratory import Trial


@pytest.fixture
def laboratory(engine: Engine) -> Iterator[Laboratory]:
    """A laboratory of the test's own."""
    made = Laboratory(engine)
    yield made
    made.close()


def trial(laboratory: Laboratory, attack: Attack, *without: str) -> Trial:
    """Run an attack in the laboratory."""
    options = {"user": attack.user} if attack.user else {}
    return laboratory.run(laboratory.plan(attack.script, **options), attack.script, without, 30)


def test_each_attack_succeeds_without_its_steps_and_fails_with_any_of_them(laboratory: Laboratory) -> None:
    """With all steps, and with any one of those that stop it, it reaches nothing; without them all, it does."""
    if laboratory.engine.single_id:  # root is the only user
        attacks = [attack for attack in ATTACKS.values() if not attack.user]
    else:
        attacks = list(ATTACKS.values())
    for attack in attacks:
        assert not attack.succeeded(trial(laboratory, attack).output), attack.name
        for kept in attack.steps:
            fewer = [step for step in attack.steps if step != kept]
            assert not attack.succeeded(trial(laboratory, attack, *fewer).output), (attack.name, kept)
        found = trial(laboratory, attack, *attack.steps)
        assert not found.failed, attack.name
        assert attack.succeeded(found.output), (attack.name, found)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of this machine's that every user may read."""
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o011)
    file = tmp_path / "secret"
    file.write_text("of this machine")
    file.chmod(0o644)
    return file


_WAYS_OUT = (
    "cat {file}",
    "cat /proc/1/root{file} /proc/[0-9]*/root{file}",
    "cd /proc/1/cwd && cat {file}; cat /proc/[0-9]*/cwd{file}",
    "for fd in /proc/[0-9]*/fd/*; do cat $fd/{file} $fd/../../../../../../..{file}; done",
    "mkdir -p /tmp/a; cd /; chroot /tmp/a true; cat ../../../../../..{file}",
    "umount -l /; umount -l /; cat {file}",
    "mkdir -p /tmp/o/u /tmp/o/w /tmp/o/m; mount -t overlay -o lowerdir=/,userxattr none /tmp/o/m; cat /tmp/o/m{file}",
    "nsenter -t 1 -m cat {file}; unshare -rm cat {file}",
    "mount -t proc p /proc; cat /proc/1/root{file}",
    "for d in /dev/[sv]d*; do mount $d /mnt && cat /mnt{file}; done; mknod /tmp/d b 254 0; cat /tmp/d",
)


def test_nothing_of_this_machine_is_reached(laboratory: Laboratory, secret: Path) -> None:
    """By paths, /proc, descriptors, chroot, mounts and namespaces, in its shell and without the steps of a plan."""
    for way in _WAYS_OUT:
        script = way.format(file=secret)
        said = laboratory.ask("sh", script=f"({script}) 2>/dev/null", timeout=20)
        assert "of this machine" not in said["output"], way
    plan = laboratory.plan("true")
    needed = {"Execute", "ConnectStreams", "CloneInit", "MountOverlay", "WriteScript"}
    for left_out in (["PivotRoot", "CloseDescriptors"], sorted({type(step).__name__ for step in plan} - needed)):
        found = laboratory.run(plan, f"cat {secret}; cat /proc/*/root{secret}", left_out, 20)
        assert "of this machine" not in found.output
        assert secret.read_text() == "of this machine"


def test_what_it_finds_is_planted(laboratory: Laboratory) -> None:
    """Its host has secrets of its own, and no process of this machine."""
    seconds = marker()
    found = laboratory.ask("sh", script="cat /home/alice/secret.txt; ls /proc | grep -c '^[0-9]'", timeout=20)["output"]
    assert found.splitlines()[0] == SECRET
    assert int(found.splitlines()[1]) < 10
    laboratory.ask("sh", script=f"sleep {seconds} & echo", timeout=20)
    appear(seconds, 1)


def test_nothing_is_left_of_it(laboratory: Laboratory) -> None:
    """Processes end with it, and its files are gone, after `reset` and after `close`."""
    seconds = marker()
    laboratory.ask("sh", script=f"sleep {seconds} & echo > /lab/file", timeout=20)
    appear(seconds, 1)
    upper = laboratory.upper
    assert upper is not None
    laboratory.reset()
    laboratory.engine.background.wait()
    assert not processes_with(seconds)
    assert not upper.path.exists()
    assert laboratory.ask("sh", script="ls /lab", timeout=20)["output"] == ""
