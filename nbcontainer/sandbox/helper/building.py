"""Builds the helper's program from its one source, where a C compiler is available.

`python -m nbcontainer.sandbox.helper.building` builds it now. A notebook does not wait for it:
`BackgroundBuild` is a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.process import find_program
from nbcontainer.sandbox.helper.program import SOURCE, NotBuilt, Program, Unavailable, is_own, places, program, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FLAGS = (
    "-std=gnu11 -Os -nostdlib -ffreestanding -static-pie -fpie -fno-stack-protector -fno-asynchronous-unwind-tables "
    "-Wall -Wextra -Werror -Wno-main -Wno-unused-command-line-argument "
    "-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro -s"
).split()

_BUILD_LIMIT = 60  # seconds
_BEHIND_ALL = 19  # of nice(2): the first cells come first
_BOOT = (
    "import sys; sys.path += sys.argv[1:]; from nbcontainer.sandbox.helper.building import in_background; "
    "in_background()"
)


class BackgroundBuild:
    """The one build that this process has begun, as a process of its own. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, import_path: Sequence[str]) -> None:
        """Start the process unless it runs. It does not end with this one: the next one finds what it made.

        `import_path` are the directories that it imports this package from.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", "-c", _BOOT, *import_path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                )

    def is_over(self) -> bool:
        """Return whether the process has ended."""
        with self._lock:
            return self._process is None or self._process.poll() is not None


BACKGROUND = BackgroundBuild()


def in_background() -> None:
    """Build the program, in a process that `BackgroundBuild` has started. Only `doctor` shows why a build fails."""
    os.nice(_BEHIND_ALL)
    with contextlib.suppress(Unavailable):
        built()


def built() -> Program:
    """Return the program, built now if it is not there. Waits for another build of it. Raises `Unavailable`."""
    try:
        return program()
    except NotBuilt:
        pass
    compiler = find_program("cc") or find_program("gcc") or find_program("clang")
    if compiler is None:
        raise Unavailable("it is not built, and no C compiler is available")
    path = _place()
    with _alone(path):
        found = read(path)
        if found is None:
            found = compiled([compiler])
            _keep(path, found)
    return Program(found, path)


def compiled(compiler: Sequence[str]) -> bytes:
    """Return the file that a compiler (host) with these first arguments makes. Raises `Unavailable`."""
    with tempfile.TemporaryDirectory(prefix="nbcontainer-") as scratch:
        made = Path(scratch) / "helper"
        try:
            ended = subprocess.run(
                [*compiler, *FLAGS, "-o", str(made), str(SOURCE)],
                cwd="/",  # it looks for other programs, too
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_BUILD_LIMIT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"{compiler[0]} does not run: {error}") from None
        if ended.returncode != 0 or not made.exists():
            raise Unavailable(f"{compiler[0]} does not build it")
        return made.read_bytes()


def _place() -> Path:
    """Return the first place whose directory is this user's own and takes files. Raises `Unavailable`."""
    for path in places():
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_own(path.parent.stat()) and os.access(path.parent, os.W_OK | os.X_OK):
                return path
    raise Unavailable("it is not built, and no directory keeps it")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process builds what is kept at `path`. Raises `Unavailable`."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"it is not built: {error.strerror}: {lock}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # as long as a build takes, which has a limit
        yield
        lock.unlink(missing_ok=True)  # processes that wait find the program; if it failed, they need the same lock
    finally:
        os.close(fd)


def _keep(path: Path, content: bytes) -> None:
    """Write the file, which is there as a whole or not at all. Raises `Unavailable`."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        try:
            temporary.write_bytes(content)
            temporary.chmod(0o644)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"it is not built: {error.strerror}: {path}") from None


if __name__ == "__main__":
    try:
        print(built().path)
    except Unavailable as error:
        sys.exit(f"the compiled init is not available: {error}")
