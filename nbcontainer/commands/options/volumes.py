"""`-v SRC:DST[:ro]` and `--tmpfs DST[:size=N]`: from words to checked values."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.linux.paths import resolve, resolve_existing
from nbcontainer.oci.reference import host_path
from nbcontainer.sandbox.spec import Tmpfs, Volume

if TYPE_CHECKING:
    from pathlib import Path


_FORM = "-v SRC:DST or -v SRC:DST:ro, as in -v ~/data:/data:ro"
_RESERVED = ("/proc", "/sys", "/dev")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size_in_bytes(text: str) -> int:
    """Return `64m`, `1.5g` or `100` in bytes, in powers of 1024. Raises `UsageError`."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([bkmgt]?)b?", text.strip().lower(), re.ASCII)
    if found is None:
        raise UsageError(f"invalid size {text!r}", hint="write a number with b, k, m or g, as in 64m")
    return int(float(found[1]) * _UNITS[found[2]])


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
            raise UsageError(
                f"the target '{plain}' of {option} is in the container's own {reserved}", hint="choose another target"
            )
    return plain


def parse_volume(text: str) -> Volume:
    """Return the volume `SRC:DST[:ro|:rw]`; SRC is a host path, in which `~` and relative paths are resolved.

    Raises `UsageError` for the form and `ContainerError` for a source that cannot be used. Links are followed here, and
    judged when the store is known (`nbcontainer.store.writable`).
    """
    words = text.split(":")
    if len(words) not in (2, 3) or not words[0] or not words[1]:
        raise UsageError(f"invalid volume {text!r}: expected SRC:DST[:ro]", hint=f"write {_FORM}")
    mode = words[2] if len(words) == 3 else "rw"
    if mode not in ("ro", "rw"):
        raise UsageError(f"unknown mount option {mode!r} in {text!r}", hint="write ro or rw")
    source = host_path(words[0])
    try:
        place = resolve(source)
    except (FileNotFoundError, NotADirectoryError):
        found = _whole(source)
        raise ContainerError(f"the volume's source '{found}' does not exist", hint=f"`mkdir -p {found}`") from None
    except OSError as error:
        raise ContainerError(
            f"cannot use the volume's source '{source}': {error.strerror}", hint="check the path's permissions"
        ) from error
    with place:
        return Volume(
            place.node.path,
            target_path(words[1], "-v"),
            read_only=mode == "ro",
            directory=stat.S_ISDIR(place.mode),
            device=place.node.device,
            inode=place.node.inode,
            links=place.links,
            born=place.node.born,
        )


def _whole(source: Path) -> str:
    """The whole path that a source names which is not there, without links as far as it is; for a person to read."""
    try:
        place, missing = resolve_existing(source)
    except OSError:  # it changes while it is looked at
        return str(source.absolute())
    with place:
        return "/".join((place.node.path.rstrip("/"), *missing))


def parse_tmpfs(text: str) -> Tmpfs:
    """Return the tmpfs `DST[:size=N]`. Raises `UsageError`."""
    target, _, options = text.partition(":")
    size = None
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key != "size":
            raise UsageError(f"unknown option {option!r} of --tmpfs", hint="write --tmpfs DST:size=64m")
        size = size_in_bytes(value)
        if size == 0:  # for tmpfs(5), 0 is no limit at all
            raise UsageError(
                f"{option!r} of --tmpfs: the size must be greater than 0", hint="write --tmpfs DST:size=64m"
            )
    return Tmpfs(target_path(target, "--tmpfs"), size)
