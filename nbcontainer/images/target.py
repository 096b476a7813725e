"""Host files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.compression import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COMPRESSIONS = {
    ".gz": Compression.GZIP,
    ".tgz": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".tzst": Compression.ZSTD,
}


def compression_of(target: Path) -> Compression:
    """How an archive is compressed, by its file's name. Raises `UsageError` for what is not written here."""
    if target.suffix in (".xz", ".bz2", ".txz", ".tbz2"):
        raise UsageError(f"{target.suffix} is not written", hint="use .tar, .tar.gz or .tar.zst")
    return _COMPRESSIONS.get(target.suffix, Compression.NONE)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[int]:
    """A descriptor of a new file that takes `target`'s place at the end; pipes and devices are written to.

    The file has no name until it is whole, where the file system knows such files (open(2): O_TMPFILE): then nothing
    of it stays, whatever ends this process. Raises `ImageError`.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            fd, named = os.open(target, os.O_WRONLY | os.O_CLOEXEC), None
        else:
            fd, named = _new_file(part)
        try:
            yield fd
            if named is False:
                # With a directory's descriptor Python calls linkat(2), which alone can follow; the path is absolute.
                os.link(f"/proc/self/fd/{fd}", part, src_dir_fd=fd, follow_symlinks=True)
        finally:
            os.close(fd)
        if named is not None:
            part.replace(target)
    except BrokenPipeError:
        raise  # whoever read it has had enough
    except OSError as error:
        hints = {
            errno.ENOENT: f"mkdir -p {target.parent}",
            errno.EISDIR: "name a file in it",
            errno.ENOSPC: "free some space",
        }
        hint = hints.get(error.errno or 0, "check the path's permissions")
        raise ImageError(f"cannot write {target}: {error.strerror or error}", hint=hint) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[int, bool]:
    """A descriptor of a new file on `path`'s file system, and whether it has that name already."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path.parent, flags | os.O_TMPFILE, 0o666), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
