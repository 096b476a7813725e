"""The mount calls as a process without privilege can see them: their numbers, and how they fail."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux import mounts, namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

NOWHERE = "/nowhere/at/all"


@pytest.mark.parametrize(
    ("act", "call", "path"),
    [
        (lambda: mounts.mount("a", NOWHERE, "tmpfs", 0, None), "mount", NOWHERE),
        (lambda: mounts.umount2(NOWHERE, 0), "umount2", NOWHERE),
        (lambda: mounts.pivot_root(NOWHERE, NOWHERE), "pivot_root", NOWHERE),
        (lambda: mounts.open_tree(mounts.AT_FDCWD, NOWHERE, 0), "open_tree", NOWHERE),
        (lambda: mounts.move_mount(-1, "", mounts.AT_FDCWD, NOWHERE, 0), "move_mount", NOWHERE),
        (lambda: mounts.mount_setattr(mounts.AT_FDCWD, NOWHERE, 0, attr_set=1), "mount_setattr", NOWHERE),
        (lambda: mounts.fsopen("no-such-fs"), "fsopen", "no-such-fs"),
        (lambda: mounts.fsconfig(-1, "key", "value"), "fsconfig", "key=value"),
        (lambda: mounts.fsconfig(-1, "flag", None), "fsconfig", "flag"),
        (lambda: mounts.fsconfig_create(-1), "fsconfig", None),
        (lambda: mounts.fsmount(-1, 0), "fsmount", None),
        (lambda: namespaces.setns(-1, 0), "setns", None),
        (lambda: namespaces.unshare(0x1), "unshare", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_call_says_what_failed_and_where(act: Callable[[], object], call: str, path: str | None) -> None:
    """Every wrapper raises with its own name and the path it was about, and ENOSYS is not the reason."""
    with pytest.raises(OSError, match=f"^\\[Errno \\d+\\] {call}: ") as raised:
        act()
    assert raised.value.filename == path
    assert raised.value.errno != errno.ENOSYS


def test_a_tree_is_a_close_on_exec_descriptor(tmp_path_factory: pytest.TempPathFactory) -> None:
    """open_tree(2) without a clone needs no privilege, and gives a descriptor of the directory."""
    path = tmp_path_factory.mktemp("tree")
    fd = mounts.open_tree(mounts.AT_FDCWD, str(path), mounts.OPEN_TREE_CLOEXEC)
    try:
        assert os.fstat(fd).st_ino == path.stat().st_ino
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
