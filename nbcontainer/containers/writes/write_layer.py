"""Write layers: the directories that overlay writes a cell's changes to.

Each cell makes one and removes one, with a dozen calls each: paths are strings here, since `Path` takes longer than
the calls.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host
from nbcontainer.images.comparison import root_directory
from nbcontainer.images.trash import discard, remove_tree
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.spec import Overlay
from nbcontainer.sandbox.steps.rootfs import BELOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.writes.host_roots import HostView
    from nbcontainer.containers.writes.root_mount import RootMount
    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store

# What overlay makes in a work directory (fs/overlayfs/super.c): directories of mode 0 and a file.
_WORK = ("/work", "/work/incompat", "/work/incompat/volatile")
_DIRTY = "/work/incompat/volatile/dirty"
_REMOVED = ("/index", *reversed(_WORK))
_SECOND, _THIRD, _COPY, _HELD = "second", "third", "copy", "held"
"""Directories beside `diff`, for a moment: see `second_overlay` and `replace_uppers`."""


class WriteView:
    """The changes of a running cell so far, in any process: its upper directories.

    `id` is the name of their directory in the store's `tmp`, `lowers` are the layers below, the topmost first, and
    `parts` the machine's directories (absolute) that have their own upper directory: `diff.0` and so on. `runner` looks
    at them where this process may not.
    """

    has_root: ClassVar[bool] = True
    """Whether a change of the upper directory itself is one of the cell's."""

    def __init__(
        self, store: Store, runner: Runner, upper: str, lowers: tuple[str, ...], parts: tuple[str, ...] = ()
    ) -> None:
        self.store = store
        self.runner = runner
        self.id = upper
        self.path = store.path / "tmp" / upper
        self.lowers = lowers
        self.parts = parts
        self.mount_points: tuple[str, ...] = ()
        """Directories of the root that something is mounted on for this cell alone: not changes of the cell."""

    def changed(self) -> bool:
        """Return whether the cell has changed anything."""
        return bool(self.filled())

    def changed_parts(self) -> list[tuple[str, str]]:
        """Return the changed directories of the machine: (name of the upper directory in `path`, directory)."""
        filled = self.filled()
        names = ((f"diff.{number}", part) for number, part in enumerate(self.parts))
        return [(name, part) for name, part in names if name in filled]

    def filled(self) -> list[str]:
        """Return the names of the upper directories that are not empty, and the root's if the root itself changed."""
        names = ("diff", *(f"diff.{number}" for number in range(len(self.parts))))
        try:
            found = [name for name in names if self._has_something(name)]
        except PermissionError:  # a cell closed / itself to the user of this process
            return list(self.examine()["filled"])
        return found if found or not self.has_root or not self._root_changed() else ["diff"]

    def examine(self) -> dict[str, Any]:
        """Return what `nbcontainer.images.sandboxed.examine_uppers` finds in a sandbox."""
        where = f"tmp/{self.id}"
        with contextlib.suppress(OSError):  # in memory, `tmp` has links, which lead nowhere in a sandbox
            where = os.path.dirname(os.readlink(f"{self.path}/diff"))
        below = [os.open(self.lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)] if self.has_root else []
        try:
            found: dict[str, Any] = self.runner.on_directory(sandboxed.examine_uppers, where, below, read_only=True)
        finally:
            protocol.close(below)
        return found

    def _root_changed(self) -> bool:
        """Return whether the root directory itself differs from that of the layer below, as `make` left it."""
        try:
            made = os.stat(self.path).st_mtime_ns
            return root_directory.changed(f"{self.path}/diff", self.lower, made)
        except OSError:
            return False

    @property
    def lower(self) -> str:
        """The directory (host) of the topmost layer below: its own owner, mode and times are those of the root."""
        return f"{self.store.path}/layers/{self.lowers[0]}/diff"

    def _has_something(self, name: str) -> bool:
        with os.scandir(f"{self.path}/{name}") as entries:
            return next(entries, None) is not None


class WriteLayer(WriteView):
    """A cell's upper and work directories, in the store's `tmp` until the cell ends; cleaned up after a crash.

    `lowers` are the layers below it, the topmost first; `below` is the machine below those, for the image `host`.
    `name` is for an anonymous container on it. With `in_memory`, which the store decides, the directories are in the
    store's `memory`, and `tmp` has links to them. `mount` is there if the launcher has mounted it as a root.
    """

    moves: ClassVar[bool] = True
    """Whether it can move to the store's `layers`."""

    def __init__(self, store: Store, runner: Runner, lowers: tuple[str, ...], below: HostView | None = None) -> None:
        super().__init__(store, runner, store.unique(), lowers, below.parts if below is not None else ())
        self.name = secrets.token_hex(6)
        self.in_memory = store.in_memory
        self._home = store.memory / self.id if self.in_memory else self.path
        self.mount: RootMount | None = None
        self.kept = False
        """Whether the upper directory has become a layer."""
        self.reusable = False
        """Whether another container may have it, if the one that had it has changed nothing (`leaves_root`)."""
        self.shared = True
        """Whether another process may have a descriptor of its overlay when its container has ended (`plan.shares`)."""
        self._aside: list[str] = []  # the work directory of a layer that was kept, and upper directories that are held
        places = (f"../tmp/{self.id}/diff", f"../tmp/{self.id}/work")
        self.root = (
            Overlay((*(f"{layer}/diff" for layer in lowers), f"../{BELOW}"), *places)
            if below is None
            else below.root(lowers, places)
        )

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What follows `diff` and `work` in the names of its directories: of the root, and of each part."""
        return ("", *(f".{number}" for number in range(len(self.parts))))

    @property
    def used(self) -> bool:
        """Whether a dead container has mounted it: a volatile upper cannot be mounted twice (overlayfs.rst)."""
        for suffix in self.suffixes:
            work = self._home / f"work{suffix}" / "work"
            with contextlib.suppress(OSError):  # overlay has not made it
                work.chmod(0o700)
                if (work / "incompat").exists():
                    return True
        return False

    def make(self) -> None:
        """Make the directories; none if that fails. Raises `OSError`.

        The upper directory has the mode, times and attributes of the image's root, since the merged root takes them
        (overlayfs.rst). An owner other than the containers' root is set by a step, which may (`Overlay.give`).
        """
        try:
            self._make()
        except BaseException:
            self.remove()
            raise

    def _make(self) -> None:
        self.store.new_directory(self.path, give=bool(self.parts))
        if self.in_memory:
            self.store.use_memory()  # another process may have removed it while it was empty
            self.store.new_directory(self._home, give=bool(self.parts))
        for suffix in self.suffixes:
            for name in (f"diff{suffix}", f"work{suffix}"):
                self.store.new_directory(f"{self._home}/{name}")
                if self.in_memory:
                    (self.path / name).symlink_to(self._home / name)
        self._match_lower()
        for number, part in enumerate(self.parts):
            self._like(f"diff.{number}", os.stat(part))

    def _match_lower(self) -> None:
        facts = os.stat(self.lower)
        self._like("diff", facts)
        root_directory.match(f"{self._home}/diff", self.lower, facts)
        self._match_owner(facts)

    def _match_owner(self, facts: os.stat_result) -> None:
        if (facts.st_uid, facts.st_gid) != self.store.owner:
            self.root = replace(self.root, give=True)

    def _like(self, name: str, facts: os.stat_result) -> None:
        """Give a new directory the mode of another one (host)."""
        mode = stat.S_IMODE(facts.st_mode)
        if mode != 0o755:
            os.chmod(f"{self._home}/{name}", mode)

    def filled(self) -> list[str]:
        """See `WriteView.filled`. The marks of a root that others had show at once that nothing has changed."""
        return [] if self.is_as_mounted else super().filled()

    @property
    def is_as_mounted(self) -> bool:
        """Whether its root is mounted for others, too, and nothing in it has changed so far."""
        return self.mount is not None and self.mount.is_as_mounted(str(self.path))

    @property
    def can_stay_mounted(self) -> bool:
        """Whether its root is one overlay on the store's disk, with the owner that the store gives it."""
        return self.root.host is None and not (self.parts or self.root.give or self.in_memory)

    def unmount(self) -> None:
        """Unmount the root that the launcher has mounted, if it has. A container that uses it has it to its end."""
        if self.mount is not None:
            self.mount.close()
            self.mount = None

    def begin(self) -> None:
        """A cell writes to it from now on."""

    def remove_mount_points(self, runner: Runner) -> None:
        """Remove the `mount_points` that are empty. The layer must not be mounted any more."""
        for name in self.mount_points:
            try:
                (self._home / "diff" / name).rmdir()
            except PermissionError:  # the cell changed the mode of / itself
                runner.on_directory(sandboxed.remove_empty, f"tmp/{self.id}/diff", names=list(self.mount_points))
            except OSError:
                pass

    @contextlib.contextmanager
    def second_overlay(self, suffix: str) -> Iterator[tuple[str, str, str, str]]:
        """Yield the directories of another overlay with the work directory of one of the `suffixes`.

        They are a lower directory, an empty upper directory, the work directory, without what overlay has made in it,
        and one more empty directory; relative to the store's `layers`, or absolute. Raises `OSError`.
        """
        home = str(self._home) if self.in_memory else f"../tmp/{self.id}"  # others may not look into the store's parent
        _empty_work(f"{self._home}/work{suffix}")
        with contextlib.ExitStack() as stack:
            for name in (_SECOND, _THIRD):
                path = f"{self._home}/{name}"
                self.store.freeing(functools.partial(self.store.new_directory, path))
                stack.callback(_remove_empty, path)
            yield f"../{BELOW}", f"{home}/{_SECOND}", f"{home}/work{suffix}", f"{home}/{_THIRD}"

    def replace_uppers(self, runner: Runner) -> None:
        """Put a copy in the place of each upper directory. What holds the one before cannot change the copy.

        The one before goes aside, as the work directory does in `keep`: its holder may write while it is removed.
        Raises `OSError`, and what a sandbox raises.
        """
        home = str(self._home)
        where = home if self.in_memory else f"tmp/{self.id}"
        self.store.new_directory(f"{home}/{_HELD}")
        before = os.stat(home)
        os.chown(home, *self.store.owner)  # the containers' root renames what is in it
        try:
            for suffix in self.suffixes:
                self.store.new_directory(f"{home}/{_COPY}")
                runner.on_directory(
                    sandboxed.replace_by_copy, where, directory=f"diff{suffix}", copy=_COPY, aside=_HELD
                )
        except BaseException:
            for name in (_COPY, _HELD):  # in memory, nothing else would remove them
                remove_tree(self.store, runner, self._home / name)
            raise
        os.chown(home, before.st_uid, before.st_gid)
        os.rename(f"{home}/{_HELD}", f"{home}h")
        self._aside.append(f"{self.path}h")
        if self.in_memory:
            aside = self.store.new_directory(f"{self.path}h")
            for suffix in self.suffixes:
                os.symlink(f"{home}h/diff{suffix}", f"{aside}/diff{suffix}")

    def keep(self, runner: Runner) -> str:
        """Make the upper directory a layer; return its id. It must not be mounted any more (overlayfs.rst)."""
        self.unmount()
        place = self.store.path / "layers" / self.id
        found = self.changed_parts()
        if found:
            home = str(self._home) if self.in_memory else f"tmp/{self.id}"
            host.merge_parts(self.store, runner, home, found, self.lowers[-1])
        try:
            if self.in_memory:
                self.store.layers.make_private(self.id)
                (self.path / "diff").rename(place / "diff")
            else:
                self._strip()
                self.store.layers.adopt(self.path, self.id)
            if found:
                host.write_beside(self.store, self.id, [part for _, part in found])
            self.kept = True
        except BaseException:
            discard(self.store, runner, [place])
            raise
        return self.id

    def _strip(self) -> None:
        """Leave nothing but `diff`, and be the owner of the directory around it.

        The work directory goes aside, by a name of this session that a cleanup removes: `remove` removes it later.
        """
        self._aside.append(f"{self._home}w")
        os.rename(f"{self._home}/work", f"{self._home}w")
        if not self.parts:
            return
        for number in range(len(self.parts)):
            _remove_work(f"{self._home}/work.{number}")
            with contextlib.suppress(OSError):
                os.rmdir(f"{self._home}/diff.{number}")
        os.chown(self._home, os.geteuid(), os.getegid())

    def remove(self) -> bool:
        """Remove it as overlay leaves it; return False if it still has a cell's files."""
        self.unmount()
        for work in self._aside:  # those that are held are not empty
            _remove_work(work)
        home = str(self._home)
        for suffix in self.suffixes:
            _remove_work(f"{home}/work{suffix}")
            if suffix or not self.kept:  # a layer in memory stays there, also an empty one
                with contextlib.suppress(OSError):
                    os.rmdir(f"{home}/diff{suffix}")
        with contextlib.suppress(OSError):
            os.rmdir(home)
            if not (self.in_memory or self._aside):
                return True
        if self.in_memory:
            self._remove_links()
        return not self.left

    @property
    def left(self) -> list[Path]:
        """What `remove` has left: a cell's files, or a whiteout of overlay's in its work directory."""
        return [path for path in (self.path, *map(Path, self._aside)) if not _is_gone(path)]

    def _remove_links(self) -> None:
        for suffix in self.suffixes:
            for link in (self.path / f"work{suffix}", self.path / f"diff{suffix}"):
                if not link.exists():
                    link.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def _remove_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _is_gone(path: Path) -> bool:
    """Return whether nothing is at a path (host); false if that cannot be seen."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _remove_work(work: str) -> None:
    """Remove a work directory (host) as far as it is empty but for what overlay makes in it."""
    _empty_work(work)
    with contextlib.suppress(OSError):  # it is not there, or has a cell's files
        os.rmdir(work)


def _empty_work(work: str) -> None:
    """Remove what overlay makes in a work directory (host)."""
    try:
        _remove_made(work)
    except PermissionError:  # this process may not look into directories of mode 0
        for name in _WORK:
            with contextlib.suppress(OSError):
                os.chmod(f"{work}{name}", 0o700)
        with contextlib.suppress(PermissionError):
            _remove_made(work)


def _remove_made(work: str) -> None:
    """Remove what overlay makes in a work directory. Raises `PermissionError`."""
    for name, remove in ((_DIRTY, os.unlink), *((name, os.rmdir) for name in _REMOVED)):
        try:
            remove(f"{work}{name}")
        except PermissionError:
            raise
        except OSError:  # it is not there, or has a cell's files
            pass
