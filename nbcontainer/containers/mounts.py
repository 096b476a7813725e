"""Idmapped mounts for root's volumes."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.linux.paths import Node, resolve
from nbcontainer.sandbox.userns.idmapped_mounts import idmapped_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Volume

_NO_IDMAP = "its file system does not support idmapped mounts: copy the data to another one, or add --userns=host"


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


def idmapped(volumes: tuple[Volume, ...], launcher: Launcher, first: int) -> tuple[tuple[Volume, ...], list[int]]:
    """Return root's volumes as detached, idmapped mounts, in which the files of root outside are those of root inside.

    The volumes have their `tree` numbers, counted from `first`. The caller closes the descriptors, which come second.
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
