"""Volumes of the store: named ones, which outlive containers, and ones that belong to one container.

    volumes/NAME/volume.json                 the time of its creation and its labels
    volumes/NAME/lock                        locked (flock(2)) by each cell that uses it
    volumes/NAME/data                        its files, with the containers' ids
    volumes/NAME/filling                     exists while the image's files are copied into `data`
    containers/NAME/volumes/HEX/             a volume of a named container: HEX is made from its target
    tmp/SESSION.N/                           a volume of an anonymous container, which has one cell

Containers choose what lies in `data`, and in nothing else. So the notebook's side opens `data` and all below it by
descriptor, follows no link there, and copies and removes files in sandboxes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.removal import move_to_tmp
from nbcontainer.errors import UsageError, VolumeBusy, VolumeError, VolumeNotFound
from nbcontainer.images import sandboxed
from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, birth_time, openat2
from nbcontainer.linux.paths import Node
from nbcontainer.oci import timestamps
from nbcontainer.sandbox.spec import CACHE_LABEL, NamedVolume, Volume, check_volume_name
from nbcontainer.store import writable
from nbcontainer.store.errors import store_error
from nbcontainer.store.locks import keep, release
from nbcontainer.store.modes import keep_open

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.spec import Mounts
    from nbcontainer.store.layout import Store

VOLUMES = "volumes"
_RECORD, _LOCK, _DATA, _FILLING = "volume.json", "lock", "data", "filling"
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESERVED = ("/proc", "/sys", "/dev")
"""Where a container has mounts of its own."""


@dataclass(frozen=True)
class VolumeRecord:
    """A named volume: `path` is its directory (host), `created` is RFC 3339 in UTC."""

    name: str
    path: Path
    created: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON values that `volume inspect` shows, with Docker's names."""
        return {
            "Name": self.name,
            "Driver": "local",
            "Mountpoint": str(self.path / _DATA),
            "CreatedAt": self.created,
            "Labels": self.labels,
            "Options": {},
            "Scope": "local",
        }


# Named volumes


def create(workspace: Workspace, name: str, labels: Mapping[str, str] | None = None) -> VolumeRecord:
    """Return the volume of that name, made if it does not exist. Raises `UsageError`, `StoreError`."""
    store = workspace.store
    path = store.path / VOLUMES / check_volume_name(name)
    made = store.path / "tmp" / store.unique()
    try:
        with store.lock():
            if not path.exists():
                store.new_directory(made, give=False)
                _make_data(store, made)
                if CACHE_LABEL in (labels or {}):  # for every user of the containers that share it
                    os.chmod(made / _DATA, 0o1777)  # noqa: PTH101 - of a directory that no container has seen
                document = {"created": timestamps.timestamp(), "labels": dict(labels or {})}
                (made / _RECORD).write_text(json.dumps(document))
                (made / _LOCK).touch(mode=0o600)
                made.rename(path)
    except OSError as error:
        raise store_error(f"create the volume '{name}'", store.path, error) from error
    return get(workspace, name)


def get(workspace: Workspace, name: str) -> VolumeRecord:
    """Return the volume of that name. Raises `VolumeNotFound`, `VolumeError`, `UsageError`."""
    path = workspace.store.path / VOLUMES / check_volume_name(name)
    try:
        found = json.loads((path / _RECORD).read_text())
        return VolumeRecord(name, path, str(found["created"]), {str(k): str(v) for k, v in found["labels"].items()})
    except FileNotFoundError:
        if path.is_dir():
            return VolumeRecord(name, path)
        raise VolumeNotFound(f"no such volume: '{name}'", hint="list volumes with `%container volume ls`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = f"remove it with `%container volume rm {name}`"
        raise VolumeError(f"cannot read the record of volume '{name}': {error}", hint=hint) from error


def list_all(workspace: Workspace) -> list[VolumeRecord]:
    """Return all named volumes, by name; one whose record cannot be read has no more than its name."""
    folder = workspace.store.path / VOLUMES
    found = []
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        try:
            found.append(get(workspace, path.name))
        except VolumeNotFound:  # it has just been removed
            continue
        except (VolumeError, UsageError):
            found.append(VolumeRecord(path.name, path))
    return found


def in_use(volume: VolumeRecord) -> bool:
    """Return whether a cell uses the volume now, in any process."""
    try:
        release(_locked(volume.path, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def remove(workspace: Workspace, name: str) -> None:
    """Remove a volume and its files. Raises `VolumeBusy` if a cell uses it, `VolumeNotFound`, `StoreError`."""
    store = workspace.store
    path = store.path / VOLUMES / check_volume_name(name)
    if not path.is_dir():
        raise VolumeNotFound(f"no such volume: '{name}'", hint="list volumes with `%container volume ls`")
    try:
        with _exclusively(path), store.lock():
            _forget(store, path)
            moved = move_to_tmp(store, [path])
    except BlockingIOError:
        hint = "wait for it, or see `%container ps` and stop it"
        raise VolumeBusy(f"the volume '{name}' is in use by a cell", hint=hint) from None
    except OSError as error:
        raise store_error(f"remove the volume '{name}'", store.path, error) from error
    workspace.discard_later(moved)


def prune(workspace: Workspace, *, caches: bool = False) -> list[str]:
    """Remove the named volumes that no cell uses, or the caches among them only; return their names."""
    removed = []
    for volume in list_all(workspace):
        if caches and CACHE_LABEL not in volume.labels:
            continue
        with contextlib.suppress(VolumeBusy, VolumeNotFound, UsageError):
            remove(workspace, volume.name)
            removed.append(volume.name)
    return removed


# Volumes in cells


@contextlib.contextmanager
def attached(workspace: Workspace, container: Container, image: Image, mounts: Mounts) -> Iterator[Mounts]:
    """Yield `mounts` with their named volumes as volumes of the host: they are there, filled, and locked until the end.

    With a read-only root, the volumes of the image are the container's own, so that its programs can write there.
    Raises `VolumeError`, `StoreError`, `UsageError`.
    """
    wanted = (*mounts.named, *(of_image(image, mounts) if mounts.read_only and mounts.image_volumes else ()))
    with contextlib.ExitStack() as stack:
        found = [
            stack.enter_context(
                _named(workspace, container, volume) if volume.name else _own(workspace, container, volume)
            )
            for volume in wanted
        ]
        yield replace(mounts, volumes=(*mounts.volumes, *found), named=()) if found else mounts


def of_image(image: Image, mounts: Mounts) -> list[NamedVolume]:
    """Return the volumes of an image's configuration, but for those at the target of another mount."""
    paths = image.config.other.get("Volumes")
    taken = mounts.targets
    found = []
    for path in paths if isinstance(paths, dict) else ():
        plain = "/" + os.path.normpath(path).lstrip("/")
        reserved = any(plain == top or plain.startswith(f"{top}/") for top in _RESERVED)
        if path.startswith("/") and plain != "/" and "\0" not in path and not reserved and plain not in taken:
            taken |= {plain}
            found.append(NamedVolume("", plain))
    return found


@contextlib.contextmanager
def _named(workspace: Workspace, container: Container, wanted: NamedVolume) -> Iterator[Volume]:
    store = workspace.store
    path = store.path / VOLUMES / wanted.name
    with contextlib.ExitStack() as stack:
        try:
            stack.callback(release, _ready(workspace, container, path, wanted))
            volume = _volume(store, path, wanted)
        except OSError as error:
            raise store_error(f"use the volume '{wanted.name}'", path, error) from error
        yield volume


def _ready(workspace: Workspace, container: Container, path: Path, wanted: NamedVolume) -> int:
    """Return a descriptor that holds the shared lock of a volume, which is made and filled if it needs to be."""
    while True:  # until no other process removes it in between
        if not path.is_dir():
            create(workspace, wanted.name, dict(wanted.labels))
        with contextlib.suppress(FileNotFoundError):
            return _filled(workspace, container, path, wanted)


def _filled(workspace: Workspace, container: Container, path: Path, wanted: NamedVolume) -> int:
    """Return a descriptor that holds the shared lock of a volume, which has been filled if it needs to be.

    Raises `FileNotFoundError` if it was removed meanwhile.
    """
    try:
        lock = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # another cell uses it, or fills it: wait for the latter
        return _locked(path, fcntl.LOCK_SH)
    try:
        _fill(workspace, container, path, wanted)
        fcntl.flock(lock, fcntl.LOCK_SH)  # not atomic (flock(2)): the volume may be removed before it is held
        _check_same(lock, path)
    except BaseException:
        release(lock)
        raise
    return lock


@contextlib.contextmanager
def _own(workspace: Workspace, container: Container, wanted: NamedVolume) -> Iterator[Volume]:
    """Yield an anonymous volume. That of a named container stays with it; its lock is held."""
    store = workspace.store
    if container.anonymous:
        path = store.path / "tmp" / store.unique()
    else:
        name = hashlib.sha256(os.fsencode(wanted.target)).hexdigest()[:16]
        path = container.path / VOLUMES / name
    try:
        if not path.is_dir():
            keep_open(path.parent)
            _make_data(store, store.new_directory(path, give=False))
        elif not (path / _DATA).is_dir():  # this process's predecessor died in between
            _make_data(store, path)
        _fill(workspace, container, path, wanted)
        volume = _volume(store, path, wanted)
    except OSError as error:
        raise store_error(f"make the volume at '{wanted.target}'", path, error) from error
    try:
        yield volume
    finally:
        if container.anonymous:
            _forget(store, path)
            workspace.discard_later([path])


def _make_data(store: Store, path: Path) -> None:
    store.new_directory(path / _DATA)


def _fill(workspace: Workspace, container: Container, path: Path, wanted: NamedVolume) -> None:
    """Copy the image's files at the target into a volume without files, with their owners; call it with the lock held.

    What a process left that died while it copied is removed before.
    """
    store = workspace.store
    data = str((path / _DATA).relative_to(store.path))
    filling = path / _FILLING
    if filling.exists():
        workspace.on_directory(sandboxed.remove_all, data)
        filling.unlink()
    if not wanted.copy or not _is_empty(path / _DATA):
        return
    with store.incoming() as (_, tar):
        layers = container.lowers
        if not workspace.on_layers(sandboxed.pack_directory, layers, [tar], path=wanted.target):
            return
        os.lseek(tar, 0, os.SEEK_SET)
        filling.touch()
        workspace.on_directory(sandboxed.unpack, data, [tar], single_id=workspace.single_id, whiteouts=False)
        filling.unlink()


def _is_empty(data: Path) -> bool:
    """Return whether a directory has no entries; False for one that a cell gave to a user who alone may list it."""
    try:
        fd = os.open(data, os.O_RDONLY | _DIRECTORY)
    except PermissionError:
        return False
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is None
    finally:
        os.close(fd)


def _volume(store: Store, path: Path, wanted: NamedVolume) -> Volume:
    """Return the directory `data` of a volume, or the file or directory below it, as a volume of the plan."""
    fd = os.open(path / _DATA, os.O_PATH | _DIRECTORY)
    source = str((path / _DATA).relative_to(store.path))
    try:
        node = _node(str(path / _DATA), fd)
        writable.remember(store, node)
        if wanted.subpath:
            below = _below(fd, wanted)
            os.close(fd)
            fd, source = below, f"{source}/{wanted.subpath}"
            node = _node(f"{store.path}/{source}", fd)
        return Volume(
            source,
            wanted.target,
            read_only=wanted.read_only,
            directory=stat.S_ISDIR(os.fstat(fd).st_mode),
            device=node.device,
            inode=node.inode,
            born=node.born,
            noexec=wanted.noexec,
            slave=wanted.slave,
            stored=True,
        )
    finally:
        os.close(fd)


def _below(fd: int, wanted: NamedVolume) -> int:
    try:
        return openat2(fd, wanted.subpath, os.O_PATH | os.O_CLOEXEC, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        what = "it leads through a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
        problem = f"cannot use '{wanted.subpath}' in the volume '{wanted.name}': {what}"
        raise VolumeError(problem, hint="make it in a cell with the whole volume first") from None


def _node(path: str, fd: int) -> Node:
    facts = os.fstat(fd)
    return Node(path, facts.st_dev, facts.st_ino, birth_time(fd))


def _forget(store: Store, path: Path) -> None:
    """Remove the marks of a volume's directory, which is removed with all its files."""
    with contextlib.suppress(OSError):
        fd = os.open(path / _DATA, os.O_PATH | _DIRECTORY)
        try:
            writable.forget(store, _node(str(path / _DATA), fd))
        finally:
            os.close(fd)


# Locks


def _locked(path: Path, operation: int) -> int:
    """Return a descriptor that holds a volume's lock. Raises `BlockingIOError`, and `OSError` if the volume is gone."""
    fd = keep(os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        fcntl.flock(fd, operation)
        _check_same(fd, path)
    except BaseException:
        release(fd)
        raise
    return fd


def _check_same(fd: int, path: Path) -> None:
    """Raise `FileNotFoundError` if the lock is no longer that of the volume at `path`: it was removed."""
    found = (path / _LOCK).stat()
    if (found.st_dev, found.st_ino) != (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextlib.contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    fd = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        release(fd)
