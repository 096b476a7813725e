"""`--mount KEY=VALUE,…`: from text to checked values. The grammar is that of docker/cli, opts/mount.go."""

from __future__ import annotations

import contextlib
import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.options.volumes import bind, propagation, target_path, tmpfs_mode, tmpfs_size
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.spec import NamedVolume, Tmpfs, Volume, check_volume_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nbcontainer.commands.grammar import Words

    Mount = Volume | NamedVolume | Tmpfs

_EXAMPLE = "write it as in --mount type=bind,source=~/data,target=/data,readonly"

_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
    "u": "chown",
    "nocopy": "volume-nocopy",
    "subpath": "volume-subpath",
    "propagation": "bind-propagation",
    "size": "tmpfs-size",
    "mode": "tmpfs-mode",
}

_COMMON = frozenset({"type", "source", "target", "readonly", "readwrite", "consistency"})
_KEYS = {
    "bind": frozenset({"bind-propagation", "bind-recursive", "bind-nonrecursive", "relabel", "chown"}),
    "volume": frozenset({"volume-nocopy", "volume-label", "volume-driver", "volume-subpath", "volume-opt", "chown"}),
    "tmpfs": frozenset({"tmpfs-size", "tmpfs-mode"}),
}
_REPEATED = frozenset({"volume-label", "volume-opt"})

_REFUSED_TYPES = {
    "image": "images are not supported as mounts: run a cell of that image, or `%container export` it",
    "npipe": "named pipes of Windows are not supported",
    "cluster": "cluster volumes are not supported: use type=volume or type=bind",
    "devpts": "each container has its own terminals: remove it",
    "ramfs": "write type=tmpfs",
    "glob": "mount the directory with type=bind",
    "artifact": "artifacts are not supported as mounts: use type=bind",
}
_REFUSED_KEYS = {
    "idmap": "owners are always mapped: remove it",
    "bind-create-src": "make the directory first, with `mkdir -p`",
    "image-subpath": _REFUSED_TYPES["image"],
    "tmpcopyup": "use type=volume for a mount with the image's files",
}


@dataclass
class _Words:
    """The keys and values of one `--mount`; `text` is all of it."""

    text: str
    kind: str = "volume"
    values: dict[str, str] = field(default_factory=dict)
    labels: list[tuple[str, str]] = field(default_factory=list)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return the value of a key that is true alone, or with `=true`. Raises `UsageError`."""
        value = self.values.get(key)
        if value is None:
            return default
        if value.lower() in ("", "1", "t", "true"):
            return True
        if value.lower() in ("0", "f", "false"):
            return False
        raise UsageError(f"invalid value {value!r} of the key '{key}' in --mount", hint="write true or false")

    @property
    def read_only(self) -> bool:
        """Whether the mount is read-only."""
        return self.flag("readonly") or not self.flag("readwrite", default=True)

    @property
    def target(self) -> str:
        """The path of the mount (container). Raises `UsageError`."""
        if not self.values.get("target"):
            raise UsageError(f"--mount {self.text}: missing target", hint=_EXAMPLE)
        return target_path(self.values["target"], "--mount")


def parse_mount(text: str) -> Mount:
    """Return the mount `type=bind|volume|tmpfs,source=…,target=…,…`. Raises `UsageError`, `ContainerError`."""
    return _KINDS[(words := _words(text)).kind](words)


_MOUNTS = ("cache-dir", "mount", "tmpfs", "volume")
"""The options whose values mount one thing each."""


def targets_of(words: Words) -> set[str]:
    """Return the targets of all mounts among the arguments of a run, as `target_of` does."""
    return {target for name in _MOUNTS for value in words.all(name) if (target := target_of(name, value))}


def target_of(option: str, value: str) -> str:
    """Return where a value of an option mounts something (container path); empty if it does not, or is invalid."""
    if option not in _MOUNTS:
        return ""
    with contextlib.suppress(UsageError):
        if option == "mount":
            return _words(value).target
        first, _, rest = value.partition(":")
        written = first if option == "tmpfs" or not rest else rest.partition(":")[0]
        return target_path(written, "")
    return ""


def _words(text: str) -> _Words:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"invalid --mount {text!r}: {error}", hint=_EXAMPLE) from None
    if not fields:
        raise UsageError("--mount is empty", hint=_EXAMPLE)
    words = _Words(text)
    for key, value in map(_pair, fields):
        if key == "volume-label":
            name, _, label = value.partition("=")
            words.labels.append((name, label))
        else:
            words.values[key] = value
    words.kind = words.values.get("type", "volume").lower()
    _check(words)
    return words


def _pair(text: str) -> tuple[str, str]:
    """Return the canonical key, and its value; empty for a key alone."""
    key, equals, value = text.partition("=")
    key = key.lower().strip()
    key = _ALIASES.get(key, key)
    if key in _REFUSED_KEYS:
        raise UsageError(f"unsupported key '{key}' in --mount", hint=_REFUSED_KEYS[key])
    if key not in _COMMON.union(*_KEYS.values()):
        keys = ", ".join(sorted(_COMMON.union(*_KEYS.values())))
        raise UsageError(f"unknown key {key!r} in --mount", hint=f"the keys are {keys}")
    flags = ("readonly", "readwrite", "volume-nocopy", "bind-nonrecursive", "chown")
    if key not in flags and not value:
        raise UsageError(f"the key '{key}' in --mount has no value", hint=f"write {key}=VALUE")
    if equals and not value:
        raise UsageError(f"the key '{key}' in --mount has no value", hint=f"write {key}, or {key}=true")
    return key, value


def _check(words: _Words) -> None:
    """Raise `UsageError` for an unknown type, and for keys of another type."""
    if words.kind in _REFUSED_TYPES:
        raise UsageError(f"unsupported type '{words.kind}' in --mount", hint=_REFUSED_TYPES[words.kind])
    if words.kind not in _KEYS:
        raise UsageError(f"unknown type {words.kind!r} in --mount", hint="choose one of bind, volume, tmpfs")
    given = words.values.keys() | ({"volume-label"} if words.labels else set())
    for key in sorted(given - _COMMON - _KEYS[words.kind]):
        kinds = " or ".join(f"type={kind}" for kind, keys in _KEYS.items() if key in keys)
        raise UsageError(f"the key '{key}' in --mount is for {kinds}", hint=f"remove it, or write {kinds}")


def _bind(words: _Words) -> Volume:
    source = words.values.get("source", "")
    if not source:
        raise UsageError(f"--mount {words.text}: missing source", hint=_EXAMPLE)
    fields: dict[str, Any] = {"read_only": words.read_only}
    if word := words.values.get("bind-propagation"):
        fields |= propagation(word, words.text)
    recursive = words.values.get("bind-recursive", "enabled")
    if words.flag("bind-nonrecursive") or recursive == "disabled":
        problem = "a bind mount without the mounts below it is not supported"
        raise UsageError(problem, hint="name a directory without mounts, or cover them with --mount type=tmpfs")
    if recursive not in ("enabled", "readonly") or (recursive == "readonly" and not words.read_only):
        hint = "remove it: with readonly, the mounts below are read-only too"
        raise UsageError(f"unsupported value '{recursive}' of bind-recursive in --mount", hint=hint)
    return bind(source, words.target, **fields)


def _volume(words: _Words) -> NamedVolume:
    name = words.values.get("source", "")
    if (driver := words.values.get("volume-driver", "local")) != "local":
        raise UsageError(
            f"unsupported volume driver '{driver}'", hint="remove it: volumes are directories of the store"
        )
    if "volume-opt" in words.values:
        raise UsageError("unsupported key 'volume-opt' in --mount", hint="mount the directory with type=bind")
    subpath = words.values.get("volume-subpath", "")
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise UsageError(f"invalid volume-subpath '{subpath}' in --mount", hint="write a path below the volume's top")
    return NamedVolume(
        check_volume_name(name) if name else "",
        words.target,
        read_only=words.read_only,
        copy=not words.flag("volume-nocopy"),
        subpath="/".join(part for part in subpath.split("/") if part not in ("", ".")),
        labels=tuple(words.labels),
    )


def _tmpfs(words: _Words) -> Tmpfs:
    if "source" in words.values:
        raise UsageError("a mount with type=tmpfs has no source", hint="remove it, or write type=bind")
    fields: dict[str, Any] = {}
    if "tmpfs-size" in words.values:
        fields["size"] = tmpfs_size(words.values["tmpfs-size"], f"tmpfs-size={words.values['tmpfs-size']}")
    if "tmpfs-mode" in words.values:
        fields["mode"] = tmpfs_mode(words.values["tmpfs-mode"], f"tmpfs-mode={words.values['tmpfs-mode']}")
    return Tmpfs(words.target, **fields, flags=("ro",) if words.read_only else ())


_KINDS: dict[str, Callable[[_Words], Mount]] = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs}


def mounts(
    volumes: Iterable[Mount] = (),
    mounts: Iterable[Mount] = (),
    cache_dirs: Iterable[Mount] = (),
    tmpfs: Iterable[Mount] = (),
) -> dict[str, tuple[Mount, ...]]:
    """Return the mounts of `-v`, `--mount`, `--cache-dir` and `--tmpfs`, by the fields of `Mounts` for each kind."""
    given = (*volumes, *mounts, *cache_dirs, *tmpfs)
    kinds = {"volumes": Volume, "named": NamedVolume, "tmpfs": Tmpfs}
    found = {name: tuple(one for one in given if isinstance(one, kind)) for name, kind in kinds.items()}
    return {name: of_kind for name, of_kind in found.items() if of_kind}
