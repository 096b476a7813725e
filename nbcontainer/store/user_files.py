"""Host files and directories that the user names, opened so that containers do not choose what is opened.

A path is walked and all its links are recorded. Links that a container could have made are refused (`writable`). The
file that is opened is the one that was checked. A cell can leave a pipe or a device in the place of a file: to open it
can block for ever, or overwrite a disk. So pipes and devices are never opened by name, except the null device. The user
passes them as descriptors: by the shell (`< PIPE`, `> PIPE`), or as /dev/stdin, /dev/stdout or /dev/fd/N, which here
are this process's descriptors instead of paths.
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
_SETTINGS_MAX = 1 << 24
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})")
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def own_descriptor(path: Path) -> int | None:
    """Return the number of this process's descriptor that a path stands for, or None for any other path."""
    found = _DESCRIPTOR.fullmatch(str(path))
    return int(found[1]) if found else _STREAMS.get(str(path))


def open_file(path: Path) -> tuple[int, tuple[Link, ...]]:
    """Open a file or directory to read; return its descriptor and the links that led to it.

    The caller checks the links before it reads, and closes the descriptor. Raises `OSError`, and `ImageError` for a
    pipe, a socket or a device.
    """
    if (own := own_descriptor(path)) is not None:
        return os.dup(own), ()
    with resolve(path) as place:
        if not (stat.S_ISREG(place.mode) or stat.S_ISDIR(place.mode) or is_null(os.fstat(place.fd))):
            hint = "pass it as standard input: write /dev/stdin, and < PIPE"
            raise ImageError(f"cannot read {path}: it is a pipe, a socket or a device", hint=hint)
        return place.open(os.O_RDONLY | os.O_NOCTTY), place.links


def read_settings(path: Path) -> bytes:
    """Return the content of a settings file of the user, such as a registry's login. Links are followed.

    A container that has the user's home as a volume may have left something else there. Raises `OSError`, also for a
    file that is not regular (unless it is a descriptor of this process) or is larger than 16 MiB.
    """
    try:
        fd, _ = open_file(path)
    except ImageError:
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device", str(path)) from None
    try:
        with open(fd, "rb", closefd=False) as file:  # raises `IsADirectoryError`
            data = file.read(_SETTINGS_MAX + 1)
    finally:
        os.close(fd)
    if len(data) > _SETTINGS_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


@contextlib.contextmanager
def directory(store: Store, path: Path, *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor (O_PATH) of a directory to write into. With `make`, it and those above it are made if missing.

    Raises `OSError`, `LinkRefused`.
    """
    place, missing = resolve_existing(path) if make else (resolve(path), ())
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(place).fd
        writable.check(store, place.links)
        if not stat.S_ISDIR(place.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        for name in missing:
            folder = make_directory(folder, name)
            stack.callback(os.close, folder)
        yield folder


def check_path(store: Store, path: Path) -> None:
    """Raise `LinkRefused` for a path that another program will write to, as far as it exists. A race is possible."""
    with contextlib.suppress(OSError), resolve_existing(path)[0] as place:
        writable.check(store, place.links)


def make_directory(folder: int, name: str) -> int:
    """Return a descriptor (O_PATH) of the directory `name` in `folder`, made if it is missing. The caller closes it.

    Raises `OSError`, for a link too.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def open_null(folder: int, name: str) -> int:
    """Return a descriptor that writes to the null device `name` in `folder`. The caller closes it. Raises `OSError`."""
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not is_null(os.fstat(found)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        return os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def is_null(facts: os.stat_result) -> bool:
    """Whether the file is the null device (null(4))."""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == _NULL
