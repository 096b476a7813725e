"""The built-in image `host`: this machine's own file system. Cells change a copy on write, never the machine.

In the store it is an image of one layer, which hides what containers must not see (`host_survey`). A file beside the
layer, `host.json`, lists the machine's directories that lie below it. The layer of a cell has such a file too, with the
directories in which the cell changed something.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, StoreError
from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host_survey
from nbcontainer.images.builtin.busybox import BUSYBOX_CONFIG
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.tar_writer import TarWriter
from nbcontainer.images.layers.whiteouts import OPAQUE, WHITEOUT
from nbcontainer.oci import descriptors, reference, timestamps
from nbcontainer.oci import documents as oci
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.builtin.host_survey import MachineView, Surroundings, SurveyEntry
    from nbcontainer.images.runner import Runner
    from nbcontainer.images.staging import Staging
    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store

BESIDE = "host.json"
"""The name of the file beside a layer's `diff` that lists directories of the machine."""

_KEY = "host.key"
_TYPES = {host_survey.DIRECTORY: tar.DIRECTORY, host_survey.EMPTY: tar.DIRECTORY, host_survey.LINK: tar.SYMLINK}


def host(staging: Staging, outside: Surroundings | None = None) -> Image:
    """Return the image for the machine's present state. Raises `ImageError`, `StoreError`."""
    store = staging.store
    outside = outside or host_survey.surroundings(store.path, whole=store.owner[0] != os.geteuid())
    try:
        return _current(staging, host_survey.survey(outside))
    except OSError as error:
        raise store_error("make the image of the host", store.path, error) from error


def _current(staging: Staging, view: MachineView) -> Image:
    """Return the store's image if it is that of `view`, else a new one."""
    store = staging.store
    source = os.memfd_create("host.tar", os.MFD_CLOEXEC)
    try:
        diff_id = write_layer(source, {**view.entries, f"/{_secret(store)}": host_survey.SurveyEntry(host_survey.GONE)})
        known = store.index.images().get(reference.HOST)
        if known is None or not known.layers or known.layers[0].diff_id != diff_id or known.config != _config():
            known = _added(staging, source)
        layer = store.layers.find(diff_id)
        if layer is None:
            hint = f"run `%container rmi {reference.HOST}`, then try again"
            raise ImageError("the layer of the image host is missing from the store", hint=hint)
        before = None
        with contextlib.suppress(StoreError):  # a damaged file is written again
            before = directories(store, layer)
        if before != view.directories:
            write_beside(store, layer, view.directories)
        return known
    finally:
        os.close(source)


def _secret(store: Store) -> str:
    """Return a name that is secret to this store.

    A whiteout for it makes the layer one that no other image can contain: containers on that layer see this machine.
    """
    try:
        return (store.path / _KEY).read_text()
    except FileNotFoundError:
        store.write_file(_KEY, secrets.token_hex(16).encode())
        return (store.path / _KEY).read_text()


def _added(staging: Staging, source: int) -> Image:
    store = staging.store
    os.lseek(source, 0, os.SEEK_SET)
    with store.incoming() as (path, blob), staging.unpacked([source, blob], whiteouts=True) as staged:
        os.fsync(blob)
        created = timestamps.timestamp(0)  # the same machine is the same image
        image = oci.Image(
            _config(),
            (oci.LayerRecord(staged.blob, staged.diff_id),),
            created,
            (oci.HistoryEntry(created, "nbcontainer recipe host"),),
        )
        with store.lock():
            store.blobs.adopt(path, staged.blob.digest)
            staged.adopt(store)
            return store.index.add_image(image, reference.HOST)


def _config() -> oci.ImageConfig:
    """Return the configuration: the programs of the notebook's own Python are first on PATH."""
    (path,) = BUSYBOX_CONFIG.env
    if sys.prefix != "/usr":
        path = path.replace("=", f"={sys.prefix}/bin:", 1)
    # Cells run with bash where `%%bash` would.
    bash = shutil.which("bash", path=path.partition("=")[2])
    return oci.ImageConfig(env=(path,), cmd=("sh",), shell=("bash", "-c") if bash else ())


def write_layer(fd: int, entries: dict[str, SurveyEntry]) -> str:
    """Write the layer's tar to `fd`, and return its digest. Times are 0, so that it depends on the entries alone."""
    with TarWriter(fd, Compression.NONE) as out:
        for path, entry in sorted(entries.items(), key=lambda item: item[0].split("/")):
            name = os.fsencode(path.lstrip("/"))
            head, _, leaf = name.rpartition(b"/")
            if entry.kind == host_survey.GONE:
                hidden = (head + b"/" if head else b"") + WHITEOUT + leaf
                out.entry(hidden, tar.REGULAR, 0o644, 0, 0, 0, 0)
                continue
            kind = _TYPES.get(entry.kind, tar.REGULAR)
            data = entry.data if kind == tar.REGULAR else b""
            link = entry.data if kind == tar.SYMLINK else b""
            if kind == tar.DIRECTORY:
                name += b"/"
            out.entry(name, kind, entry.mode, entry.uid, entry.gid, len(data), 0, link)
            out.data(data)
            out.pad(len(data))
            if entry.kind == host_survey.EMPTY:
                out.entry(name + OPAQUE, tar.REGULAR, 0o644, 0, 0, 0, 0)
        return out.finish().diff_id


def directories(store: Store, layer: str) -> tuple[str, ...]:
    """Return the machine's directories (absolute) below a layer, or changed in it; none for layers of other images."""
    try:
        # Each container asks this, and a joined `Path` costs as much as opening the file.
        with open(f"{store.path}/layers/{layer}/{BESIDE}", "rb", buffering=0) as file:  # noqa: PTH123
            text = file.read()
    except FileNotFoundError:
        return ()
    return _named(text, layer)


def _named(text: bytes, layer: str) -> tuple[str, ...]:
    """Return the directories that the file beside a layer names. Raises `StoreError` for one that is damaged."""
    try:
        found: Any = json.loads(text)["directories"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(path, str) and path.startswith("/") for path in found):
        hint = "remove the image host, and the containers on it: the next cell makes a new one"
        raise StoreError(f"the file {BESIDE} of layer {layer} is damaged", hint=hint)
    return tuple(found)


def write_beside(store: Store, layer: str, found: Sequence[str]) -> None:
    """Record which of the machine's directories are below a layer, or changed in it. Raises `StoreError`."""
    store.write_file(f"layers/{layer}/{BESIDE}", beside(found))


def beside(found: Sequence[str]) -> bytes:
    """Return the content of the file beside a layer."""
    return descriptors.canonical({"directories": list(found)})


def merge_parts(store: Store, runner: Runner, place: str, parts: Sequence[tuple[str, str]], hiding: str) -> None:
    """Merge the upper directories of the machine's directories into the tree `diff` beside them in `place`.

    `place` is relative to the store or absolute. `parts` are as for `nbcontainer.images.layers.merge.merge`. Layer
    `hiding` has the modes of the directories above them. Raises `OSError`.
    """
    modes = {}
    for _, path in parts:
        above = path
        while above := above.rpartition("/")[0]:
            with contextlib.suppress(OSError):
                found = (store.path / "layers" / hiding / "diff" / above.lstrip("/")).lstat()
                modes[above] = stat.S_IMODE(found.st_mode)
    runner.on_directory(sandboxed.merge_parts, place, parts=list(parts), modes=modes)


def is_of_this_machine(store: Store, image: Image) -> bool:
    """Whether an image has this machine below it, so that it is incomplete elsewhere."""
    layer = store.layers.find(image.layers[0].diff_id) if image.layers else None
    return layer is not None and bool(directories(store, layer))
