"""The image `host`: this machine itself, of which a cell may change all, and the machine nothing.

In the store it is an image like any other, of one layer that hides what is not to be seen (`machine`). What makes it
this machine's is a file beside the layer, `host.json`, with the directories that lie below it. A cell's own layer has
one too, with the directories that it changed something in.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError
from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host_survey
from nbcontainer.images.builtin.busybox import BUSYBOX_CONFIG
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.extractor import OPAQUE, WHITEOUT
from nbcontainer.images.layers.tar_writer import TarWriter
from nbcontainer.images.staging import staged
from nbcontainer.oci import documents as oci
from nbcontainer.oci import reference, timestamps
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.builtin.host_survey import MachineView, Surroundings, SurveyEntry
    from nbcontainer.images.runner import Runner
    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store

BESIDE = "host.json"
"""The name of the file beside a layer's `diff`."""

_KEY = "host.key"
_TYPES = {host_survey.DIRECTORY: tar.DIRECTORY, host_survey.EMPTY: tar.DIRECTORY, host_survey.LINK: tar.SYMLINK}


def host(store: Store, runner: Runner, outside: Surroundings | None = None) -> Image:
    """The image, as the machine is now. Raises `ImageError`, `StoreError`."""
    outside = outside or host_survey.surroundings(store.path, whole=store.owner[0] != os.geteuid())
    try:
        return _kept(store, runner, host_survey.survey(outside))
    except OSError as error:
        raise store_error("make the image of this machine", store.path, error) from error


def _kept(store: Store, runner: Runner, view: MachineView) -> Image:
    source = os.memfd_create("host.tar", os.MFD_CLOEXEC)
    try:
        diff_id = write_layer(source, {**view.entries, f"/{_secret(store)}": host_survey.SurveyEntry(host_survey.GONE)})
        known = store.images().get(reference.HOST)
        if known is None or known.layers[0].diff_id != diff_id or known.config != _config():
            known = _added(store, runner, source)
        layer = store.layer(diff_id)
        if layer is None:
            raise ImageError(
                "the layer of this machine is lost", hint=f"`%container rmi {reference.HOST}` and try again"
            )
        if directories(store, layer) != view.directories:
            write_beside(store, layer, view.directories)
        return known
    finally:
        os.close(source)


def _secret(store: Store) -> str:
    """A name that only this store knows.

    A whiteout for it makes the layer one that no image from elsewhere can have: with it goes the sight of this machine.
    """
    try:
        return (store.path / _KEY).read_text()
    except FileNotFoundError:
        store.write_file(_KEY, secrets.token_hex(16).encode())
        return (store.path / _KEY).read_text()


def _added(store: Store, runner: Runner, source: int) -> Image:
    os.lseek(source, 0, os.SEEK_SET)
    with store.incoming() as (path, blob), staged(store, runner, [source, blob], whiteouts=True) as made:
        os.fsync(blob)
        created = timestamps.timestamp(0)  # the same machine is the same image
        image = oci.Image(
            _config(),
            (oci.LayerRecord(made.blob, made.diff_id),),
            created,
            (oci.HistoryEntry(created, "nbcontainer recipe host"),),
        )
        with store.lock():
            store.adopt_blob(path, made.blob.digest)
            made.adopt(store)
            return store.add_image(image, reference.HOST)


def _config() -> oci.ImageConfig:
    """The environment of the notebook's own Python: its programs first on PATH."""
    (path,) = BUSYBOX_CONFIG.env
    if sys.prefix != "/usr":
        path = path.replace("=", f"={sys.prefix}/bin:", 1)
    return oci.ImageConfig(env=(path,), cmd=("sh",))


def write_layer(fd: int, entries: dict[str, SurveyEntry]) -> str:
    """Writes the layer's tar to `fd`; its digest. Times are 0, so that it depends on nothing but what is in it."""
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
    """The machine's directories (absolute) that a layer is to lie over, or has something of; none of most layers."""
    try:
        text = (store.path / "layers" / layer / BESIDE).read_text()
    except FileNotFoundError:
        return ()
    found: Any = json.loads(text)
    return tuple(found["directories"])


def write_beside(store: Store, layer: str, found: Sequence[str]) -> None:
    """Says which of the machine's directories a layer has something of."""
    store.write_file(f"layers/{layer}/{BESIDE}", beside(found))


def beside(found: Sequence[str]) -> bytes:
    """The content of the file beside a layer."""
    return oci.canonical({"directories": list(found)})


def merge_parts(store: Store, runner: Runner, place: str, parts: Sequence[tuple[str, str]], hiding: str) -> None:
    """Makes one tree, `diff`, of it and the uppers of the machine's directories beside it in `place`.

    `place` is relative to the store or absolute, `parts` are as for `nbcontainer.images.layers.merge`, and
    layer `hiding` has the modes of the directories above them. Raises `OSError`.
    """
    modes = {}
    for _, path in parts:
        above = path
        while above := above.rpartition("/")[0]:
            with contextlib.suppress(OSError):
                found = (store.path / "layers" / hiding / "diff" / above.lstrip("/")).lstat()
                modes[above] = stat.S_IMODE(found.st_mode)
    runner.on_directory(sandboxed.merge_here, place, parts=list(parts), modes=modes)


def is_of_this_machine(store: Store, image: Image) -> bool:
    """Whether an image has this machine below it, so that it is none elsewhere."""
    layer = store.layer(image.layers[0].diff_id)
    return layer is not None and bool(directories(store, layer))
