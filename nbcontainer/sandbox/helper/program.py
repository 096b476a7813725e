"""The helper's program: where it is, and how it becomes a memory file that is executed.

A wheel brings it built. Where a C compiler is available, `building` makes it of its one source: next to this module if
that directory is this user's own, else in the user's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from nbcontainer.linux.libc import machine

SOURCE = Path(__file__).with_name("helper.c")
SWITCH = "NBCONTAINER_HELPER"
"""Environment variable: 0 for the interpreted init; without it, the compiled one where it is available."""

MACHINES = ("x86_64", "aarch64")

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MFD_EXEC = 0x10  # Linux 6.3; before, every memory file can be executed


class Unavailable(Exception):
    """The program is not available on this machine; the text gives the reason, in one clause."""


class NotBuilt(Unavailable):
    """The program is in none of its places yet."""


@dataclass(frozen=True)
class Program:
    """The program: the content of its file, and where that is."""

    content: bytes
    path: Path


def program() -> Program:
    """Return the program. Raises `NotBuilt` if a compiler could make it, else `Unavailable`."""
    if os.environ.get(SWITCH) == "0":
        raise Unavailable(f"{SWITCH}=0 is set")
    if machine() not in MACHINES:
        raise Unavailable(f"it is not available for {machine()}")
    for path in places():
        if (found := read(path)) is not None:
            return Program(found, path)
    raise NotBuilt("it is not built yet")


def name(built_for: str = "") -> str:
    """Return the name of the program's file: by its source and its machine, which is this one by default."""
    return f"helper-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}-{built_for or machine()}"


def places() -> list[Path]:
    """Return where the program may be: beside this module, then in the user's cache, if there is a home."""
    found = [SOURCE.parent / name()]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:
        return found
    return [*found, cache / "nbcontainer" / name()]


def read(path: Path) -> bytes | None:
    """Return the file if no other user could have written it, nor its directory; root's are always good."""
    try:
        with path.open("rb") as file:
            if is_own(os.fstat(file.fileno())) and is_own(path.parent.stat()):
                return file.read()
    except OSError:
        pass
    return None


def is_own(facts: os.stat_result) -> bool:
    """Return whether no user but this one and root can write to a file or directory."""
    return facts.st_uid in (0, os.geteuid()) and not facts.st_mode & 0o022


def memory_file(content: bytes) -> int:
    """Return a sealed memory file (memfd_create(2)) that can be executed. The caller closes it. Raises `OSError`."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("nbcontainer-init", flags | _MFD_EXEC)
    except OSError:
        fd = os.memfd_create("nbcontainer-init", flags)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
