"""Writing one file into a tree. It runs in a sandbox with the tree as its root: nothing is imported later."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from nbcontainer.errors import ValueUnavailable
from nbcontainer.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = ".nbcontainer-put-"
_CHUNK = 1 << 20


def write_file(root: int, path: str, source: int, mode: int, own: str = "") -> None:
    """Write what `source` reads to `path` (absolute) below `root`, whole or not at all.

    With the source's `own` name, it is written under that into a directory at the path, or if that ends with a slash.
    If this process is killed meanwhile, a file with another name may stay beside it. Links on the way stay in the tree.
    Raises `ValueUnavailable` if a part of the path is not a directory, or if the path is one, and `OSError`.
    """
    above, _, name = path.rpartition("/")
    try:
        folder = _opened(root, above)
        try:
            if own and (not name or _is_directory(root, path)):
                inner, name = _opened(root, path), own
                os.close(folder)
                folder = inner
            _write(folder, name, source, mode)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENAMETOOLONG):
            raise
        problem = f"cannot write {path} in the container: {os.strerror(error.errno)}"
        raise ValueUnavailable(problem, hint="choose another path") from None


def _is_directory(root: int, path: str) -> bool:
    try:
        os.close(openat2(root, path, _DIRECTORY, resolve=_INSIDE))
    except OSError:
        return False
    return True


def _opened(root: int, path: str) -> int:
    """Return a descriptor of a directory, which is made with those above it if it does not exist."""
    folder = os.dup(root)
    walked = ""
    for part in filter(None, path.split("/")):
        walked += f"/{part}"
        try:
            below = openat2(root, walked, _DIRECTORY, resolve=_INSIDE)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=folder)
            below = openat2(root, walked, _DIRECTORY, resolve=_INSIDE)
        os.close(folder)
        folder = below
    return folder


def _write(folder: int, name: str, source: int, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    temporary = _TEMPORARY + os.urandom(8).hex()  # another one may be written, or be left of one that was killed
    fd = os.open(temporary, _NEW, 0o600, dir_fd=folder)
    try:
        try:
            while data := os.read(source, _CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise
