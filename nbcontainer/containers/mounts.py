"""Volumes: the notebook's own directory as one, and idmapped mounts for root's."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import DirectoryRefused
from nbcontainer.linux.paths import Node, resolve
from nbcontainer.sandbox.spec import Volume
from nbcontainer.sandbox.userns.idmapped_mounts import idmapped_tree
from nbcontainer.store import shared_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.store.layout import Store

_NO_IDMAP = "its file system does not support idmapped mounts: copy the data to another one, or add --userns=host"


def notebook_directory(store: Store, directory: str | Path = ".", *, read_only: bool = False) -> Volume:
    """Return the volume that shows the notebook's `directory` (host) at the same path in a container.

    The directory that was judged is the one that is mounted: the volume has its device and inode. Raises
    `DirectoryRefused`, with the way out as its hint.
    """
    try:
        place = resolve(directory)
    except OSError as error:
        reason = f"the notebook's directory {directory} cannot be used: {error.strerror}"
        raise DirectoryRefused(reason, hint="change to another one with `%cd`, or write -v DIR:DIR") from None
    with place:
        node = place.node
        if not stat.S_ISDIR(place.mode):
            raise DirectoryRefused(f"{node.path} is not a directory", hint="write -v DIR:DIR")
        shared_directory.check(place, store.path)
        return Volume(
            node.path,
            node.path,
            read_only=read_only,
            device=node.device,
            inode=node.inode,
            links=place.links,
            born=node.born,
        )


def is_as_checked(volume: Volume) -> bool:
    """Whether the notebook still finds at a volume's path what it found when it was parsed, and no link on the way.

    False for a volume of the store: a launcher sees the store as the notebook does.
    """
    if volume.stored:
        return False
    try:
        with resolve(volume.source) as place:
            return (place.node, place.links) == (Node(volume.source, volume.device, volume.inode, volume.born), ())
    except OSError:
        return False


def writable_directories(volumes: Iterable[Volume], *, all_of_them: bool) -> Iterator[Node]:
    """The host's directories that a container can write to by its volumes; `all_of_them`, those with `:ro` as well.

    Those of the store are marked when they are attached (`nbcontainer.containers.named_volumes`).
    """
    for volume in volumes:
        if volume.directory and not volume.stored and (all_of_them or not volume.read_only):
            yield Node(volume.source, volume.device, volume.inode, volume.born)


def idmapped(volumes: tuple[Volume, ...], launcher: Launcher, first: int) -> tuple[tuple[Volume, ...], list[int]]:
    """Return root's volumes as detached, idmapped mounts, in which the files of root outside are those of root inside.

    Volumes of the store stay as they are: their files have the containers' ids.
    The volumes have their `tree` numbers, counted from `first`. The caller closes the descriptors, which come second.
    Needs CAP_SYS_ADMIN over the host's mounts, and Linux 5.12 (mount_setattr(2)). Raises `ContainerError`.
    """
    trees: list[int] = []
    numbered: list[Volume] = []
    namespace = launcher.user_namespace()
    try:
        for volume in volumes:
            if volume.stored:
                numbered.append(volume)
                continue
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
