"""A place to try things in: a temporary directory on the store's file system, and a launcher of its own."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.errors import LauncherError
from nbcontainer.sandbox import probes
from nbcontainer.sandbox.helper import building, program
from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.network import private
from nbcontainer.sandbox.sandboxed_call import perform
from nbcontainer.sandbox.userns.idmapped_mounts import idmapped_tree
from nbcontainer.store.errors import store_error
from nbcontainer.store.layout import MEMORY, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.spec import ProcLevel
    from nbcontainer.sandbox.userns.idmap import IdMap

_NO_IDMAP = "for volumes whose files keep their owner, put the data on another file system, or add --userns=host"

_NOWHERE = Path("/nonexistent")

_PROBE_SIZE = 1 << 16  # bytes: more than a file system keeps in an inode


class ProbeEnvironment:
    """What doctor tries, done for real, in containers with the map `idmap`; `store` is the store's path (host).

    First `make`, or `make_elsewhere`; at the end `close`, after which nothing is left.
    """

    def __init__(self, store: Path, idmap: IdMap) -> None:
        self.path = store
        self.idmap = idmap
        self.folder = _NOWHERE
        self._store: Store | None = None
        self._launcher: Launcher | None = None
        self._unusable: LauncherError | None = None
        self._not_built = ""
        self._memory: Path | None = None
        self._uppers = 0

    def make(self) -> None:
        """Make the directory in the store's `tmp`; without a store, in the place of `tmp`. Raises `StoreError`."""
        try:
            self._fill(self._place())
        except OSError as error:
            probes.discard(self.folder)
            raise store_error("write to the store", self.path, error) from error

    def _place(self) -> Path:
        self.path = Path(os.path.realpath(self.path))
        if not (self.path / "oci-layout").exists():
            return _nearest(self.path) / f".nbcontainer-doctor-{secrets.token_hex(4)}"
        self._store = Store(self.path, (self.idmap.root_uid, self.idmap.root_gid))
        return self.path / "tmp" / self._store.unique()

    def make_elsewhere(self) -> None:
        """Make it in the directory for temporary files: what has nothing to do with the store can be tried there."""
        self._fill(Path(tempfile.gettempdir()) / f"nbcontainer-doctor-{secrets.token_hex(4)}")

    def _fill(self, place: Path) -> None:
        place.mkdir(mode=0o700)
        self.folder = place
        made = [place / name for name in ("layers", "tmp", "stage")]
        for folder in made:
            folder.mkdir(mode=0o755)
        made += probes.make_lower(place / "layers")
        for path in made:
            self._give(path)
        self._close_to_others(place)
        with (place / "probe").open("xb") as file:
            file.write(bytes(_PROBE_SIZE))
            file.flush()
            os.fsync(file.fileno())

    def _close_to_others(self, top: Path) -> None:
        if self.idmap.root_uid != os.geteuid():
            os.chown(top, os.geteuid(), self.idmap.root_gid)
            top.chmod(0o710)

    def _give(self, path: Path) -> None:
        if self.idmap.root_uid != os.geteuid():
            os.chown(path, self.idmap.root_uid, self.idmap.root_gid)

    @property
    def has_busybox(self) -> bool:
        """Whether the store has an image of that name."""
        return self._store is not None and "busybox" in self._store.index.images()

    @property
    def proc(self) -> ProcLevel:
        """Where a container's /proc comes from. Raises `LauncherError`."""
        self.start()
        assert self._launcher is not None
        return self._launcher.proc

    @property
    def init(self) -> str:
        """Which init an ordinary cell has, and where its file is, or why it is that one. Raises `LauncherError`."""
        self.start()
        assert self._launcher is not None
        connection = self._launcher.connection
        if connection.helper is None:
            return f"interpreted ({self._not_built or connection.without_helper})"
        return f"compiled ({connection.helper.path})"

    def free(self) -> int:
        """Bytes that are free for this user where the directory is."""
        facts = os.statvfs(self.folder)
        return facts.f_bavail * facts.f_frsize

    def start(self) -> None:
        """Start the launcher, in the user namespace of containers. Raises `LauncherError`."""
        if self._unusable is not None:
            raise self._unusable
        if self._launcher is None:
            try:
                building.built()
            except program.Unavailable as error:  # the launcher would say that it is being built
                self._not_built = str(error)
            self._launcher = Launcher(self.folder, self.idmap, preload=(probes.__name__,))
        try:
            assert self._launcher.pid
        except LauncherError as error:
            self._unusable = error
            raise

    def connect(self) -> str:
        """Give a container a private network; return the name of the program. Raises `SandboxError` or `OSError`."""
        found: list[str] = []

        def connect(running: ContainerHandle) -> None:
            assert self._launcher is not None
            found.append(private.connect(self._launcher, running, scratch="tmp/network"))

        self.run("network", before=connect)
        return found[-1]

    def run(self, name: str, *, before: Callable[[ContainerHandle], None] | None = None) -> None:
        """Run a probe (`nbcontainer.sandbox.probes`). Raises `SandboxError` or `OSError`."""
        self.start()
        assert self._launcher is not None
        self._uppers += 1
        upper = (self._memory or self.folder / "tmp") / str(self._uppers)
        # By a relative path: root's launcher may not go where an absolute one leads through directories of root's.
        seen = f"../tmp/{upper.name}" if self._memory is None else str(upper)
        for path in (upper, upper / "diff", upper / "work"):
            path.mkdir(mode=0o755)
            self._give(path)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            steps = probes.TRIALS[name].plan(self.idmap, seen, self._launcher.proc)
            perform(self._launcher, steps, [null] * 3, before=before)
        finally:
            os.close(null)

    def use_memory(self) -> None:
        """Put the write layers of the later probes into memory, as those of cells. Raises `OSError`."""
        self._memory = Path(tempfile.mkdtemp(prefix="nbcontainer-doctor-", dir=MEMORY))
        self._close_to_others(self._memory)

    def map_volume(self) -> None:
        """Make an idmapped mount of the directory, as a volume of root's is. Raises `ContainerError`."""
        self.start()
        assert self._launcher is not None
        facts = self.folder.stat()
        namespace = self._launcher.user_namespace()
        try:
            identity = (facts.st_dev, facts.st_ino)
            os.close(
                idmapped_tree(
                    str(self.folder), namespace, "the volume", recursive=True, hint=_NO_IDMAP, identity=identity
                )
            )
        finally:
            os.close(namespace)

    def close(self) -> None:
        """End the launcher and what it runs, and remove the directory."""
        if self._launcher is not None:
            self._launcher.close()
        probes.discard(self.folder)
        if self._memory is not None:
            probes.discard(self._memory)
        if self._store is not None:
            self._store.close()


def _nearest(path: Path) -> Path:
    """The directory that is there, at or above `path`, and in which the rest of it would be made.

    A link in `path` leads in a circle: nothing can be made there.
    """
    return next((folder for folder in (path, *path.parents) if folder.is_symlink() or folder.exists()), Path("/"))
