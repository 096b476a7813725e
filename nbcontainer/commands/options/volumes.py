"""`-v [SRC:]DST[:OPTIONS]` and `--tmpfs DST[:OPTIONS]`: from text to checked values."""

from __future__ import annotations

import os
import re
import shlex
import stat
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.linux.paths import resolve
from nbcontainer.oci.reference import host_path
from nbcontainer.sandbox.spec import CACHE_LABEL, CopyOnWrite, NamedVolume, Tmpfs, Volume, check_volume_name
from nbcontainer.store.errors import path_advice

if TYPE_CHECKING:
    from collections.abc import Callable

_FORM = "-v SRC:DST or -v SRC:DST:ro, as in -v ~/data:/data:ro; -v NAME:DST for a named volume"
_RESERVED = ("/proc", "/sys", "/dev")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE_MAX = (1 << 63) - 1  # loff_t: the kernel takes larger ones modulo 2^64

_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "rw": ("access", {}),
    "ro": ("access", {"read_only": True}),
    "z": ("label", {}),
    "Z": ("label", {}),
    "U": ("owner", {}),
    "cached": ("consistency", {}),
    "consistent": ("consistency", {}),
    "delegated": ("consistency", {}),
    "slave": ("propagation", {"slave": True}),
    "rslave": ("propagation", {"slave": True}),
    "private": ("propagation", {}),
    "rprivate": ("propagation", {}),
    "nocopy": ("copy", {"copy": False}),
    "copy": ("copy", {}),
    "exec": ("exec", {}),
    "noexec": ("exec", {"noexec": True}),
    "bind": ("bind", {}),
    "rbind": ("bind", {}),
    "nosuid": ("nosuid", {}),
    "nodev": ("nodev", {}),
    "cow": ("access", {"cow": CopyOnWrite()}),
    "nosub": ("nosub", {}),
}
"""By an option of Docker or podman: its group, of which one may be given, and the fields that it sets.

Nothing is relabelled (`z`, `Z`) or chowned (`U`): user namespaces make both unnecessary.
"""

_REFUSED = {
    "shared": "mounts of a container do not reach the host: write rslave, or remove it",
    "rshared": "mounts of a container do not reach the host: write rslave, or remove it",
    "unbindable": "write rprivate, or remove it",
    "runbindable": "write rprivate, or remove it",
    "O": "write cow: changes stay in a layer until `apply` writes them or `discard` drops them",
    "idmap": "owners are always mapped: remove it",
    "suid": "programs with setuid have no effect in a container: remove it",
    "dev": "device files of a volume have no effect in a container: remove it",
}


def size_in_bytes(text: str) -> int:
    """Return `64m`, `1.5g` or `100` in bytes, in powers of 1024. Raises `UsageError`."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([bkmgt]?)b?", text.strip().lower(), re.ASCII)
    if found is None:
        raise UsageError(f"invalid size {text!r}", hint="write a number with b, k, m or g, as in 64m")
    return _bounded(int(float(found[1]) * _UNITS[found[2]]), text)


def _bounded(size: int, text: str) -> int:
    """Return a size that the kernel takes. Raises `UsageError`."""
    if size > _SIZE_MAX:
        raise UsageError(f"size {text!r} is too large", hint="write less than 8388608t")
    return size


def target_path(text: str, option: str) -> str:
    """Return a normalized container path to mount on. Raises `UsageError` for a relative or a reserved one."""
    if not text.startswith("/"):
        raise UsageError(f"the target {text!r} of {option} is not absolute", hint="start it with /, as in /data")
    if "\0" in text:
        raise UsageError(f"the target of {option} contains a NUL character", hint="remove it")
    plain = os.path.normpath(text)
    plain = "/" + plain.lstrip("/")
    if plain == "/":
        raise UsageError(f"the target of {option} is /", hint="mount below it, as in /data")
    for reserved in _RESERVED:
        if plain == reserved or plain.startswith(reserved + "/"):
            problem = f"cannot mount {option} at '{plain}': the container needs its own {reserved}"
            raise UsageError(problem, hint="choose another target")
    return plain


def parse_volume(text: str) -> Volume | NamedVolume:
    """Return the volume `SRC:DST[:OPTIONS]`, `NAME:DST[:OPTIONS]`, or `DST` for one of the container's own.

    SRC is a host path, in which `~` and relative paths are resolved; a name without a slash names a volume of the
    store. Raises `UsageError` for the form and `ContainerError` for a source that cannot be used. Links are followed
    here, and judged when the store is known (`nbcontainer.store.writable`).
    """
    parts = text.split(":")
    if len(parts) == 1 and text.startswith("/"):
        return NamedVolume("", target_path(text, "-v"))
    if len(parts) not in (2, 3) or not parts[0] or not parts[1]:
        raise UsageError(f"invalid volume {text!r}: expected SRC:DST[:ro]", hint=f"write {_FORM}")
    fields = _fields(parts[2], text) if len(parts) == 3 else {}
    target = target_path(parts[1], "-v")
    if is_volume_name(parts[0]):
        if "cow" in fields:
            hint = f"for a directory of the host, write ./{parts[0]}"
            raise UsageError(f"'cow' in {text!r} requires a directory of the host", hint=hint)
        return NamedVolume(check_volume_name(parts[0]), target, **fields)
    fields.pop("copy", None)
    return bind(parts[0], target, **fields)


def parse_cache(text: str) -> NamedVolume:
    """Return the volume of the cache `NAME:DST`, which begins empty. Raises `UsageError`."""
    name, colon, target = text.partition(":")
    if not colon or not name or not target:
        raise UsageError(f"invalid cache {text!r}: expected NAME:DST", hint="write --cache-dir pip:/root/.cache/pip")
    check_volume_name(name)
    volume = check_volume_name(f"cache-{name}")
    return NamedVolume(volume, target_path(target, "--cache-dir"), copy=False, labels=((CACHE_LABEL, name),))


def is_volume_name(source: str) -> bool:
    """Whether the source of a volume is a name, as Docker decides it: a path has a slash, or begins with `.` or `~`."""
    return "/" not in source and not source.startswith((".", "~"))


def _fields(options: str, text: str) -> dict[str, Any]:
    """Return the fields of a volume that options such as `ro,z` set. Raises `UsageError`."""
    fields: dict[str, Any] = {}
    groups: dict[str, str] = {}
    for option in options.split(","):
        if option in _REFUSED:
            raise UsageError(f"unsupported mount option {option!r} in {text!r}", hint=_REFUSED[option])
        if option not in _OPTIONS:
            hint = f"write ro or rw; the options are {' '.join(_OPTIONS)}"
            raise UsageError(f"unknown mount option {option!r} in {text!r}", hint=hint)
        group, found = _OPTIONS[option]
        if groups.setdefault(group, option) != option:
            raise UsageError(f"{groups[group]!r} and {option!r} in {text!r} exclude each other", hint="remove one")
        fields |= found
    if "nosub" in groups:
        if "cow" not in fields:
            raise UsageError(f"'nosub' in {text!r} requires 'cow'", hint="write cow,nosub")
        fields["cow"] = CopyOnWrite(nosub=True)
    return fields


def propagation(word: str, text: str) -> dict[str, Any]:
    """Return the fields that `bind-propagation=WORD` sets. Raises `UsageError`."""
    if word not in _REFUSED and _OPTIONS.get(word, ("",))[0] != "propagation":
        raise UsageError(f"unknown propagation {word!r} in {text!r}", hint="write rprivate or rslave")
    return _fields(word, text)


def bind(source: str, target: str, **fields: Any) -> Volume:
    """Return the host path `source` as a volume at `target`. Raises `UsageError`, `ContainerError`."""
    path = host_path(source)
    try:
        place = resolve(path)
    except FileNotFoundError as error:
        problem = f"the volume's source '{error.filename}' does not exist"
        raise ContainerError(problem, hint=f"`mkdir -p {shlex.quote(error.filename)}`") from None
    except OSError as error:
        raise ContainerError(
            f"cannot use the volume's source '{path}': {error.strerror}", hint=path_advice(error)
        ) from error
    with place:
        if "cow" in fields and not stat.S_ISDIR(place.mode):
            problem = f"the copy-on-write volume '{place.node.path}' is not a directory"
            raise UsageError(problem, hint="mount the directory above it, or write ro or rw")
        return Volume(
            place.node.path,
            target,
            directory=stat.S_ISDIR(place.mode),
            device=place.node.device,
            inode=place.node.inode,
            links=place.links,
            born=place.node.born,
            **fields,
        )


# `--tmpfs`: the options are those of mount(8) and tmpfs(5)

_ID_LIMIT = (1 << 32) - 1  # (uid_t)-1
_INODES_MAX = (1 << 54) - 1  # mm/shmem.c: each is counted as 1 KiB
_TMPFS_EXAMPLE = "write --tmpfs DST:size=64m,mode=755"

_TMPFS_FLAGS = {
    "rw": ("access", ""),
    "ro": ("access", "ro"),
    "exec": ("exec", ""),
    "noexec": ("exec", "noexec"),
    "atime": ("atime", ""),
    "noatime": ("atime", "noatime"),
    "relatime": ("atime", "relatime"),
    "strictatime": ("atime", "strictatime"),
    "diratime": ("diratime", ""),
    "nodiratime": ("diratime", "nodiratime"),
    "sync": ("sync", "sync"),
    "async": ("sync", ""),
    **{name: (name, "") for name in ("nosuid", "nodev", "notmpcopyup", "private", "rprivate", "slave", "rslave")},
}
"""By an option without a value: its group, of which the last one counts, and the flag of the step, empty for none."""

_TMPFS_REFUSED = {
    "suid": "programs with setuid have no effect in a container: remove it",
    "dev": "device files have no effect in a container: remove it",
    "tmpcopyup": "the image's files are not copied into a tmpfs: use `-v DST` for a volume with them",
    "shared": "mounts of a container do not reach the host: remove it",
    "rshared": "mounts of a container do not reach the host: remove it",
    "mpol": "memory policies are not supported: remove it",
    "huge": "huge pages are not supported in a tmpfs: remove it",
}


def parse_tmpfs(text: str) -> Tmpfs:
    """Return the tmpfs `DST[:OPTIONS]`, as in `/run:size=64m,mode=755`. Raises `UsageError`."""
    target, _, options = text.partition(":")
    flags: dict[str, str] = {}
    fields: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if key in _TMPFS_REFUSED:
            raise UsageError(f"unsupported option {option!r} of --tmpfs", hint=_TMPFS_REFUSED[key])
        if equals and key in _TMPFS_VALUES:
            field, parse = _TMPFS_VALUES[key]
            fields[field] = parse(value, option)
        elif not equals and key in _TMPFS_FLAGS:
            group, flag = _TMPFS_FLAGS[key]
            flags[group] = flag
        else:
            raise UsageError(f"unknown option {option!r} of --tmpfs", hint=_TMPFS_EXAMPLE)
    return Tmpfs(target_path(target, "--tmpfs"), **fields, flags=tuple(filter(None, flags.values())))


def tmpfs_size(text: str, option: str) -> int:
    """Return a size in bytes; `10%` is a part of the machine's memory (tmpfs(5)). Raises `UsageError`."""
    if percent := re.fullmatch(r"(\d{1,4})%", text, re.ASCII):
        number = os.sysconf("SC_PHYS_PAGES") * int(percent[1]) // 100 * os.sysconf("SC_PAGE_SIZE")
    else:
        number = size_in_bytes(text)
    if number == 0:  # tmpfs(5) takes 0 for no limit
        raise UsageError(f"{option!r} of --tmpfs: the size must be greater than 0", hint=_TMPFS_EXAMPLE)
    return number


def tmpfs_mode(text: str, option: str) -> int:
    """Return the permissions of a directory from octal digits. Raises `UsageError`."""
    if not re.fullmatch(r"0{0,2}[0-7]{1,4}", text):
        raise UsageError(f"invalid permissions in {option!r}", hint="write octal digits, as in mode=755 or mode=1777")
    return int(text, 8)


def _blocks(text: str, option: str) -> int:
    return _bounded(_count(text, option) * os.sysconf("SC_PAGE_SIZE"), option)


def _inodes(text: str, option: str) -> int:
    if (number := _count(text, option)) > _INODES_MAX:
        raise UsageError(f"{option!r} of --tmpfs: the number is too large", hint="write less than 16384t")
    return number


def _count(text: str, option: str) -> int:
    if (number := size_in_bytes(text)) == 0:
        raise UsageError(f"{option!r} of --tmpfs: the number must be greater than 0", hint="write a number, as in 10k")
    return number


def _id(text: str, option: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < _ID_LIMIT):
        raise UsageError(f"invalid number in {option!r} of --tmpfs", hint="write a number, as in uid=1000")
    return int(text)


_TMPFS_VALUES: dict[str, tuple[str, Callable[[str, str], int]]] = {
    "size": ("size", tmpfs_size),
    "nr_blocks": ("size", _blocks),
    "nr_inodes": ("inodes", _inodes),
    "mode": ("mode", tmpfs_mode),
    "uid": ("uid", _id),
    "gid": ("gid", _id),
}
