"""A runner without a sandbox: the room's work on a directory below a test's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Any
from unittest import mock

from nbcontainer.images import sandboxed
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.unpack import unpack
from tests.unit.images.tars import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nbcontainer.images.layers.unpack import UnpackedStream

ROOT = os.geteuid() == 0


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of `path`."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _roots(root: int) -> Iterator[Callable[[], int]]:
    """Yield what opens the root again. It closes what a function leaves open, which ends with a sandbox."""
    found: list[int] = []

    def again() -> int:
        found.append(os.dup(root))
        return found[-1]

    try:
        yield again
    finally:
        for fd in set(found):
            with contextlib.suppress(OSError):  # it is closed
                if os.path.sameopenfile(fd, root):
                    os.close(fd)


class InProcess:
    """`nbcontainer.images.runner.Runner` on the directories of `store`, of one layer at most."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.calls: list[str] = []

    @property
    def single_id(self) -> bool:
        """Owners are kept where root runs the tests."""
        return not ROOT

    def on_directory(
        self,
        function: Callable[..., Any],
        path: str,
        files: Sequence[int] = (),
        *,
        read_only: bool = False,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Calls the function with the store's directory in place of the root."""
        self.calls.append(function.__name__)
        root = os.open(self.store / path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        umask = os.umask(0)
        try:
            with _roots(root) as opened, mock.patch.object(sandboxed, "_root", side_effect=opened):
                return function(files, progress or (lambda _: None), **arguments)
        finally:
            os.umask(umask)
            os.close(root)

    def later(self, chore: Callable[[], object]) -> None:
        """Does it now."""
        chore()

    def on_layers(
        self,
        function: Callable[..., Any],
        lowers: Sequence[str],
        files: Sequence[int] = (),
        *,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """The same on the only layer."""
        (layer,) = lowers
        return self.on_directory(function, f"layers/{layer}/diff", files, progress=progress, **arguments)


class Unpacker:
    """Unpacks archives into fresh roots below `top`, beside a directory that nothing may touch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.witness = top / "outside"
        self.witness.mkdir()
        (self.witness / "secret").write_text("untouched")
        (self.witness / "directory").mkdir()
        self._before = snapshot(self.witness)
        self._count = 0

    def close(self) -> None:
        """Fails if anything changed that is not below a root."""
        assert snapshot(self.witness) == self._before
        roots = {f"root{number}" for number in range(1, self._count + 1)}
        assert {path.name for path in self.top.iterdir()} - roots <= {"outside", "archive", "blob"}

    @property
    def root(self) -> Path:
        """The newest root."""
        return self.top / f"root{self._count}"

    def __call__(
        self,
        archive: bytes,
        *,
        pipe: bool = False,
        **options: Any,
    ) -> UnpackedStream:
        """Unpacks an archive, from a file or through a pipe, and stores its blob at `blob`."""
        (self.top / "archive").write_bytes(archive)
        if not pipe:
            with opened(self.top / "archive") as fd:
                return self.read(fd, **options)
        with subprocess.Popen(["cat", self.top / "archive"], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            return self.read(cat.stdout.fileno(), **options)

    def read(
        self,
        fd: int,
        *,
        whiteouts: bool = False,
        limits: Limits | None = None,
        single_id: bool = not ROOT,
        progress: Callable[[int], None] | None = None,
    ) -> UnpackedStream:
        """Unpacks the archive that a descriptor reads into a new root."""
        self._count += 1
        self.root.mkdir(mode=0o755)
        with (
            opened(self.root, os.O_DIRECTORY) as root,
            opened(self.top / "blob", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as blob,
        ):
            return unpack(
                root,
                fd,
                blob,
                limits=limits or Limits(),
                single_id=single_id,
                progress=progress,
                whiteouts=whiteouts,
            )

    @property
    def blob(self) -> bytes:
        """The blob of the last archive."""
        return (self.top / "blob").read_bytes()

    def names(self) -> list[bytes]:
        """What is below the newest root, sorted."""
        return sorted(snapshot(self.root).keys() - {b"."})
