"""The exercises of the course in a real laboratory, with the mistakes that students make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer import lab
from nbcontainer.containers.engine import set_default_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture(autouse=True)
def _default(engine: Engine) -> Iterator[None]:
    """The test's engine is the default one."""
    set_default_engine(engine)
    yield
    lab.laboratory().close()
    set_default_engine(None)


def says(name: str, word: str) -> None:
    """Assert that the exercise is not done, and that the explanation has a word."""
    found = lab.check(name)
    assert not found, found
    assert word in found.explanation, found


def test_the_mistakes_with_a_root() -> None:
    """A link that leads out of the new root, a shell that is not executable, and no mount point."""
    says("root.tiny", "does not exist")
    lab.sh("mkdir /tiny")
    says("root.tiny", "tiny is at /tiny")
    lab.sh("mkdir -p tiny/bin; cp /bin/busybox tiny/bin/sh; chmod -x tiny/bin/sh")
    says("root.tiny", "cannot be executed")
    lab.sh("rm tiny/bin/sh; ln -s /bin/busybox tiny/bin/sh")
    says("root.tiny", "if it is a link")
    lab.sh("rm tiny/bin/sh; cp /bin/busybox tiny/bin/sh")
    says("root.tiny", "tiny/old")
    lab.sh("mkdir tiny/old")
    says("root.tiny", "not a mount point")
    lab.bind("tiny", "tiny")
    lab.propagation("tiny", "shared")
    says("root.tiny", "is shared")
    lab.propagation("tiny", "private")
    assert lab.check("root.tiny")
    lab.pivot_root("tiny", "tiny/old")
    says("root.tiny", "before lab.pivot_root")


def test_the_mistakes_with_an_overlay() -> None:
    """One layer, the wrong order, a file that is written by hand, no upper, and a deletion in the image."""
    lab.sh("mkdir base change top scratch pile; echo old > base/greeting; echo new > change/greeting")
    says("overlay.two", "there is no overlay")
    for lower, word in ((["change"], "one lower layer"), (["base", "change"], "first of the list")):
        lab.mount_overlay(lower, "top", "scratch", "pile")
        says("overlay.two", word)
        lab.sh("echo new > pile/greeting")
        says("overlay.two", "one lower layer" if len(lower) == 1 else "write nothing")
        lab.umount("pile")
        lab.sh("rm -r top scratch; mkdir top scratch")
    lab.mount_overlay(["change", "base"], merged="pile")
    says("overlay.two", "read-only")
    lab.umount("pile")
    lab.sh("mkdir empty top2 scratch2")
    lab.mount_overlay(["empty"], "top2", "scratch2", "pile")
    says("overlay.hide", "no whiteout")
    lab.umount("pile")
    lab.mount_overlay(["change/", "base/"], "top", "scratch", "pile")
    assert lab.check("overlay.two")
    says("overlay.hide", "still visible")
    lab.sh("rm pile/greeting")
    assert lab.check("overlay.hide")
    lab.sh("rm change/greeting")
    says("overlay.hide", "was modified")


def test_the_mistakes_with_a_volume() -> None:
    """A copy, wrong places and sources, a volume that can be written to, and data that is deleted or still mounted."""
    says("volume.remove", "do exercise 3.1 first")
    lab.sh("mkdir -p box/data course-data empty; echo 1,2 > course-data/table.csv; cp course-data/table.csv box/data")
    says("volume.read-only", "not a mount")
    lab.bind("box/data", "course-data")
    says("volume.read-only", "course-data is the mount point")
    lab.umount("course-data")
    lab.bind("course-data", "box")
    says("volume.read-only", "covers the whole root")
    lab.umount("box")
    lab.bind("empty", "box/data")
    says("volume.read-only", "does not show")
    lab.umount("box/data")
    lab.bind("course-data", "box/data")
    says("volume.read-only", "can be made in box/data")
    assert lab.sh("ls course-data") == "table.csv\n"
    lab.umount("box/data")
    lab.sh("cp course-data/table.csv empty")
    lab.bind("empty", "box/data", read_only=True)
    says("volume.read-only", "does not show")
    lab.umount("box/data")
    lab.bind("course-data", "box/data", read_only=True)
    assert lab.check("volume.read-only")
    says("volume.remove", "unmount box/data first")
    lab.sh("mv box renamed")
    says("volume.remove", "another name")
    lab.sh("mv renamed box")
    lab.umount("box/data")
    lab.sh("rm -r box")
    assert lab.check("volume.remove")
    lab.sh("rm course-data/table.csv")
    says("volume.remove", "is gone")


def test_the_mistakes_with_an_archive() -> None:
    """The tree from outside, an archive in itself, a compressed one, a part of it, and lower with upper."""
    lab.sh("mkdir lower upper work merged; tar -xf /home/alice/busybox.tar -C lower")
    lab.mount_overlay("lower", "upper", "work", "merged")
    lab.sh("echo 'echo hello' > merged/srv/app.sh; rm merged/etc/shells")
    for script, word in (
        ("true", "does not exist"),
        ("cd merged; tar -cf app.tar . 2>/dev/null", "is inside merged"),
        ("rm merged/app.tar; echo text > app.tar", "not a bare tar archive"),
        ("tar -C merged -czf app.tar .", "is compressed"),
        ("cd merged; tar -cf ../app.tar bin srv", "etc/passwd is missing"),
        ("tar -cf app.tar merged", "not at the top"),
        ("tar -C upper -cf app.tar .", "not at the top"),
        ("tar -C lower -cf app.tar .", "srv/app.sh is missing"),
        ("mkdir both; cp -a lower/. both; cp upper/srv/app.sh both/srv; tar -C both -cf app.tar .", "etc/shells"),
    ):
        lab.sh(script)
        says("commit.archive", word)
    lab.sh("tar -C merged -cf app.tar .")
    assert lab.check("commit.archive")


def test_the_reason_for_a_late_mount_of_proc() -> None:
    """After the old root is unmounted, the kernel refuses a new /proc, and the error has the order to keep."""
    lab.sh("mkdir new; tar -xf /home/alice/busybox.tar -C new; mkdir new/old")
    lab.bind("new", "new")
    lab.pivot_root("new", "new/old")
    lab.umount("/old", lazy=True)
    with pytest.raises(lab.LaboratoryError, match="mount them before the old root is unmounted"):
        lab.mount("proc", "/proc")
