"""Root's volumes as detached mounts with a container's ids, mount by mount where not all of them can have those.

The kernel maps no ids on some file systems (devtmpfs, overlay, proc, several network file systems), on mounts of
another user namespace and on mounts that have a map already (mount_setattr(2), EINVAL and EPERM). Such a mount keeps
the ids of the host, so that its files belong to no user of the container.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from nbcontainer.linux import mounts
from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.procfs import read_mounts, read_text
from nbcontainer.sandbox.userns.idmapped_mounts import clone_tree, map_ids

PARTS_LIMIT = 60
"""The highest number of mounts of one volume that are attached one by one; each takes a descriptor."""


@dataclass(frozen=True)
class Part:
    """A detached mount of a volume: `tree` is its descriptor, `source` its host path.

    With `mapped`, its files have the container's ids. `directory` is false for a file, and `device` true for a device.
    """

    tree: int
    source: str
    mapped: bool
    directory: bool = True
    device: bool = False


@dataclass
class VolumeTrees:
    """The parts of one volume, at most `limit`, outer ones first. The caller closes their descriptors.

    `left_out` are host paths of mounts that are not part of it.
    """

    limit: int = PARTS_LIMIT
    parts: list[Part] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the descriptors."""
        for part in self.parts:
            os.close(part.tree)
        self.parts.clear()


def volume_trees(source: str, identity: tuple[int, int], namespace: int, limit: int = PARTS_LIMIT) -> VolumeTrees:
    """Return the mounts at and below `source` (host), with the ids of user namespace `namespace` where they can be.

    If one mount can have no ids, each is attached by itself: then `limit` is the highest number of them.
    The other arguments are those of `idmapped_tree`. Raises `OSError` as `clone_tree` does: EPERM without SYS_ADMIN.
    """
    trees = VolumeTrees(limit)
    try:
        _add(trees, source, identity, namespace)
    except BaseException:
        trees.close()
        raise
    return trees


def _add(trees: VolumeTrees, source: str, identity: tuple[int, int] | None, namespace: int) -> None:
    if _add_mapped(trees, source, identity, namespace, recursive=True):
        return
    below = inner_mounts(source, read_text("/proc/self/mountinfo"))
    if not (below and _add_mapped(trees, source, identity, namespace, recursive=False)):
        trees.parts.append(_part(_unmapped(source, identity), source, mapped=False))
    for mount in below:
        _add_below(trees, mount, namespace)


def _add_below(trees: VolumeTrees, mount: str, namespace: int) -> None:
    """Add a mount inside the volume; one that cannot be opened is left out."""
    if len(trees.parts) >= trees.limit:
        trees.left_out.append(mount)
        return
    try:
        _add(trees, mount, None, namespace)
    except OSError:
        trees.left_out.append(mount)


def _add_mapped(
    trees: VolumeTrees, source: str, identity: tuple[int, int] | None, namespace: int, *, recursive: bool
) -> bool:
    """Add the mount with the container's ids; return False if the kernel refuses them."""
    tree = clone_tree(Kernel(), source, identity, recursive=recursive)
    try:
        map_ids(tree, namespace, recursive=recursive)
    except OSError as error:
        os.close(tree)
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        return False
    trees.parts.append(_part(tree, source, mapped=True))
    return True


def _unmapped(source: str, identity: tuple[int, int] | None) -> int:
    """Return a detached mount with the host's ids; mounts that are made in it do not reach the host."""
    tree = clone_tree(Kernel(), source, identity, recursive=False)
    try:
        mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, propagation=mounts.MS_SLAVE)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _part(tree: int, source: str, *, mapped: bool) -> Part:
    """Take a tree over; it is closed if it cannot be looked at."""
    try:
        mode = os.fstat(tree).st_mode
    except OSError:
        os.close(tree)
        raise
    return Part(tree, source, mapped, directory=stat.S_ISDIR(mode), device=stat.S_ISCHR(mode))


def inner_mounts(source: str, mountinfo: str) -> list[str]:
    """Return the places of the visible mounts directly below `source`, by the text of a mountinfo file."""
    top = source.rstrip("/") + "/"
    visible: list[str] = []
    for mount in read_mounts(mountinfo):
        # A mount covers those before it, at the same place and below.
        visible = [place for place in visible if not f"{place}/".startswith(f"{mount.target.rstrip('/')}/")]
        visible.append(mount.target)
    inside = [place for place in visible if place.startswith(top) and place != source]
    return sorted(place for place in inside if not any(place.startswith(f"{other}/") for other in inside))
