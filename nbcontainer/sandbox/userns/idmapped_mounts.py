"""Directories and files of the host as detached mounts, taken by descriptor; and such with a container's ids."""

from __future__ import annotations

import errno
import os

from nbcontainer.errors import ContainerError
from nbcontainer.linux import mounts
from nbcontainer.linux.files import RESOLVE_NO_SYMLINKS
from nbcontainer.linux.kernel import Kernel

STALE = errno.ESTALE
"""What it fails with where the mounts that this process sees are older than those of the caller."""

CHANGED = errno.EREMCHG
"""What it fails with where a link has taken the place of a directory on the way."""

CHANGED_ADVICE = "a container that can write above it may have changed it: end that container, and run the cell again"


def clone_tree(kernel: Kernel, source: str, identity: tuple[int, int] | None, *, recursive: bool) -> int:
    """Return a detached copy of the mount at `source` (absolute, without links), to be closed by the caller.

    It clones the descriptor that was looked at: no link is followed, and `identity`, (device, inode) as they
    were when the path was checked, must be those of what is there. Raises `OSError`: `STALE`, `CHANGED`, the kernel's.
    """
    below = mounts.AT_RECURSIVE if recursive else 0
    place = _open(kernel, source)
    try:
        found = kernel.fstat(place)
        if identity is not None and (found.st_dev, found.st_ino) != identity:
            raise OSError(STALE, os.strerror(STALE), source)
        flags = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | mounts.AT_EMPTY_PATH | below
        return kernel.open_tree(place, "", flags)
    finally:
        kernel.close(place)


def _open(kernel: Kernel, source: str) -> int:
    try:
        return kernel.openat2(mounts.AT_FDCWD, source, os.O_PATH | os.O_CLOEXEC, resolve=RESOLVE_NO_SYMLINKS)
    except FileNotFoundError:
        raise OSError(STALE, os.strerror(STALE), source) from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise OSError(CHANGED, "it changed after it was checked", source) from None


def idmapped_tree(
    source: str,
    namespace: int,
    what: str,
    *,
    recursive: bool,
    hint: str,
    identity: tuple[int, int] | None = None,
) -> int:
    """A copy of the mount at `source` (host, absolute, without links) with the ids of user namespace `namespace`.

    Mounts that the host makes there can come in, and none go out: the copy of a shared mount is in its peer group, so
    what a container with SYS_ADMIN mounts in it would appear on the host (mount_namespaces(7)).

    `identity` is as for `clone_tree`, `what` is the source's name in an error, `hint` what to do where its file system
    has no idmapped mounts. Needs CAP_SYS_ADMIN over the host's mounts, and Linux 5.12 (mount_setattr(2)). The caller
    closes it. Raises `ContainerError`.
    """
    try:
        tree = clone_tree(Kernel(), source, identity, recursive=recursive)
    except OSError as error:
        raise cannot_open(what, source, error) from error
    try:
        map_ids(tree, namespace, recursive=recursive)
    except OSError as error:
        os.close(tree)
        raise ContainerError(f"cannot map the owners of {what} {source}: {error.strerror}", hint=hint) from error
    return tree


def map_ids(tree: int, namespace: int, *, recursive: bool) -> None:
    """Give a detached mount the ids of a user namespace, and let no mount that is made in it out (mount_setattr(2)).

    Raises `OSError`: EINVAL if the file system has no idmapped mounts, EPERM if it is that of another user namespace or
    has a map.
    """
    mounts.mount_setattr(
        tree,
        "",
        mounts.AT_EMPTY_PATH | (mounts.AT_RECURSIVE if recursive else 0),
        attr_set=mounts.MOUNT_ATTR_IDMAP,
        propagation=mounts.MS_SLAVE,
        userns_fd=namespace,
    )


def cannot_open(what: str, source: str, error: OSError) -> ContainerError:
    """Return the error for `what` at `source` (host) that `clone_tree` could not clone."""
    hints = {
        errno.EPERM: "give the notebook the capability SYS_ADMIN, without which root may not mount",
        STALE: "it is not the one that was checked: run the cell again",
        CHANGED: CHANGED_ADVICE,
    }
    return ContainerError(f"cannot open {what} {source}: {error.strerror}", hint=hints.get(error.errno or 0, ""))
