"""Why the kernel refused a call, as a student meets it: by the errno and by the mounts at that moment."""

from __future__ import annotations

import errno
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.procfs import Mount

_REASONS: Mapping[tuple[str, int], str] = {
    ("mount_overlay", errno.ENOENT): "one of the directories does not exist: make it first, `lab.sh('mkdir -p …')`",
    (
        "mount_overlay",
        errno.EINVAL,
    ): "upper and work must be on one file system that is not an overlay itself, in two directories "
    "that do not contain each other; the laboratory's own directory is such a file system",
    ("mount_overlay", errno.EBUSY): "another overlay uses this upper or work directory: each mount has its own pair",
    ("mount_overlay", errno.ESTALE): "the upper directory was used with another lower one: make a new pair",
    ("mount_overlay", errno.ELOOP): "the merged directory lies in one of the layers",
    ("mount_overlay", errno.ENODEV): "this kernel has no overlayfs: load the module, `modprobe overlay` as root",
    (
        "bind",
        errno.ENOENT,
    ): "the source and the target must both exist: a bind mount shows one in the place of the other",
    ("bind", errno.ENOTDIR): "a directory can be bound on a directory, and a file on a file",
    ("bind", errno.EINVAL): "the source has mounts below it that a user namespace may not take apart: bind it with "
    "recursive=True (mount_namespaces(7))",
    ("umount", errno.EINVAL): "this is not a mount point, or it was mounted outside the laboratory",
    ("umount", errno.EBUSY): "a process has its working directory or an open file there: leave it, or use lazy=True",
    (
        "mount",
        errno.EPERM,
    ): "a user namespace may mount only some file systems: tmpfs, proc, sysfs, devpts, mqueue, overlay",
    ("mount", errno.ENODEV): "the kernel has no file system of that name",
    (
        "pivot_root",
        errno.EBUSY,
    ): "new_root or put_old is on the file system that is the root now: the old and the new root must "
    "be two mounts. Bind new_root on itself first: `lab.bind(new_root, new_root)`",
    ("pivot_root", errno.ENOENT): "new_root or put_old does not exist",
    ("pivot_root", errno.ENOTDIR): "new_root and put_old must be directories",
}

_NO_PROC = (
    "a user namespace may mount tmpfs, mqueue, overlay and devpts at any time, but proc and sysfs only while it sees "
    "another one as a whole: mount them before the old root is unmounted, then "
    "`lab.reset()` (user_namespaces(7), mount_namespaces(7))"
)


def reason(call: str, code: int, arguments: Sequence[str], mounts: Sequence[Mount], directory: str) -> str:
    """Return why the kernel refused `call`, as far as that is known; empty if it is not.

    `arguments` are the paths of the call, `mounts` those of the laboratory, and `directory` is where relative paths
    begin.
    """
    if call == "mount" and code == errno.EPERM and not any(mount.fstype == "proc" for mount in mounts):
        return _NO_PROC
    if call == "pivot_root" and code == errno.EINVAL:
        new_root, put_old = (posixpath.normpath(posixpath.join(directory, path)) for path in arguments)
        return _pivot_root(new_root, put_old, mounts)
    return _REASONS.get((call, code), "")


def _pivot_root(new_root: str, put_old: str, mounts: Sequence[Mount]) -> str:
    """Return which of the conditions of pivot_root(2) does not hold."""
    found = next((mount for mount in reversed(mounts) if mount.target == new_root), None)
    if found is None:
        return f"{new_root} is not a mount point: bind it on itself first, `lab.bind({new_root!r}, {new_root!r})`"
    above = next((mount for mount in mounts if mount.number == found.parent), None)
    for mount, what in ((found, new_root), (above, "the mount above it"), (_root(mounts), "the root")):
        if mount is not None and any(tag.startswith("shared:") for tag in mount.tags):
            return (
                f"{what} is shared: the change of root would spread to other mount namespaces. Make the mounts private "
                "first, `lab.propagation('/', 'private')` (mount --make-rprivate /)"
            )
    if put_old != new_root and not put_old.startswith(f"{new_root.rstrip('/')}/"):
        return (
            f"{put_old} is not below {new_root}: the old root must be reachable from the new one until it is unmounted"
        )
    return "the current root is not a mount point itself, or it is the initramfs"


def _root(mounts: Sequence[Mount]) -> Mount | None:
    return next((mount for mount in reversed(mounts) if mount.target == "/"), None)
