"""Directories of the host as detached mounts that show a container's ids: root's files are its root's."""

from __future__ import annotations

import errno
import os

from nbcontainer.errors import ContainerError
from nbcontainer.linux import mounts


def idmapped_tree(source: str, namespace: int, what: str, *, recursive: bool, hint: str) -> int:
    """A copy of the mount at `source` (host, absolute) with the ids of user namespace `namespace`.

    `what` is the source's name in an error, `hint` what to do where its file system has no idmapped mounts. Needs
    CAP_SYS_ADMIN over the host's mounts, and Linux 5.12 (mount_setattr(2)). The caller closes it.
    Raises `ContainerError`.
    """
    below = mounts.AT_RECURSIVE if recursive else 0
    try:
        tree = mounts.open_tree(mounts.AT_FDCWD, source, mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | below)
    except OSError as error:
        advice = "give the notebook the capability SYS_ADMIN, without which root may not mount"
        advice = advice if error.errno == errno.EPERM else ""
        raise ContainerError(f"cannot open {what} {source}: {error.strerror}", hint=advice) from error
    try:
        mounts.mount_setattr(
            tree, "", mounts.AT_EMPTY_PATH | below, attr_set=mounts.MOUNT_ATTR_IDMAP, userns_fd=namespace
        )
    except OSError as error:
        os.close(tree)
        raise ContainerError(f"cannot map the owners of {what} {source}: {error.strerror}", hint=hint) from error
    return tree
