"""The host's files and directories that a person names, opened so that no container chooses what is opened.

A path is walked with all its links known, those that a container could have made are refused (`writable`), and what is
opened is what was looked at. A cell may leave a pipe or a device where a file is expected: opening one may wait for
ever, or write over a disk. So none is opened by its name, whoever made it, but the null device. What is meant to be
read from or written to is handed over as a descriptor: by the shell (`< PIPE`, `> PIPE`), or as /dev/stdin,
/dev/stdout, /dev/fd/N, which here are this process's descriptors and no paths.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.linux.paths import resolve, resolve_existing
from nbcontainer.store import writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.linux.paths import Link
    from nbcontainer.store.layout import Store

_NULL = os.makedev(1, 3)
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})")
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def own_descriptor(path: Path) -> int | None:
    """The number of this process's descriptor that a path stands for, None for a path of any other sort."""
    found = _DESCRIPTOR.fullmatch(str(path))
    return int(found[1]) if found else _STREAMS.get(str(path))


def open_file(path: Path) -> tuple[int, tuple[Link, ...]]:
    """Opens a file or directory to read; the links that led to it are the caller's to check, before it reads.

    The caller closes the descriptor. Raises `OSError`, and `ImageError` for a pipe, a socket or a device.
    """
    if (own := own_descriptor(path)) is not None:
        return os.dup(own), ()
    with resolve(path) as place:
        if not (stat.S_ISREG(place.mode) or stat.S_ISDIR(place.mode) or is_null(os.fstat(place.fd))):
            hint = "hand it over as standard input: write /dev/stdin, and < PIPE"
            raise ImageError(f"cannot read {path}: it is a pipe, a socket or a device", hint=hint)
        return place.open(os.O_RDONLY | os.O_NOCTTY), place.links


@contextlib.contextmanager
def directory(store: Store, path: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor (O_PATH) of a directory to write into, made with those above it if `make` says so.

    Raises `OSError`, `LinkRefused`.
    """
    place, missing = resolve_existing(path) if make else (resolve(path), ())
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(place).fd
        writable.check(store, place.links)
        for name in missing:
            folder = make_directory(folder, name)
            stack.callback(os.close, folder)
        yield folder


def check_path(store: Store, path: Path) -> None:
    """Raises `LinkRefused` for a path that another program is to write to, as far as it is there: a race is not met."""
    with contextlib.suppress(OSError), resolve_existing(path)[0] as place:
        writable.check(store, place.links)


def make_directory(folder: int, name: str) -> int:
    """A descriptor (O_PATH) of the directory `name` in `folder`, made where it is missing. The caller closes it.

    Raises `OSError`, for a link too.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def open_null(folder: int, name: str) -> int:
    """A descriptor to write to the null device `name` in `folder`, for the caller to close. Raises `OSError`."""
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not is_null(os.fstat(found)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        return os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def is_null(facts: os.stat_result) -> bool:
    """Whether it is the null device (null(4))."""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == _NULL
