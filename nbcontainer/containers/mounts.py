"""Volumes: the notebook's own directory as one, and idmapped mounts for root's."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import DirectoryRefused, UsageError
from nbcontainer.linux.paths import Node, resolve
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.spec import MOUNTS_LIMIT, Volume
from nbcontainer.sandbox.userns.idmapped_mounts import cannot_open, idmapped_tree
from nbcontainer.sandbox.userns.volume_trees import PARTS_LIMIT, volume_trees
from nbcontainer.store import shared_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.userns.volume_trees import VolumeTrees
    from nbcontainer.store.layout import Store

UNMAPPED = (
    "{} keep the host's owners, who are not users of the container, since {}: it has the rights of other users there; "
    "to write, use a named volume, or allow all users to write"
)
"""What is different in a volume whose ids cannot be mapped."""

NO_IDS = "its file system has no idmapped mounts: mount it with :ro, or copy it to another file system"
"""The hint for a directory of root's that cannot be below a copy-on-write volume."""

NOT_ADMIN = "root lacks the capability SYS_ADMIN here"
"""Why no ids can be mapped for any volume."""

_SHOWN = 3  # paths in one line


def notebook_directory(store: Store, directory: str | Path = ".", *, read_only: bool = False) -> Volume:
    """Return the volume that shows the notebook's `directory` (host) at the same path in a container.

    The directory that was judged is the one that is mounted: the volume has its device and inode. Raises
    `DirectoryRefused`, with what to do as its hint.
    """
    try:
        place = resolve(directory)
    except (OSError, UsageError) as error:
        detail = error.strerror if isinstance(error, OSError) else error.message
        reason = f"the notebook's directory {directory} cannot be used: {detail}"
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
        if volume.directory and not volume.stored and volume.cow is None and (all_of_them or not volume.read_only):
            yield Node(volume.source, volume.device, volume.inode, volume.born)


@dataclass
class MappedVolumes:
    """Root's volumes as they travel to a container: `trees` are descriptors of their mounts, which the caller closes.

    `notes` are lines for the user about files that have no owner in the container.
    """

    volumes: list[Volume] = field(default_factory=list)
    trees: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def idmapped(volumes: tuple[Volume, ...], launcher: Launcher, first: int) -> MappedVolumes:
    """Return root's volumes as detached, idmapped mounts, in which the files of root outside are those of root inside.

    Volumes of the store stay as they are: their files have the containers' ids. A mount that can have no ids keeps the
    host's, as a volume of its own if it is inside another; without CAP_SYS_ADMIN, all volumes do.
    The volumes have their `tree` numbers, counted from `first`. Needs Linux 5.12 (mount_setattr(2)). Raises
    `ContainerError`.
    """
    mapped = MappedVolumes()
    namespace = launcher.user_namespace()
    try:
        for volume in volumes:
            if volume.stored:
                mapped.volumes.append(volume)
            elif volume.cow is not None:
                _add_below(mapped, volume, namespace, first)
            else:
                spare = MOUNTS_LIMIT - len(volumes) - len(mapped.trees)
                _add_mapped(mapped, volume, launcher, namespace, first, limit=max(1, min(PARTS_LIMIT, spare)))
    except BaseException:
        protocol.close(mapped.trees)
        raise
    finally:
        os.close(namespace)
    return mapped


def _add_mapped(
    mapped: MappedVolumes, volume: Volume, launcher: Launcher, namespace: int, first: int, *, limit: int
) -> None:
    identity = (volume.device, volume.inode)
    try:
        found = volume_trees(volume.source, identity, namespace, limit)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise cannot_open("the volume", volume.source, error) from error
        _add_plain(mapped, volume, launcher, first)
        return
    for part in found.parts:
        target = volume.target.rstrip("/") + part.source.removeprefix(volume.source.rstrip("/"))
        tree = first + len(mapped.trees)
        mapped.volumes.append(replace(volume, source=part.source, target=target, directory=part.directory, tree=tree))
        mapped.trees.append(part.tree)
    mapped.notes += _notes(volume, found)


def _add_below(mapped: MappedVolumes, volume: Volume, namespace: int, first: int) -> None:
    """Add the directory below a copy-on-write volume, without the file systems that are mounted in it."""
    identity = (volume.device, volume.inode)
    tree = idmapped_tree(volume.source, namespace, "volume", recursive=False, hint=NO_IDS, identity=identity)
    mapped.volumes.append(replace(volume, tree=first + len(mapped.trees)))
    mapped.trees.append(tree)


def _add_plain(mapped: MappedVolumes, volume: Volume, launcher: Launcher, first: int) -> None:
    """Add a volume with the host's ids, where the notebook may not mount."""
    try:
        tree = launcher.plain_tree(volume.source, (volume.device, volume.inode))
    except OSError as error:
        raise cannot_open("the volume", volume.source, error) from error
    mapped.volumes.append(replace(volume, tree=first + len(mapped.trees)))
    mapped.trees.append(tree)
    if not stat.S_ISCHR(os.fstat(tree).st_mode):
        mapped.notes.append(UNMAPPED.format("files in volumes", NOT_ADMIN))


def _notes(volume: Volume, found: VolumeTrees) -> Iterator[str]:
    """Yield what the user must expect of a volume that is not whole, or not mapped."""
    unmapped = [part.source for part in found.parts if not part.mapped and not part.device]
    if unmapped:
        reason = "their file system has no idmapped mounts"
        yield UNMAPPED.format(f"files in {_some(unmapped)}", reason)
    if found.left_out:
        yield f"volume {volume.source}: these mounts are left out: {_some(found.left_out)}"


def _some(paths: list[str]) -> str:
    """Return the first paths as text, and how many there are besides."""
    shown, more = paths[:_SHOWN], len(paths) - _SHOWN
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more > 0 else "")
