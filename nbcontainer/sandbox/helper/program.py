"""The helper's program: built from its one source where a C compiler is available, and executed from a memory file.

A wheel may bring it built. Otherwise it is built once, at the first use, next to this module if that directory is this
user's own, else in the user's cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.libc import machine

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = Path(__file__).with_name("helper.c")
SWITCH = "NBCONTAINER_HELPER"
"""Environment variable: 1 for the compiled init; without it, the interpreted one."""

MACHINES = ("x86_64", "aarch64")

FLAGS = (
    "-std=gnu11 -Os -nostdlib -ffreestanding -static-pie -fpie -fno-stack-protector -fno-asynchronous-unwind-tables "
    "-Wall -Wextra -Werror -Wno-main -Wno-unused-command-line-argument "
    "-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro -s"
).split()

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MFD_EXEC = 0x10  # Linux 6.3; before, every memory file can be executed
_BUILD_LIMIT = 60  # seconds


class Unavailable(Exception):
    """The program is not available on this machine; the text gives the reason, in one clause."""


@dataclass(frozen=True)
class Program:
    """The program: the content of its file, and where that is; None if no directory keeps it."""

    content: bytes
    path: Path | None


def program() -> Program:
    """Return the program, built if it is not there yet. Raises `Unavailable`."""
    if os.environ.get(SWITCH, "") != "1":
        raise Unavailable(f"{SWITCH}=1 is not set")
    if machine() not in MACHINES:
        raise Unavailable(f"it is not available for {machine()}")
    for path in _places():
        if (found := _read(path)) is not None:
            return Program(found, path)
    return _build()


def name(built_for: str = "") -> str:
    """Return the name of the program's file: by its source and its machine, which is this one by default."""
    return f"helper-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}-{built_for or machine()}"


def _places() -> list[Path]:
    """Return where the program may be: beside this module, then in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return [SOURCE.parent / name(), cache / "nbcontainer" / name()]


def _read(path: Path) -> bytes | None:
    """Return the file if no other user could have written it, nor its directory; root's are always good."""
    try:
        with path.open("rb") as file:
            for facts in (os.fstat(file.fileno()), path.parent.stat()):
                if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o022:
                    return None
            return file.read()
    except OSError:
        return None


def _build() -> Program:
    """Build the program, and keep it in the first place that takes it. Raises `Unavailable`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("it is not built, and no C compiler is available")
    content = compiled([compiler])
    return Program(content, _keep(content))


def compiled(compiler: Sequence[str]) -> bytes:
    """Return the file that a compiler (host) with these first arguments makes. Raises `Unavailable`."""
    with tempfile.TemporaryDirectory(prefix="nbcontainer-") as scratch:
        made = Path(scratch) / "helper"
        try:
            built = subprocess.run(
                [*compiler, *FLAGS, "-o", str(made), str(SOURCE)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_BUILD_LIMIT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{compiler[0]} does not run: {error}") from None
        if built.returncode != 0 or not made.exists():
            raise Unavailable(f"{compiler[0]} does not build it")
        return made.read_bytes()


def _keep(content: bytes) -> Path | None:
    """Write the file to the first place that takes it, and return that place; None if none does."""
    for path in _places():
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                temporary.write_bytes(content)
                temporary.chmod(0o644)
                temporary.rename(path)
            finally:
                temporary.unlink(missing_ok=True)
            if _read(path) is not None:
                return path
    return None


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


if __name__ == "__main__":
    program()
