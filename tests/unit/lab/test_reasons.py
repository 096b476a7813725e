"""Why the kernel refused a call, by the errno and by the mounts."""

from __future__ import annotations

import errno

import pytest

from nbcontainer.lab.reasons import reason
from nbcontainer.linux.procfs import Mount, read_mounts

ROOT = "20 1 0:30 / / rw - overlay none rw\n"
LAB = "21 20 0:31 / /lab rw - tmpfs none rw\n"


def mounts(*lines: str) -> list[Mount]:
    """Return the mounts of a mountinfo file."""
    return read_mounts("".join((ROOT, LAB, *lines)))


@pytest.mark.parametrize(
    ("lines", "paths", "why"),
    [
        ((), ("new", "new/old"), "/lab/new is not a mount point"),
        (("22 21 0:31 /new /lab/new rw shared:3 - tmpfs none rw\n",), ("new", "new/old"), "/lab/new is shared"),
        (
            ("22 21 0:31 /new /lab/new rw - tmpfs none rw\n",),
            ("/lab/new", "/lab/old"),
            "/lab/old is not below /lab/new",
        ),
        (
            ("22 21 0:31 /new /lab/new rw - tmpfs none rw\n",),
            ("new", "new/old"),
            "the current root is not a mount point",
        ),
    ],
)
def test_the_condition_of_pivot_root_that_does_not_hold_is_named(
    lines: tuple[str, ...], paths: tuple[str, str], why: str
) -> None:
    """EINVAL has several reasons (pivot_root(2)): the mounts tell which it is."""
    assert reason("pivot_root", errno.EINVAL, paths, mounts(*lines), "/lab").startswith(why)


def test_a_shared_mount_above_is_named() -> None:
    """The parent of the new root may be the shared one."""
    shared = read_mounts(ROOT + LAB.replace("rw -", "rw shared:2 -") + "22 21 0:31 /new /lab/new rw - tmpfs none rw\n")
    assert reason("pivot_root", errno.EINVAL, ("new", "new/old"), shared, "/lab").startswith(
        "the mount above it is shared"
    )


@pytest.mark.parametrize(
    ("call", "code", "word"),
    [
        ("pivot_root", errno.EBUSY, "lab.bind(new_root, new_root)"),
        ("mount_overlay", errno.ENOENT, "mkdir"),
        ("umount", errno.EBUSY, "lazy=True"),
        ("bind", errno.ENOTDIR, "a file on a file"),
        ("mount", errno.EPERM, "tmpfs"),
    ],
)
def test_a_refusal_has_its_reason(call: str, code: int, word: str) -> None:
    """With what to do about it."""
    assert word in reason(call, code, (), [], "/lab")


def test_an_unknown_refusal_has_none() -> None:
    """The kernel's error alone is shown."""
    assert reason("bind", errno.EFAULT, (), [], "/lab") == ""
