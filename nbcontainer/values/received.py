"""`/out` after a cell: finding and opening the files that the container wrote, by descriptor, and reading them.

Everything here is untrusted: the names, their number, the kinds of files, their sizes and their content. No link is
followed, nothing but a regular file is opened, and sizes are limited.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Any, BinaryIO

from nbcontainer.errors import ValueUnavailable
from nbcontainer.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)
from nbcontainer.sandbox.steps.exchange.values import OUTPUT
from nbcontainer.values.codec import MissingPackage
from nbcontainer.values.registry import codec_of, codecs

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_LIMIT = 4 << 30
"""Bytes of one file that is read into the notebook, by default."""

NAMES_LIMIT = 10_000
"""Names in /out that are looked at."""

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_SAFE = re.compile(r"[^\x20-\x7e]")


def shown(name: str) -> str:
    """Return a name that a container gave, in one line."""
    return _SAFE.sub("?", name) if len(name) < 100 else _SAFE.sub("?", name[:97]) + "..."


def names(directory: int) -> Iterator[str]:
    """Yield the names in `/out`, in the kernel's order. Raises `ValueUnavailable` if there are too many."""
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries):
            if number >= NAMES_LIMIT:
                problem = f"{OUTPUT} has more than {NAMES_LIMIT} names"
                raise ValueUnavailable(problem, hint="let the cell write fewer files there, or use a volume")
            yield entry.name


def find(directory: int, variable: str) -> str:
    """Return the name of the one file `variable.*` in `/out`. Raises `ValueUnavailable` for none and for several.

    A directory counts if there is nothing else: it is not a file, and the error of reading it says so.
    """
    found = sorted(name for name in names(directory) if name.partition(".")[0] == variable)
    if len(found) > 1:
        found = [name for name in found if not _is_directory(directory, name)] or found
    if not found:
        first, *more, last = dict.fromkeys(codec.suffix for codec in codecs())
        hint = f"let the cell write {OUTPUT}/{variable}.{', .'.join([first, *more])} or .{last}"
        raise ValueUnavailable(f"the cell left no file {OUTPUT}/{variable}.*", hint=hint)
    if len(found) > 1:
        listed = ", ".join(map(shown, found[:5]))
        hint = f"name one, as in `--get {variable}={shown(found[0])}`"
        raise ValueUnavailable(f"the cell left several files {OUTPUT}/{variable}.*: {listed}", hint=hint)
    return found[0]


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:  # it has gone
        return True


def open_file(directory: int, name: str, limit: int = SIZE_LIMIT, *, copied: bool = False) -> BinaryIO:
    """Return a file of `/out`, open for reading; the caller closes it. `name` is relative to `/out`.

    With `copied`, it is a copy in memory of as many bytes as the file has: another container may change the file while
    it is read. Raises `ValueUnavailable` for anything but a regular file of at most `limit` bytes, below /out without
    links.
    """
    path = f"{OUTPUT}/{shown(name)}"
    try:
        fd = openat2(directory, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, resolve=_RESOLVE)
    except OSError as error:
        raise ValueUnavailable(f"cannot read {path}: {_reason(error)}", hint=_HINTS.get(error.errno or 0, "")) from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueUnavailable(f"cannot read {path}: it is not a regular file", hint="let the cell write a file")
        if found.st_size > limit:
            problem = f"cannot read {path}: it has {found.st_size} bytes (at most {limit})"
            raise ValueUnavailable(problem, hint="write it to a volume (-v) instead")
        if copied:
            original, fd = fd, _copy(fd, found.st_size, path)
            os.close(original)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def _copy(fd: int, size: int, path: str) -> int:
    """Return a descriptor of a file in memory with the first `size` bytes of a file. Raises `ValueUnavailable`."""
    try:
        made = os.memfd_create("value", os.MFD_CLOEXEC)
        try:
            done = 0
            while done < size and (sent := os.sendfile(made, fd, done, size - done)):
                done += sent
            os.lseek(made, 0, os.SEEK_SET)
        except BaseException:
            os.close(made)
            raise
    except OSError as error:
        raise ValueUnavailable(f"cannot read {path}: {error.strerror}", hint="let the cell write less") from error
    return made


def read_tree(directory: int, name: str, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield a file of `/out`, or the regular files below a directory there, in the order of their names.

    Each has its path after `name`: empty for a file, `/a/b` below a directory. Links and other files there are left
    out. Raises `ValueUnavailable` if there are more than `limit` bytes or NAMES_LIMIT names, or nothing at `name`.
    """
    left, seen, waiting = limit, 0, [""]
    while waiting:
        rest = waiting.pop()
        try:
            fd = openat2(directory, f"{name}{rest}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, resolve=_RESOLVE)
        except OSError as error:
            if rest:  # a link, a closed directory, or one that has gone
                continue
            problem = f"cannot read {OUTPUT}/{shown(name)}: {_reason(error)}"
            raise ValueUnavailable(problem, hint=_HINTS.get(error.errno or 0, "")) from None
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                below = sorted(names(fd), reverse=True)
                seen += len(below)
                if seen > NAMES_LIMIT:
                    problem = f"{OUTPUT} has more than {NAMES_LIMIT} names"
                    raise ValueUnavailable(problem, hint="write fewer files there, or use a volume")
                waiting += [f"{rest}/{one}" for one in below]
            elif stat.S_ISREG(mode):
                data = _content(fd, name, left)
                left -= len(data)
                yield rest, data
            elif not rest:
                problem = f"cannot read {OUTPUT}/{shown(name)}: it is not a regular file"
                raise ValueUnavailable(problem, hint="let the cell write a file")
        finally:
            os.close(fd)


def _content(fd: int, name: str, limit: int) -> bytes:
    """Return the content of an open regular file. Raises `ValueUnavailable` if it has more than `limit` bytes."""
    with open(fd, "rb", closefd=False) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        problem = f"cannot read {OUTPUT}/{shown(name)}: the files are too large together"
        raise ValueUnavailable(problem, hint="write less, or write it to a volume (-v) instead")
    return data


def read(directory: int, name: str, limit: int = SIZE_LIMIT, *, copied: bool = False) -> Any:
    """Return the Python value of a file of `/out`: by the codec of its suffix, else as bytes. For `copied`, see above.

    Raises `ValueUnavailable`.
    """
    with open_file(directory, name, limit, copied=copied) as file:
        return decoded(file, name)


def decoded(file: BinaryIO, name: str) -> Any:
    """Return the Python value of an open file that a container left as `name` in `/out`. Raises `ValueUnavailable`."""
    codec = codec_of(name.rpartition("/")[2].rpartition(".")[2].lower())
    try:
        return file.read() if codec is None else codec.read(file)
    except MissingPackage as error:
        raise ValueUnavailable(f"cannot read {OUTPUT}/{shown(name)}: {error}", hint=error.hint) from None
    except MemoryError:
        hint = "let the cell write less"
        raise ValueUnavailable(f"cannot read {OUTPUT}/{shown(name)}: not enough memory", hint=hint) from None
    except Exception as error:  # whatever a library raises about a file that a container made
        detail = shown(str(error).partition("\n")[0])
        suffix = "" if codec is None else f".{codec.suffix} "
        problem = f"{OUTPUT}/{shown(name)} is not a valid {suffix}file: {detail}"
        raise ValueUnavailable(problem, hint="check how the cell writes it") from None


def _reason(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return "it is a link, or leads out of /out"
    return os.strerror(error.errno or 0)


_HINTS = {
    errno.ENOENT: "let the cell write it there",
    errno.ELOOP: "let the cell write a regular file",
    errno.EXDEV: "let the cell write a regular file",
    errno.EACCES: "let the cell make it readable: `chmod a+r`",
    errno.ENXIO: "let the cell write a regular file",
}
