"""Volumes of a container: checks across mounts, and idmapped mounts for root."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.linux.paths import Node, resolve
from nbcontainer.sandbox.protocol import FILES_LIMIT
from nbcontainer.sandbox.userns.idmapped_mounts import idmapped_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Tmpfs, Volume

_NO_IDMAP = "its file system has no idmapped mounts: copy the data to another, or add --userns=host"


def is_as_checked(volume: Volume) -> bool:
    """Whether the notebook still finds at a volume's path what it found when it was parsed, and no link on the way."""
    try:
        with resolve(volume.source) as place:
            return (place.node, place.links) == (Node(volume.source, volume.device, volume.inode, volume.born), ())
    except OSError:
        return False


def writable_directories(volumes: Iterable[Volume], *, all_of_them: bool) -> Iterator[Node]:
    """The host's directories that a container can write to by its volumes; `all_of_them`, those with `:ro` as well."""
    for volume in volumes:
        if volume.directory and (all_of_them or not volume.read_only):
            yield Node(volume.source, volume.device, volume.inode, volume.born)


def check_targets(volumes: Iterable[Volume], tmpfs: Iterable[Tmpfs]) -> None:
    """Raises `UsageError` where two mounts have one target, or there are too many."""
    targets = [volume.target for volume in volumes] + [memory.target for memory in tmpfs]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"two mounts have the target {target}", hint="leave one of them out")
    if len(targets) > FILES_LIMIT - 10:
        raise UsageError(f"{len(targets)} volumes are too many", hint="mount a directory above them")


def idmapped(volumes: tuple[Volume, ...], launcher: Launcher, first: int) -> tuple[tuple[Volume, ...], list[int]]:
    """Root's volumes as detached, idmapped mounts: root's files are root's inside, and files made there root's outside.

    Returns the volumes with their `tree` numbers, counted from `first`, and the descriptors, which the caller closes.
    Needs CAP_SYS_ADMIN over the host's mounts, and Linux 5.12 (mount_setattr(2)). Raises `ContainerError`.
    """
    trees: list[int] = []
    numbered: list[Volume] = []
    namespace = launcher.user_namespace()
    try:
        for volume in volumes:
            trees.append(
                idmapped_tree(
                    volume.source,
                    namespace,
                    "the volume",
                    recursive=True,
                    hint=_NO_IDMAP,
                    identity=(volume.device, volume.inode),
                )
            )
            numbered.append(replace(volume, tree=first + len(trees) - 1))
    except BaseException:
        for tree in trees:
            os.close(tree)
        raise
    finally:
        os.close(namespace)
    return tuple(numbered), trees
