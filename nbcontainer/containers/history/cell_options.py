"""What the record of a failed cell has of its options, so that `debug` can have them again.

Values of variables are secrets more often than not: a record has their names alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.spec import Userns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nbcontainer.containers.options import RunOptions
    from nbcontainer.sandbox.spec import NamedVolume, Tmpfs, Volume

CellOptions = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of options, each with its values as a user writes them; those of `env` are names without values."""

ENV, VOLUME, TMPFS, UNTRUSTED = "env", "volume", "tmpfs", "untrusted"

_NETWORKS = (Network.HOST, Network.PRIVATE)
KNOWN = frozenset(
    {ENV, VOLUME, TMPFS, "user", "workdir", "group-add", "hostname", "network", "add-host", "dns", "read-only"}
    | {UNTRUSTED}
)
"""Names of the options that change what the shell of `debug` sees and may do."""


def options_of(options: RunOptions) -> CellOptions:
    """Return those options of a run that its record has. Volumes of the host and of the store are read-only there."""
    if options.privileges.userns == Userns.HOST:
        return ()  # such a shell acts as root of this machine: it has what the user asks for
    mounts, process = options.mounts, options.process
    volumes = [*map(_volume, mounts.volumes), *map(_named, mounts.named)]
    found = {
        VOLUME: [text for text in volumes if text],
        TMPFS: [_tmpfs(one) for one in mounts.tmpfs],
        "user": [process.user] if process.user else [],
        "workdir": [process.workdir] if process.workdir else [],
        "group-add": list(process.groups),
        "hostname": [options.hostname] if options.hostname else [],
        "network": [str(options.networking.network)] if options.networking.network in _NETWORKS else [],
        "add-host": [f"{name}={address}" for name, address in options.networking.hosts],
        "dns": list(options.networking.dns),
        "read-only": [""] if mounts.read_only else [],
        UNTRUSTED: [""] if options.untrusted else [],
        ENV: sorted({item.partition("=")[0] for item in process.env}),
    }
    return tuple((name, tuple(values)) for name, values in found.items() if values)


def parsed(values: Any) -> CellOptions:
    """Return the options of `to_json`. Raises `TypeError`, `ValueError` for anything else."""
    return tuple(_parsed(values))


def _parsed(values: Mapping[Any, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if type(values) is not dict:
        raise TypeError("the options of a cell are not an object")
    for name, texts in values.items():
        if name not in KNOWN or type(texts) is not list or not all(type(text) is str for text in texts):
            raise ValueError(f"unknown option {name!r} of a cell")
        yield name, tuple(texts)


def to_json(options: CellOptions) -> dict[str, list[str]]:
    """Return options as JSON values."""
    return {name: list(values) for name, values in options}


def _volume(volume: Volume) -> str:
    """Return a volume as text, empty for one that a text cannot name. What it would write goes to a layer, or fails."""
    if ":" in volume.source or ":" in volume.target or volume.stored:
        return ""
    words = ["ro"]
    if volume.cow is not None:
        words = ["cow", *(["nosub"] if volume.cow.nosub else [])]
    return f"{volume.source}:{volume.target}:{','.join([*words, *(['noexec'] if volume.noexec else [])])}"


def _named(volume: NamedVolume) -> str:
    if not volume.name or volume.subpath or ":" in volume.target:
        return ""
    return f"{volume.name}:{volume.target}:ro,nocopy"


def _tmpfs(one: Tmpfs) -> str:
    return one.target if one.size is None else f"{one.target}:size={one.size}"
