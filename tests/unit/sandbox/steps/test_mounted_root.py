"""The system calls for a root that the launcher mounts, and that containers attach."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from nbcontainer.linux.mounts import AT_EMPTY_PATH, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE
from nbcontainer.linux.recording import Call, RecordingKernel, call
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.spec import Overlay, Program, Spec
from nbcontainer.sandbox.steps.mounted_root import AttachRoot, mount_root
from nbcontainer.sandbox.steps.network import StageHosts
from nbcontainer.sandbox.steps.overlay import MountOverlay, exists
from nbcontainer.sandbox.userns.idmap import host_map

ROOT = Overlay(("a/diff", "../below"), "../tmp/s.1/diff", "../tmp/s.1/work")


def test_a_container_attaches_copies_and_closes_what_travelled() -> None:
    """The mounts themselves stay with the notebook: what this container unmounts, the next one has."""
    kernel = RecordingKernel()
    kernel.left_open |= {6, 7}
    AttachRoot(ROOT.lowers, "../tmp/s.1/diff").apply(kernel, (6, 7))
    copy = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH
    assert kernel.only("open_tree") == [call("open_tree", 7, "", copy), call("open_tree", 6, "", copy)]
    assert [made.args[3] for made in kernel.only("move_mount")] == ["stage/names", "stage/root"]
    assert not kernel.left_open


def test_the_launcher_mounts_what_a_container_would() -> None:
    """The same options and layers, below a file system with the hosts file; both are attached nowhere."""
    kernel = RecordingKernel(nodes={"layers/a/diff/etc": stat.S_IFDIR | 0o750})
    root, names = mount_root(kernel, ROOT.lowers, "../tmp/s.1/diff", "../tmp/s.1/work")
    place = f"/proc/self/fd/{names}"
    assert call("mkdir", f"{place}/etc", 0o755) in kernel.calls
    assert call("chmod", f"{place}/etc", 0o750) in kernel.calls
    options = [made.args[1:] for made in kernel.only("fsconfig")]
    overlay = MountOverlay((), "../tmp/s.1/diff", "../tmp/s.1/work")
    assert [value for key, value in options if key == "lowerdir+"] == [place, *ROOT.lowers]
    assert set(overlay.options()) <= set(options)
    assert not kernel.only("move_mount")
    assert kernel.left_open == {root, names}


@pytest.mark.parametrize(("error", "found"), [(None, False), (errno.EBUSY, True)])
def test_an_overlay_exists_while_no_second_one_can_have_its_work_directory(error: int | None, found: bool) -> None:
    """The kernel refuses that with EBUSY where index=on is asked for; what is made to see it is closed."""
    kernel = RecordingKernel()
    if error is not None:
        kernel.fail(error, "fsconfig_create")
    assert exists(kernel, "../below", "../tmp/s.1/second", "../tmp/s.1/work") == found
    options = [made.args[1:] for made in kernel.only("fsconfig")]
    assert ("index", "on") in options
    assert ("workdir", "../tmp/s.1/work") in options
    assert not kernel.left_open


def test_a_kernel_that_makes_a_second_overlay_shows_nothing() -> None:
    """The first answer of a launcher is compared with that about an overlay that is there."""
    kernel = RecordingKernel()
    with pytest.raises(OSError, match="two overlays with one work directory"):
        exists(kernel, "../below", "../tmp/s.1/second", "../tmp/s.1/work", "../tmp/s.1/third")
    assert not kernel.left_open
    made: list[Call] = []

    def is_second(call: Call) -> bool:
        made.extend([call] if call.name == "fsconfig_create" else [])
        return len(made) == 2

    kernel = RecordingKernel().fail(errno.EBUSY, is_second)
    assert not exists(kernel, "../below", "../tmp/s.1/second", "../tmp/s.1/work", "../tmp/s.1/third")
    uppers = [made.args[2] for made in kernel.only("fsconfig") if made.args[1] == "upperdir"]
    assert uppers == ["../tmp/s.1/second", "../tmp/s.1/third"]  # so only the work directory can be the reason
    assert not kernel.left_open


def test_what_the_kernel_refuses_for_another_reason_is_an_error() -> None:
    """So nothing is taken for an overlay that is gone."""
    kernel = RecordingKernel()
    kernel.fail(errno.EINVAL, "fsconfig_create")
    with pytest.raises(OSError, match="Invalid"):
        exists(kernel, "../below", "../tmp/s.1/second", "../tmp/s.1/work")
    assert not kernel.left_open


REFUSED = [(name, number) for name in ("fsopen", "fsconfig", "fsconfig_create", "fsmount") for number in range(2)] + [
    ("mkdir", 0),
    ("open", 0),
    ("open_tree", 0),
]


@pytest.mark.parametrize(("name", "number"), REFUSED)
def test_what_is_refused_leaves_nothing_open(name: str, number: int) -> None:
    """Whichever call the kernel refuses, the launcher has no descriptor more."""
    seen: list[Call] = []

    def refused(made: Call) -> bool:
        seen.extend([made] if made.name == name else [])
        return made.name == name and len(seen) == number + 1

    kernel = RecordingKernel().fail(errno.EINVAL, refused)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        mount_root(kernel, ROOT.lowers, "../tmp/s.1/diff", "../tmp/s.1/work")
    assert not kernel.left_open


def test_a_plan_on_a_mounted_root_attaches_it() -> None:
    """One step takes the place of those that stage the hosts file and mount the overlay; all others are the same."""
    template = PlanTemplate(Spec(Program(("true",))), host_map())
    plain = template.on(ROOT).steps
    mounted = template.on(Overlay(ROOT.lowers, ROOT.upper, ROOT.work, mounted=True)).steps
    assert AttachRoot(ROOT.lowers, "../tmp/s.1/diff") in mounted
    assert not [step for step in mounted if isinstance(step, (MountOverlay, StageHosts))]
    rest = [step for step in plain if not isinstance(step, (MountOverlay, StageHosts))]
    assert [step for step in mounted if not isinstance(step, AttachRoot)] == rest
