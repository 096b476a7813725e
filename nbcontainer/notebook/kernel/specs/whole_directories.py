"""Directories of kernelspecs that are there whole or not at all, whenever the process that writes them is killed.

A new directory gets its name when it is complete; one that is removed loses its name first. A process that is killed in
between leaves a directory with a name of `_UNFINISHED`: the next call of `write` or `remove` beside it removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from nbcontainer.store.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_UNFINISHED = ".nbcontainer-unfinished-"


def write(target: Path, files: Mapping[str, bytes], main: str) -> None:
    """Write a directory `target` (host) with these files; what is there with that name is replaced.

    A reader that finds the file `main` finds a complete one, the old or the new. Raises `OSError`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(target.parent)
    with _unfinished(target.parent) as place:
        for name, data in files.items():
            (place / name).write_bytes(data)
        if target.is_dir() and not target.is_symlink():
            _replace_files(place, target, main)
        else:
            target.unlink(missing_ok=True)
            place.rename(target)


def _replace_files(place: Path, target: Path, main: str) -> None:
    """Move the files of `place` over those in `target`, `main` last, and remove what is only in `target`."""
    names = sorted((path.name for path in place.iterdir()), key=lambda name: name == main)
    for name in names:
        (place / name).replace(target / name)
    for path in target.iterdir():
        if path.name in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove(target: Path) -> None:
    """Remove the directory `target` (host), or the link with that name. Raises `OSError`."""
    _remove_unfinished(target.parent)
    if target.is_symlink():
        target.unlink()
        return
    with _unfinished(target.parent) as place:
        target.rename(place / target.name)


@contextlib.contextmanager
def _unfinished(parent: Path) -> Iterator[Path]:
    """Yield a new directory in `parent`, locked (flock(2)); it is removed at the end if it still has its name."""
    place = parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(fd)
        shutil.rmtree(place, ignore_errors=True)


def _remove_unfinished(parent: Path) -> None:
    """Remove what killed processes left in `parent`. A directory that another process has locked stays."""
    for place in parent.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if try_lock(fd):
                    shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(fd)
