"""From a failed step to the one line that a person reads."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.launcher.failures import launcher_failed, setup_failed
from nbcontainer.sandbox.steps.base import Step, advice_for
from nbcontainer.sandbox.steps.overlay import UPPER_ADVICE
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.volumes import BindVolume

if TYPE_CHECKING:
    from pathlib import Path

EVERY_STEP = sorted(name for name, step in Step.by_name.items() if step.__module__.startswith("nbcontainer."))


def report(step: str, code: int, path: str = "", error: str = "") -> dict[str, Any]:
    """What init says: libc's wrapper puts the call before the reason, os's functions do not."""
    return {"step": step, "errno": code, "error": error or os.strerror(code), "path": path}


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (
            report("MountOverlay", errno.EINVAL, "../stage/root", "mount: Invalid argument"),
            f"cannot mount the overlay at ../stage/root: Invalid argument; {UPPER_ADVICE}",
        ),
        (
            report("Execute", errno.ENOENT, "pyhton"),
            "cannot run pyhton: No such file or directory; "
            "the image has no such program: check its name and the image's PATH",
        ),
        (
            {**report("Execute", errno.ENOENT, "/nope"), "about": "MakeWorkdir"},
            "cannot enter the working directory /nope: No such file or directory; choose another with -w",
        ),
        (
            report("Execute", errno.EAGAIN, "/bin/true"),
            "cannot run /bin/true: Resource temporarily unavailable; too many processes are running: end some, or "
            "raise the limit (--pids-limit, --ulimit nproc, or `ulimit -u`)",
        ),
        (
            report("SetUser", errno.ENOENT, "/etc/passwd", "no user carol in the image"),
            "cannot become the user at /etc/passwd: no user carol in the image; "
            "use a name of the image's /etc/passwd or /etc/group, or a number",
        ),
        (
            report("BindVolume", errno.EACCES, "/secret", "open_tree: Permission denied"),
            "cannot mount the volume at /secret: Permission denied; "
            "check that the path may be entered and read by this user",
        ),
        (report("SetHostname", errno.EINVAL), "cannot set the host name: Invalid argument"),
        ({"step": "ImportModule", "errno": 0, "error": "No module named 'x'", "path": ""}, "No module named 'x'"),
        ({}, "cannot apply : "),
    ],
)
def test_a_failure_is_one_line(failed: dict[str, Any], words: str) -> None:
    """The line says what was tried, where, why it failed, and what to do next."""
    error = setup_failed(failed)
    assert str(error).endswith(words)
    assert "\n" not in str(error)


def test_the_parts_are_kept() -> None:
    """The step, the errno and the path can be asked for; the hint is apart from the message."""
    error = setup_failed(report("BindVolume", errno.EISDIR, "/x"))
    assert (error.step, error.errno, error.path) == ("BindVolume", errno.EISDIR, "/x")
    assert error.hint == BindVolume.advice[errno.EISDIR]
    assert error.hint not in error.message


def test_every_step_has_its_words() -> None:
    """Each class of step holds its own verb phrase and its purpose: neither is inherited."""
    without = [name for name in EVERY_STEP if not {"phrase", "why"} <= vars(Step.by_name[name]).keys()]
    assert without == []


@pytest.mark.parametrize("name", EVERY_STEP)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOMEM, errno.EMFILE])
def test_every_failure_of_every_step_is_one_clean_line(name: str, code: int) -> None:
    """Whatever step fails with whatever errno, the line begins with `cannot` and has the kernel's reason once."""
    text = str(setup_failed(report(name, code, "/some/where", f"call: {os.strerror(code)}")))
    assert text.startswith("cannot ")
    assert text.count(os.strerror(code)) == 1
    assert "call:" not in text
    assert "\n" not in text


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_what_every_step_may_meet_has_a_common_hint(code: int) -> None:
    """Where a step has no advice of its own, the common one is given."""
    assert advice_for(Execute, code)


def test_a_step_of_another_version_has_no_hint() -> None:
    """A name that no class has is told as it is."""
    error = setup_failed(report("FutureStep", errno.EPERM, "/x"))
    assert str(error) == "cannot apply FutureStep at /x: Operation not permitted"
    assert error.hint == ""


def test_a_path_with_control_characters_stays_in_its_line() -> None:
    """A path is part of one line, whatever it is made of."""
    text = str(setup_failed(report("BindVolume", errno.EACCES, "/a\nb\x1b[2J")))
    assert "'/a\\nb\\x1b[2J'" in text
    assert "\n" not in text
    assert "\x1b" not in text


def test_a_read_only_parent_is_not_blamed_on_the_store() -> None:
    """EROFS while a target is made is about what is above the target; while the overlay is mounted, about the store."""
    for step in ("BindVolume", "MountTmpfs", "MakeWorkdir"):
        assert "NBCONTAINER_HOME" not in str(setup_failed(report(step, errno.EROFS, "/data/sub")))
    assert "NBCONTAINER_HOME" in str(setup_failed(report("MountOverlay", errno.EROFS)))


def test_root_without_the_capability_is_told_to_leave_the_hosts_namespace(tmp_path: Path) -> None:
    """With `--userns=host` no user namespace is asked for, and what would allow one is no help."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/user").touch()
    (tmp_path / "self/status").write_text("CapEff:\t00000000a80425fb\nSeccomp:\t2\n")
    machine = Machine(tmp_path, tmp_path, {}, 0, 0, tmp_path)
    failed = {"failed": "unshare: Operation not permitted", "errno": errno.EPERM, "map": False, "kind": "host"}
    assert "remove --userns=host" in launcher_failed(failed, machine).hint
    assert "seccomp=unconfined" in launcher_failed({**failed, "kind": "range"}, machine).hint
