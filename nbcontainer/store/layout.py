"""The store: an OCI image layout (image-layout.md) with extracted layers and containers beside the blobs.

    oci-layout, index.json, blobs/sha256/…    what skopeo and others read
    layers/ID/diff                            a layer's files: a lower of overlay mounts, never written again
    layers/sha256/HEX -> ../ID                the layer whose content that is
    containers/NAME/                          see `nbcontainer.containers`
    sessions/ID                               locked by the process that uses the store (`nbcontainer.store.sessions`)
    partial/HEX                               a blob on its way in (`nbcontainer.store.partial_blobs`)
    tmp/                                      what is being made, or being removed
    host.key                                  see `nbcontainer.images.builtin.host`
    unsynced/HEX                              a blob that may not be on disk yet (`nbcontainer.store.durability`)
    writable/                                 marks of directories (`nbcontainer.store.writable`)
    stage/ host/                              empty; where containers assemble their mounts, and find the machine's

Guarantees: a blob is there whole or not at all; index.json is the old one or the new one; names are added and taken
away under an exclusive lock, and used under a shared one. Everything in `tmp`, and every layer that nothing refers
to, belongs to a session, named at the beginning of its name: when that one is dead, it is rubbish.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import secrets
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nbcontainer.errors import ImageError, ImageNotFound, StoreError
from nbcontainer.oci import documents as oci
from nbcontainer.oci import names, reference
from nbcontainer.store import catalog
from nbcontainer.store.atomic_files import replace_file, sync_directory
from nbcontainer.store.errors import store_error
from nbcontainer.store.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.store.catalog import Catalog

    Answer = TypeVar("Answer")

MEMORY = Path("/dev/shm")
"""A tmpfs that every process may write to (shm_overview(7)), in Docker too."""


_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_DIRECTORIES = (
    "blobs/sha256",
    "layers/sha256",
    "partial",
    "containers",
    "sessions",
    "tmp",
    "stage",
    "host",
    "unsynced",
    "writable",
)
_ENTRIES = {name.partition("/")[0] for name in _DIRECTORIES} | {"index.json", "lock", "lost+found"}


def default_path() -> Path:
    """Where the store is: NBCONTAINER_HOME, else /var/lib/nbcontainer for root, else the XDG data directory's."""
    if chosen := os.environ.get("NBCONTAINER_HOME"):
        return reference.host_path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/nbcontainer")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return reference.host_path(data).absolute() / "nbcontainer"


class Store:
    """One store, opened by one process. `owner` is the host's (uid, gid) of the containers' root.

    The top is closed to everybody but that root: mode 0700, or 0710 with its group where it is not this user, since
    a setuid file in a layer must not be there for others to run (CVE-2021-41091). So is `memory`, a directory in
    memory for uppers, where the store's file system cannot hold one.
    """

    def __init__(self, path: Path, owner: tuple[int, int]) -> None:
        """Opens, or makes, the store at `path` (host). Raises `StoreError`."""
        self.path = path
        self.owner = owner
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        self.in_memory = False
        self.memory = MEMORY / f"nbcontainer-{os.geteuid()}-{name}"
        self._counter = itertools.count(1)
        self._layers, self._index = f"{path}/layers", f"{path}/index.json"
        self._mutex = threading.RLock()
        self._held = threading.local()
        self._cached: tuple[tuple[int, ...], Catalog] | None = None
        self._recalled: tuple[dict[str, oci.Image] | None, dict[str, Any]] = (None, {})
        try:
            self._make()
            self.sessions = Sessions(path / "sessions")
            self.session = self.sessions.name
        except OSError as error:
            raise store_error("open the store", path, error) from error

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_that_nobody_lives_here()
        self._close_to_others(self.path)
        for name in _DIRECTORIES:
            (self.path / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        (self.path / "lock").touch(mode=0o600)
        with self.lock():
            if not (self.path / "oci-layout").exists():
                self.write_file("oci-layout", json.dumps(_LAYOUT).encode())
            if not (self.path / "index.json").exists():
                self._write_index([])
        try:
            found = json.loads((self.path / "oci-layout").read_text())
        except (ValueError, RecursionError):
            found = None
        if found != _LAYOUT:
            hint = "set NBCONTAINER_HOME to a new directory"
            raise StoreError(f"{self.path} is an image layout of another version, or damaged", hint=hint)

    def _check_that_nobody_lives_here(self) -> None:
        """Raises `StoreError` for a directory with something else in it: it would be closed to others, and cleared."""
        found = {entry.name for entry in self.path.iterdir()}
        if "oci-layout" not in found and found - _ENTRIES:
            hint = "set NBCONTAINER_HOME to a new directory"
            raise StoreError(f"{self.path} is no store and not empty", hint=hint)

    def _close_to_others(self, path: Path) -> None:
        if self.owner[0] == os.geteuid():
            path.chmod(0o700)
        else:
            os.chown(path, os.geteuid(), self.owner[1])
            path.chmod(0o710)

    def close(self) -> None:
        """Ends this process's session. Idempotent."""
        self.sessions.close()

    def unique(self) -> str:
        """A name that nothing in the store has, which tells this session."""
        return f"{self.session}.{next(self._counter):x}"

    # Locks

    @contextlib.contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Holds the store's lock (flock(2)): shared to use names, exclusive to add or take away any.

        Who holds it exclusively may take it again; who holds it shared must not ask for more.
        """
        if getattr(self._held, "exclusive", False):
            yield
            return
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            self._held.exclusive = not shared
            yield
        finally:
            self._held.exclusive = False
            os.close(fd)

    # Blobs

    def blob_path(self, digest: str) -> Path:
        """Host path of a blob, there or not."""
        return self.path / "blobs" / digest.replace(":", "/", 1)

    def read_blob(self, digest: str, limit: int = 8 << 20) -> bytes:
        """A small blob (a document), checked against its digest. Raises `ImageError`."""
        try:
            with self.blob_path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise ImageError(f"the store has lost {digest}", hint="bring the image in again") from None
        if len(data) > limit or oci.digest_of(data) != digest:
            raise ImageError(f"{digest} in the store is damaged", hint="remove the image and bring it in again")
        return data

    def document(self, blob: oci.Descriptor) -> bytes:
        """See `nbcontainer.oci.selection.Documents`."""
        return self.read_blob(blob.digest)

    def write_blob(self, data: bytes) -> str:
        """Adds a small blob; its digest."""
        digest = oci.digest_of(data)
        if not self.blob_path(digest).exists():
            self.write_file(f"blobs/{digest.replace(':', '/', 1)}", data)
        return digest

    @contextlib.contextmanager
    def incoming(self) -> Iterator[tuple[Path, int]]:
        """A new file in `tmp` and a descriptor to write it by; it is gone at the end unless it was moved."""
        path = self.path / "tmp" / self.unique()
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            yield path, fd
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)

    def adopt_blob(self, path: Path, digest: str) -> None:
        """Moves a complete file of `tmp` to its place among the blobs: a synced one, or one with a mark (`durable`)."""
        path.replace(self.blob_path(digest))
        sync_directory(self.path / "blobs" / "sha256")

    # Layers

    def new_directory(self, path: Path, *, give: bool = True) -> Path:
        """Makes a directory; with `give` it belongs to the containers' root."""
        path.mkdir(0o755)
        if give and self.owner != (os.geteuid(), os.getegid()):
            try:
                os.chown(path, *self.owner)
            except OSError:
                path.rmdir()
                raise
        return path

    def use_memory(self) -> None:
        """Has uppers made in `memory` from now on, which is made if it is not there. Raises `OSError`.

        What is kept of them is there until the machine restarts.
        """
        with contextlib.suppress(FileExistsError):
            self.memory.mkdir(0o700)
        found = self.memory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to somebody else", str(self.memory))
        self._close_to_others(self.memory)
        self.in_memory = True

    def layer(self, diff_id: str) -> str | None:
        """The id of the extracted layer with that content, or None."""
        try:
            # Strings and no Path: it is asked of every layer, on the way of every cell.
            found = os.path.basename(os.readlink(f"{self._layers}/{diff_id.replace(':', '/', 1)}"))  # noqa: PTH115, PTH119
            os.stat(f"{self._layers}/{found}/diff")  # noqa: PTH116
        except FileNotFoundError:
            return None
        return found

    def name_layer(self, layer: str, diff_id: str) -> str:
        """Says that `layer` has that content. Returns the layer that is known by it: an older one stays.

        Call with the store's exclusive lock held.
        """
        if known := self.layer(diff_id):
            return known
        link = self.path / "layers" / diff_id.replace(":", "/", 1)
        link.unlink(missing_ok=True)  # it led to a layer that is lost
        link.symlink_to(f"../{layer}")
        return layer

    # Images

    def images(self) -> dict[str, oci.Image]:
        """Every image by name. Read again only when index.json is another file."""
        return self.catalog().images

    def catalog(self) -> Catalog:
        """What index.json lists. Read again only when it is another file."""
        try:
            found = os.stat(self._index)  # noqa: PTH116 - as in `layer`
        except FileNotFoundError:
            raise StoreError(f"{self._index} is missing", hint="the store was removed: restart the notebook") from None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        with self._mutex:
            if self._cached is None or self._cached[0] != stamp:
                self._cached = (stamp, catalog.read(self, self._entries(), self._cached[1] if self._cached else None))
            return self._cached[1]

    def recall(self, question: str, find: Callable[[], Answer]) -> Answer:
        """What `find` finds; asked the same again, what it found before, as long as index.json is the same file."""
        images = self.images()
        with self._mutex:
            if self._recalled[0] is not images:
                self._recalled = (images, {})
            known = self._recalled[1]
        if question not in known:
            known[question] = find()
        return cast("Answer", known[question])

    def indexes(self, index: str, manifest: str) -> tuple[str, ...]:
        """The digests of `index` and of the store's indexes inside it, if they list the manifest; else none."""
        return names.indexes(self.read_blob, index, manifest)

    def damaged(self) -> tuple[str, ...]:
        """The names of the images that cannot be read: nobody knows what belongs to them."""
        return self.catalog().damaged

    def read_image(self, digest: str, media_type: str = "") -> oci.Image:
        """The image with that manifest digest. Raises `ImageError`."""
        manifest = self.read_blob(digest)
        config, _ = oci.read_manifest(manifest, media_type)
        return oci.read_image(manifest, self.read_blob(config.digest), media_type)

    def image(self, name: str) -> oci.Image:
        """The image of that (familiar) name, or with that digest, or the only one whose digest begins so.

        A digest is the manifest's, or that of the index it was chosen from; twelve digits are the least.
        Raises `ImageNotFound`, and `ImageError` for one that cannot be read.
        """
        images = self.images()
        if name in images:
            return images[name]
        wanted = name.rpartition("@")[2]
        for image in images.values():
            if reference.is_digest(wanted) and wanted in (image.digest, image.index):
                return image
        if reference.is_short_digest(name):
            found = {image.digest: image for image in images.values() if image.digest[7:].startswith(name)}
            if len(found) == 1:
                return next(iter(found.values()))
        if name in self.damaged():
            hint = "see `%container verify`, or remove the image and bring it in again"
            raise ImageError(f"image {name!r} in the store is damaged", hint=hint)
        hint = "see `%container images` for those there are, or bring one in with `%container pull` or `import`"
        raise ImageNotFound(f"no image {name!r} in the store", hint=hint)

    def add_image(self, image: oci.Image, name: str) -> oci.Image:
        """Writes a new image's documents and gives it the name, taken from whatever had it. Its blobs are there."""
        config = image.config_document()
        manifest = image.manifest_document(oci.Descriptor(oci.CONFIG, oci.digest_of(config), len(config)))
        return self.put_image(
            oci.Descriptor(oci.MANIFEST, oci.digest_of(manifest), len(manifest)), [config, manifest], name
        )

    def put_image(
        self, manifest: oci.Descriptor, documents: Iterable[bytes], name: str, *, index: str = ""
    ) -> oci.Image:
        """Adds an image by its documents, byte for byte, under a name, taken from whatever had it.

        Its layers' blobs are there. `index` is the digest of the index that it was chosen from, among the documents.
        Raises `ImageError` as `tag` does.
        """
        names.check((name,), manifest.digest, index)
        with self.lock():
            for document in documents:
                self.write_blob(document)
            image = replace(self.read_image(manifest.digest, manifest.media_type), index=index)
            return self.tag(image, name)

    def tag(self, image: oci.Image, name: str) -> oci.Image:
        """Gives an image of the store one more name, taken from whatever had it.

        Every name enters the store here. Raises `ImageError` for one that is false about the image.
        """
        with self.lock():
            if image.index and not self.indexes(image.index, image.digest):
                raise ImageError(f"the index {image.index} does not list {image.digest}", hint="pull the image again")
            names.check((name,), image.digest, image.index)
            blob = oci.Descriptor(image.media_type, image.digest, len(self.read_blob(image.digest)))
            others = [entry for entry in self._entries() if names.stated(entry) != name]
            self._write_index([*others, names.entry_of(image, blob, name)])
        return image.named(name)

    def drop_image(self, name: str) -> None:
        """Takes a name away. What nothing uses any more is left to the sweep. Raises `ImageNotFound`."""
        with self.lock():
            listed = catalog.read(self, self._entries()).listed
            left = [one.entry for one in listed if one.name != name]
            if len(left) == len(listed):
                raise ImageNotFound(f"no image {name!r} in the store", hint="see `%container images`")
            self._write_index(left)

    def _entries(self) -> list[dict[str, Any]]:
        try:
            entries = json.loads((self.path / "index.json").read_text())["manifests"]
            if not all(isinstance(entry, dict) for entry in entries):
                raise TypeError("an entry is no object")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{self.path / 'index.json'} cannot be read: {error}", hint="restore or remove it"
            ) from error
        return list(entries)

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        document = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}
        self.write_file("index.json", oci.canonical(document))

    def write_file(self, name: str, data: bytes) -> None:
        """Replaces a file: the old one or the new one is there, whatever happens (temp, fsync, rename)."""
        temporary = self.path / "tmp" / f"{getattr(self, 'session', 'new')}.{secrets.token_hex(4)}"
        try:
            replace_file(self.path / name, temporary, data)
        except OSError as error:
            raise store_error(f"write {name} in the store", self.path, error) from error
        sync_directory((self.path / name).parent)
