"""The key of a cached cell: all that its result depends on, as one digest."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.containers import named_volumes
from nbcontainer.containers.cached.layer_content import identity_of
from nbcontainer.containers.cached.volume_content import Unreadable, content_of
from nbcontainer.containers.options import RunOptions
from nbcontainer.errors import UsageError
from nbcontainer.images.builtin import host
from nbcontainer.sandbox.networking import Network
from nbcontainer.store.cache_entries import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.cached.volume_content import Digests
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.spec import Mounts
    from nbcontainer.store.layout import Store

SECRET = "cache.key"
"""The store's file with the key of the keyed hash of values."""

_INPUT_LIMIT = 64 << 20
"""Bytes of standard input that enter a key."""

_TICK, _COARSE_TICK = 20_000_000, 2_000_000_000
"""Nanoseconds, more than between two ticks of the clock for the times of files (CONFIG_HZ is 100 at least).

Some file systems keep whole seconds (ext4 with small inodes), or two of them (FAT).
"""

_NOT_IN_KEYS = frozenset({"selection", "process", "mounts", "labels", "explain", "cache", "identity", "here"})
"""Fields of the options that a result does not depend on, or that enter the key in another form."""


class NotCached(Exception):
    """The cell is run and not cached; the text says why."""


@dataclass(frozen=True)
class Key:
    """A key, the names of the values in it (the values are not kept), what stands for the volumes, and the input.

    `times` changes with each change of a read-only volume. `given` is the standard input that was hashed, None for
    none: what it was read from can change before the cell reads it.
    """

    digest: str
    names: tuple[str, ...]
    volumes: list[Any]
    times: list[str]
    given: bytes | None


def why_not(container: Container, image: Image, request: Request) -> Iterator[str]:
    """Yield the reasons for which `--cache` alone does not cache a request, `--cache=always` does."""
    options = request.options
    if options.networking.network != Network.NONE:
        yield "it has a network"
    for volume in options.mounts.volumes:
        if not volume.read_only:
            yield f"it can write to the volume at {volume.target}"
    for named in options.mounts.named:
        if not named.cache:
            yield f"it has a named volume at {named.target}"
    if options.mounts.read_only and options.mounts.image_volumes and not container.anonymous:
        for own in named_volumes.of_image(image, options.mounts):
            yield f"it can write to the image's volume at {own.target}"
    if any(host.directories(container.workspace.store, layer) for layer in container.record.base[:1]):
        yield "its image changes with the files of the host"


def why_never(request: Request, streams: Streams) -> Iterator[str]:
    """Yield the reasons for which a request is never cached."""
    process = request.options.process
    if process.terminal or process.terminal_input or streams.keyboard is not None:
        yield "it has a terminal"
    if streams.control_directory is not None or streams.lasting is not None or request.kernel:
        yield "it runs in a live container"
    if request.options.explain:
        yield "--explain shows how it runs"
    if streams.values is not None and streams.values.output and streams.on_output is None:
        yield "its files in /out cannot be replayed here"
    if streams.stdin is not None and not stat.S_ISREG(os.fstat(streams.stdin).st_mode):
        yield "its input is not a file"
    for volume in request.options.mounts.volumes:
        if volume.cow:
            yield f"the changes of the copy-on-write volume at {volume.target} are not kept"


def key_of(container: Container, request: Request, streams: Streams, digests: Digests) -> Key:
    """Return the key of a request in a container. Raises `NotCached`, `StoreError`, and what a sandbox raises."""
    options, store = request.options, container.workspace.store
    named = {
        name: getattr(options, name)
        for name in (field.name for field in dataclasses.fields(RunOptions))
        if name not in _NOT_IN_KEYS
    }
    given = _input(container.workspace.store, request, streams)
    values, names = _values(request, streams, given)
    volumes, times = volumes_in_key(options.mounts, digests, wait=True)
    process = replace(options.process, env=(), unset_env=(), links=(), git_config="")
    parts = {
        "version": VERSION,
        "image": container.record.image_digest,
        "parent": identity_of(container),
        "source": [request.script, request.command, request.arguments, request.interpreter, request.driver],
        "options": _plain({**named, "process": process}),
        "volumes": volumes,
        "display": streams.display is not None,
        "output": streams.values is not None and streams.values.output,
        "names": names,
        "values": _keyed(store, values) if any(values) else "",
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return Key(digest, tuple(names), volumes, times, given)


def _plain(values: Any) -> Any:
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return dataclasses.asdict(values)
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items()}
    return values


def _values(request: Request, streams: Streams, given: bytes | None) -> tuple[list[Any], list[str]]:
    """Return the values that enter the key by a keyed hash, and their names."""
    process = request.options.process
    variables = [*process.env, *process.unset_env]
    inputs = streams.values.inputs if streams.values is not None else ()
    digest = streams.values_digest() if inputs and streams.values_digest is not None else ""
    names = [item.partition("=")[0] for item in variables] + [f"/in/{name}" for name in inputs]
    if given is not None:
        names.append("standard input")
    if process.git_config:
        names.append("identity")
    hashed = "" if given is None else hashlib.sha256(given).hexdigest()
    return [variables, digest, hashed, process.git_config], names


def _input(store: Store, request: Request, streams: Streams) -> bytes | None:
    """Return the standard input, None for none. A script that is a command's input is in the source."""
    if request.command and request.script is not None:
        return None
    if request.stdin is not None:
        fd = request.stdin.open(store)
    elif streams.stdin is not None:
        fd = os.dup(streams.stdin)
    else:
        return None
    try:
        begin = 0 if request.stdin is not None else os.lseek(fd, 0, os.SEEK_CUR)
        data = b"".join(iter(_reader(fd, begin), b"")) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OverflowError:
        raise NotCached(f"its input has more than {_INPUT_LIMIT >> 20} MiB") from None
    finally:
        os.close(fd)
    if data is None:
        raise NotCached("its input is not a file")
    return data


def _reader(fd: int, begin: int) -> Any:
    at = begin

    def read() -> bytes:
        nonlocal at
        data = os.pread(fd, 1 << 20, at)
        at += len(data)
        if at - begin > _INPUT_LIMIT:
            raise OverflowError
        return data

    return read


def volumes_in_key(mounts: Mounts, digests: Digests, *, wait: bool) -> tuple[list[Any], list[str]]:
    """Return what stands for the mounts, and what changes with each change of a read-only volume.

    Read-only volumes are there by their content, others by their place. Caches are not. With `wait`, return when any
    change from then on shows.
    """
    found: list[Any] = [["tmpfs", _plain(one)] for one in mounts.tmpfs]
    found.append(["root", mounts.read_only, mounts.image_volumes, mounts.tools])
    found += [["named", _plain(one)] for one in mounts.named if not one.cache]
    times, left = [], 0
    for volume in mounts.volumes:
        if not volume.read_only:
            found.append(["rw", volume.source, volume.target, volume.noexec])
            continue
        try:
            content = content_of(volume, digests)
        except Unreadable as error:
            raise NotCached(str(error)) from error
        found.append(["ro", content.digest, volume.target, volume.directory, volume.noexec])
        times.append(content.times)
        left = max(left, _until_next_tick(content.newest))
    if wait and left:
        time.sleep(left / 1e9)
    return found, times


def _until_next_tick(newest: int) -> int:
    """Return the nanoseconds until a change would have another time than the newest one; 0 if it would now."""
    tick = _TICK if newest % 10**9 else _COARSE_TICK
    wait = newest + tick - time.time_ns()
    return wait if 0 < wait <= tick else 0


def _keyed(store: Store, values: list[Any]) -> str:
    """Return a hash of values which only this store can compute: short values cannot be guessed from it."""
    text = json.dumps(values, default=str).encode("utf-8", "surrogateescape")
    return hmac.new(_secret(store), text, hashlib.sha256).hexdigest()


def _secret(store: Store) -> bytes:
    """Return the store's key for values, which is made at its first use. Raises `StoreError`."""

    def read() -> bytes:
        return (store.path / SECRET).read_bytes()

    try:
        found = read()
    except FileNotFoundError:
        with store.lock():
            if not (store.path / SECRET).exists():
                store.write_file(SECRET, secrets.token_bytes(32))
            found = read()
    if len(found) < 32:
        raise UsageError(f"{store.path / SECRET} is damaged", hint="remove it: cells with values run again then")
    return found
