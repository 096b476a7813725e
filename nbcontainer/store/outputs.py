"""Files of the user that are written whole or not at all, in a directory that containers may share.

They may be large and can be made again, so they are not synced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.store import user_files
from nbcontainer.store.errors import path_advice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.store.layout import Store


@contextlib.contextmanager
def replacing(store: Store, target: Path) -> Iterator[int]:
    """Yield a descriptor of a new file that replaces `target` (host) at the end.

    A link with that name is replaced and not followed. A directory, a pipe, a socket or a device is refused, except the
    null device. /dev/stdout and /dev/fd/N are this process's own descriptors: they are written to. Raises `ImageError`,
    and `LinkRefused` if a link that a container could have made leads to the directory.
    """
    is_open = False
    try:
        if (own := user_files.own_descriptor(target)) is not None:
            with _closing(os.dup(own)) as fd:
                is_open = True
                yield fd
            return
        with user_files.directory(store, target.parent) as folder, _new(folder, target) as fd:
            is_open = True
            yield fd
    except BrokenPipeError:
        raise  # the reader closed the pipe early: no error of this file
    except OSError as error:
        raise _failed(target, error, is_open=is_open) from error


class _Unchanged(Exception):
    """Ends `replacing` before anything is replaced."""


def check(store: Store, target: Path) -> None:
    """Raise what `replacing` raises if `target` (host) cannot be written. It does not change."""
    with contextlib.suppress(_Unchanged), replacing(store, target):
        raise _Unchanged


def _failed(target: Path, error: OSError, *, is_open: bool) -> ImageError:
    if error.errno == errno.ENOENT and is_open:  # of something that goes into the file
        missing = f"{error.filename!r} was there and is not" if error.filename else error.strerror
        return ImageError(f"cannot write {target}: {missing}", hint="try again when nothing changes the files")
    hints = {
        errno.ENOENT: f"mkdir -p {shlex.quote(str(target.parent))}",
        errno.EISDIR: "name a file in it",
    }
    hint = hints.get(error.errno or 0) or path_advice(error)
    return ImageError(f"cannot write {target}: {error.strerror or error}", hint=hint)


def _new(folder: int, target: Path) -> contextlib.AbstractContextManager[int]:
    """Yield a new file in a directory, if the file with its name can be replaced; or the null device, if it is that."""
    if target.name in ("", ".."):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    try:
        facts = os.stat(target.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return put(folder, target.name)
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if user_files.is_null(facts):
        return _closing(user_files.open_null(folder, target.name))
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)):
        hint = "name another file, or redirect standard output to it: -o - > PIPE"
        raise ImageError(f"cannot write {target}: it is a pipe, a socket or a device", hint=hint)
    return put(folder, target.name)


@contextlib.contextmanager
def put(folder: int, name: str) -> Iterator[int]:
    """Yield a descriptor of a new file that gets `name` in a directory at the end, and replaces the file of that name.

    The file has no name until it is whole, if the file system supports such files (open(2): O_TMPFILE): then nothing
    of it stays, however this process ends. Its first name cannot be guessed. Raises `OSError`.
    """
    part = f".nbcontainer-{secrets.token_hex(8)}"
    try:
        fd, named = _new_file(folder, part)
        with _closing(fd):
            yield fd
            if not named:
                # With a directory's descriptor Python calls linkat(2), which alone can follow; the path is absolute.
                os.link(f"/proc/self/fd/{fd}", part, dst_dir_fd=folder, follow_symlinks=True)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=folder)


def _new_file(folder: int, name: str) -> tuple[int, bool]:
    """Return a descriptor of a new file on a directory's file system, and whether the file has that name already."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o666, dir_fd=folder), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder), True


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
