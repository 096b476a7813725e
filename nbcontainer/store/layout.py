"""The store on disk: an OCI image layout (image-layout.md) with extracted layers and containers beside the blobs.

    oci-layout, index.json, blobs/sha256/…    what skopeo and other tools read
    layers/ID/diff                            the files of a layer: a lower of overlay mounts, never written again
    layers/sha256/HEX -> ../ID                the layer with that content
    containers/NAME/                          see `nbcontainer.containers`
    journals/ID, flats/ID                     the states of a container (`nbcontainer.containers.history`)
    clean                                     nothing to remove (`nbcontainer.store.sessions.CleanMark`)
    ended-jobs                                jobs that ended with notebooks (`nbcontainer.store.ended_jobs`)
    sessions/ID                               locked by a process that uses the store (`nbcontainer.store.sessions`)
    partial/HEX                               a blob that is being transferred (`nbcontainer.store.partial_blobs`)
    tmp/                                      files and trees that are being made or removed
    host.key                                  see `nbcontainer.images.builtin.host`
    unsynced/HEX                              a blob that may not be on disk yet (`nbcontainer.store.durability`)
    cache/KEY, cache.key                      results of cached cells (`nbcontainer.store.cache_entries`)
    volumes/NAME/                             see `nbcontainer.containers.named_volumes`
    writable/                                 marks of directories (`nbcontainer.store.writable`)
    below/                                    the lowest lower of containers: files that an image may lack
    reserve/                                  space for removals on a full disk (`nbcontainer.store.reserve`)
    attributes                                an empty file with an extended attribute: the store has them
    stage/ host/                              empty; containers assemble their mounts there, and see host directories

Guarantees: a blob is there whole or not at all (`nbcontainer.store.blobs`). index.json is the old file or the new one
(`nbcontainer.store.index`). Names are added and removed under an exclusive lock, and used under a shared one
(`nbcontainer.store.locks`). Everything in `tmp`, and every layer that nothing refers to, belongs to a session, whose
name is the first part of its own name: if the process of that session has ended, a cleanup removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nbcontainer.errors import StoreError, UsageError
from nbcontainer.linux import files
from nbcontainer.linux.paths import absolute
from nbcontainer.oci import reference
from nbcontainer.store import reserve
from nbcontainer.store.atomic_files import replace_file, sync_directory
from nbcontainer.store.blobs import Blobs
from nbcontainer.store.errors import store_error
from nbcontainer.store.index import Index
from nbcontainer.store.layers import Layers
from nbcontainer.store.locks import Presence, StoreLock
from nbcontainer.store.modes import keep_open, make_open
from nbcontainer.store.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Answer = TypeVar("Answer")
    Place = TypeVar("Place", str, Path)

MEMORY = Path("/dev/shm")
"""A tmpfs that every process can write to (shm_overview(7)), in Docker containers too."""

_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_ATTRIBUTES, _ATTRIBUTE = "attributes", "user.nbcontainer"
"""A file, and an attribute of it: a copy of the store without extended attributes has one and not the other."""

_NEW_STORE = "set NBCONTAINER_HOME to a new directory"
_DIRECTORIES = (
    "blobs/sha256",
    "layers/sha256",
    "partial",
    "containers",
    "journals",
    "flats",
    "sessions",
    "tmp",
    "stage",
    "host",
    "unsynced",
    "writable",
    "volumes",
    "cache",
    "below",
    reserve.RESERVE,
)
_ENTRIES = {name.partition("/")[0] for name in _DIRECTORIES} | {
    "index.json",
    "lock",
    "sharing",
    "lost+found",
    _ATTRIBUTES,
}


def default_path() -> Path:
    """Return where the store is: NBCONTAINER_HOME, else /var/lib/nbcontainer for root, else in XDG_DATA_HOME.

    Raises `UsageError` as `nbcontainer.linux.paths.absolute` does.
    """
    if chosen := os.environ.get("NBCONTAINER_HOME"):
        return absolute(reference.host_path(chosen))
    if os.geteuid() == 0:
        return Path("/var/lib/nbcontainer")
    if data := os.environ.get("XDG_DATA_HOME"):
        return absolute(reference.host_path(data)) / "nbcontainer"
    try:
        return absolute(reference.host_path("~/.local/share")) / "nbcontainer"
    except UsageError as error:
        problem = f"no home directory is known for user {os.geteuid()}: HOME is not set, and /etc/passwd has no entry"
        raise UsageError(problem, hint="set HOME, or NBCONTAINER_HOME to a directory of your own") from error


class Store:
    """One store, opened by one process. `owner` is the host's (uid, gid) of the containers' root.

    The parts are `index` (images by name), `blobs`, `layers` and `sessions`. `session` is the name of this process's
    session. Only the containers' root can enter the top directory: its mode is 0700, or 0710 with that root's group if
    this process has another user. Otherwise other users could run a setuid file of a layer (CVE-2021-41091). The same
    holds for `memory`, a directory in memory for upper directories, which is used (`in_memory`) if the store's file
    system cannot hold them.
    """

    def __init__(self, path: Path, owner: tuple[int, int]) -> None:
        """Open the store at `path` (host), or create it. Raises `StoreError`."""
        self.path = path
        self.owner = owner
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        self.in_memory = False
        self.memory = MEMORY / f"nbcontainer-{os.geteuid()}-{name}"
        self._counter = itertools.count(1)
        self._lock = StoreLock(path / "lock")
        self.sharing = Presence(path / "sharing")
        """The containers that run now and could hand a descriptor to another one."""
        self.blobs = Blobs(path / "blobs", self.write_file)
        self.layers = Layers(path / "layers")
        self.index = Index(path / "index.json", self.blobs, self._lock, self.write_file)
        try:
            self.sessions = self.freeing(self._open)
            self.session = self.sessions.name
        except OSError as error:
            raise store_error("open the store", path, error) from error

    def _open(self) -> Sessions:
        if self._is_read_only():
            self._check_layout()
            self._check_attributes()
            return Sessions(self.path / "sessions", read_only=True)
        self._make()
        sessions = Sessions(self.path / "sessions")
        reserve.fill(self.path / reserve.RESERVE)
        return sessions

    def _is_read_only(self) -> bool:
        """Whether there is a store on a file system that is mounted read-only: it can still be read."""
        try:
            return bool(os.statvfs(self.path / "oci-layout").f_flag & os.ST_RDONLY)
        except FileNotFoundError:
            return False

    def freeing(self, do: Callable[[], Answer]) -> Answer:
        """Return what `do` returns; if the disk is full, release the reserve and do it again. Raises `OSError`."""
        try:
            return do()
        except OSError as error:
            if error.errno not in reserve.FULL or not reserve.release(self.path / reserve.RESERVE):
                raise
            return do()

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_is_store_or_empty()
        self._close_to_others(self.path)
        for name in _DIRECTORIES:
            for part in reversed([Path(name), *Path(name).parents[:-1]]):
                keep_open(self.path / part)
        self._spread_write_layers()
        (self.path / "lock").touch(mode=0o600)
        with self.lock():
            self._make_below()
            self._check_attributes()
            self._mark_attributes()
            if not (self.path / "oci-layout").exists():
                self.write_file("oci-layout", json.dumps(_LAYOUT).encode())
            self.index.create()
        self._check_layout()

    def _spread_write_layers(self) -> None:
        """Keep the time of a cell independent of how many there were before, on ext4.

        A cell makes and removes seven inodes in `tmp`. ext4 does not use inodes that were freed lately (minutes), and
        looks at each of them in the block group first (recently_deleted() in fs/ext4/ialloc.c).
        """
        with contextlib.suppress(OSError):  # other file systems do not have that cost
            files.spread(str(self.path / "tmp"))

    def _check_layout(self) -> None:
        try:
            found = json.loads((self.path / "oci-layout").read_text())
        except (ValueError, RecursionError):
            found = None
        if found != _LAYOUT:
            raise StoreError(f"{self.path} is an image layout of another version, or damaged", hint=_NEW_STORE)

    def _check_attributes(self) -> None:
        """Raise `StoreError` for a copy of a store that lacks extended attributes.

        They note what a cell has removed from a directory that it made again (overlayfs.rst): it would be there again.
        """
        try:
            os.getxattr(self.path / _ATTRIBUTES, _ATTRIBUTE)
        except FileNotFoundError:
            return  # it is new, of an earlier version, or on a file system without attributes
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
            problem = f"{self.path} is a copy of a store without extended attributes: files that cells removed are back"
            raise StoreError(problem, hint="copy it again with `cp -a` or `rsync -aX`; or " + _NEW_STORE) from None

    def _mark_attributes(self) -> None:
        """Make what `_check_attributes` looks at, where the file system keeps attributes (xattr(7))."""
        if (self.path / _ATTRIBUTES).exists():
            return
        made = self.path / "tmp" / f"new.{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):  # a store without the mark is used as well
            made.touch(mode=0o600)
            try:
                os.setxattr(made, _ATTRIBUTE, b"1")
                made.rename(self.path / _ATTRIBUTES)
            finally:
                made.unlink(missing_ok=True)

    def _make_below(self) -> None:
        """Make the files that containers find where their image has none, in `below`: as Docker adds them to images.

        They are below every layer, so that they are in none, and in no change of a cell.
        """
        folder = self.path / "below" / "etc"
        if not folder.exists():
            self.new_directory(folder)
        for name in ("hosts", "resolv.conf"):
            if not (folder / name).exists():
                (folder / name).touch()
                (folder / name).chmod(0o644)
                os.chown(folder / name, *self.owner)
        if not (folder / "mtab").is_symlink():
            (folder / "mtab").symlink_to("/proc/self/mounts")
            os.lchown(folder / "mtab", *self.owner)

    def _check_is_store_or_empty(self) -> None:
        """Raise `StoreError` for a directory with other files: the store would close it to others, and clear it."""
        found = {entry.name for entry in self.path.iterdir()}
        if "oci-layout" not in found and found - _ENTRIES:
            raise StoreError(f"{self.path} is not empty and is not an nbcontainer store", hint=_NEW_STORE)

    def _close_to_others(self, path: Path) -> None:
        if self.owner[0] == os.geteuid():
            path.chmod(0o700)
        else:
            os.chown(path, os.geteuid(), self.owner[1])
            path.chmod(0o710)

    def close(self) -> None:
        """End this process's session. Idempotent."""
        self.sessions.close()
        self.sharing.close()

    def lock(self, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Hold the store's lock: shared to use names, exclusive to add or remove them. See `StoreLock.hold`."""
        return self._lock.hold(shared=shared)

    def refill(self) -> None:
        """Set the reserve aside again, as far as there is space."""
        reserve.fill(self.path / reserve.RESERVE)

    def unique(self) -> str:
        """Return a name that nothing in the store has, and that starts with this session's name."""
        return f"{self.session}.{next(self._counter):x}"

    def write_file(self, name: str, data: bytes, *, freeing: bool = False) -> None:
        """Replace a file by its path in the store, and sync it: readers see the old file or the new one.

        With `freeing`, which is for what frees space later, the reserve is used if the disk is full. Raises
        `StoreError`.
        """
        temporary = self.path / "tmp" / f"{getattr(self, 'session', 'new')}.{secrets.token_hex(4)}"
        target = self.path / name
        try:
            if freeing:
                self.freeing(lambda: replace_file(target, temporary, data))
            else:
                replace_file(target, temporary, data)
        except OSError as error:
            raise store_error(f"write {name} in the store", self.path, error) from error
        sync_directory(target.parent)

    @contextlib.contextmanager
    def incoming(self) -> Iterator[tuple[Path, int]]:
        """Yield a new file in `tmp` and a descriptor that writes it; at the end it is removed unless it was moved.

        Raises `OSError`.
        """
        path = self.path / "tmp" / self.unique()
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            yield path, fd
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)

    def new_directory(self, path: Place, *, give: bool = True) -> Place:
        """Make the directory `path` and return it; with `give` it belongs to the containers' root. Raises `OSError`."""
        make_open(path)
        if give and self.owner != (os.geteuid(), os.getegid()):
            try:
                os.chown(path, *self.owner)
            except OSError:
                os.rmdir(path)  # noqa: PTH106
                raise
        return path

    def use_memory(self) -> None:
        """Make upper directories in `memory` from now on; create it if it is missing. Raises `OSError`.

        Layers that are kept there exist until the machine restarts.
        """
        with contextlib.suppress(FileExistsError):
            self.memory.mkdir(0o700)
        found = self.memory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", str(self.memory))
        self._close_to_others(self.memory)
        self.in_memory = True
