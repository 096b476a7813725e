"""The functions that run inside a sandbox, with the directory they work on as their root.

Callers pass them to `nbcontainer.images.runner.Runner`. Each takes the descriptors it was given, a function that
reports progress, and JSON arguments; it returns a JSON value. Everything they need is imported here: inside the
sandbox nothing can be imported (`nbcontainer.sandbox.sandboxed_call`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ValueUnavailable
from nbcontainer.images.comparison import root_directory, small_files, tree_facts
from nbcontainer.images.layers import changes, inspect, merge, pack, tree
from nbcontainer.images.layers import unpack as unpacking
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.flat import copying, flattening, picking
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.single_files import reading, receiving, sending, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Progress = Callable[[int], None]


_OF_THE_PATH = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENAMETOOLONG, errno.EACCES, errno.EROFS)
"""The errors of a copy that another path avoids."""


def _root() -> int:
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    """Yield a descriptor of a directory of the root (a relative path), which is not followed if it is a link."""
    root = _root()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    try:
        yield fd
    finally:
        os.close(fd)


def unpack(
    files: Sequence[int], progress: Progress, *, single_id: bool, whiteouts: bool, algorithm: str = "sha256"
) -> dict[str, Any]:
    """Unpack the archive in files[0] into the root, and write its blob to files[1] if that is given.

    Return the fields of `nbcontainer.images.layers.unpack.UnpackedStream`.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0)
    unpacked = unpacking.unpack(
        _root(),
        files[0],
        files[1] if len(files) > 1 else None,
        limits=Limits(),
        single_id=single_id,
        progress=progress,
        whiteouts=whiteouts,
        algorithm=algorithm,
    )
    return asdict(unpacked)


def pack_layer(files: Sequence[int], progress: Progress, *, clamp: int | None) -> dict[str, Any]:
    """Write the root, an overlay's upper directory, to files[0] as a layer, and sync that file.

    Return the fields of `nbcontainer.images.layers.pack.Packed`.
    """
    packed = pack.pack_layer(_root(), files[0], compression=Compression.NONE, clamp=clamp, progress=progress)
    os.fsync(files[0])
    return asdict(packed)


def pack_layers(
    files: Sequence[int], progress: Progress, *, layers: list[str], clamp: int | None
) -> list[dict[str, Any]]:
    """Write directories of the root (relative paths), upper directories each, to `files` as layers.

    Return the fields of `nbcontainer.images.layers.pack.Packed` for each. The caller syncs the files.
    """
    found = []
    for path, file in zip(layers, files, strict=True):
        with _directory(path) as folder:
            packed = pack.pack_layer(folder, file, compression=Compression.NONE, clamp=clamp, progress=progress)
        found.append(asdict(packed))
    return found


def pack_tree(files: Sequence[int], progress: Progress, *, compression: str, clamp: int | None) -> dict[str, Any]:
    """Write the root to files[0] as a tar. Return the fields of `nbcontainer.images.layers.pack.Packed`."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    packed = pack.pack_tree(_root(), files[0], compression=Compression(compression), clamp=clamp, progress=progress)
    return asdict(packed)


def pack_directory(files: Sequence[int], progress: Progress, *, path: str) -> bool:
    """Write a directory of the root to files[0] as a tar; return False if there is no such directory.

    Links on the way are followed inside the root. The root itself is not written.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    if os.path.samestat(os.fstat(fd), os.fstat(_root())):
        return False
    pack.pack_tree(fd, files[0], compression=Compression.NONE, clamp=None, progress=progress)
    return True


def copy_files(
    files: Sequence[int], _: Progress, *, paths: list[str], limit: int
) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    """See `nbcontainer.images.single_files.reading.copy_files`: the root is the tree, and files[0] the target."""
    return reading.copy_files(_root(), paths, files[0], limit)


def is_directory(files: Sequence[int], _: Progress, *, path: str) -> bool:
    """Return whether there is a directory at `path` in the root. Raises `ValueUnavailable` if there is nothing."""
    top = sending.opened_top(_root(), path, follow=True)
    try:
        return stat.S_ISDIR(os.fstat(top).st_mode)
    finally:
        os.close(top)


def write_file(files: Sequence[int], _: Progress, *, path: str, mode: int, own: str = "") -> None:
    """See `nbcontainer.images.single_files.writing.write_file`: the root is the tree, and files[0] the source."""
    writing.write_file(_root(), path, files[0], mode, own)


def send_path(files: Sequence[int], _: Progress, *, path: str, follow: bool) -> int:
    """See `nbcontainer.images.single_files.sending.send_path`: the root is the tree, and files[0] the stream."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return sending.send_path(_root(), path, files[0], follow=follow)


def receive_path(files: Sequence[int], _: Progress, *, path: str, name: str, content: bool) -> int:
    """Write the stream in files[0] to `path` in the root (`receiving.target_in`); return the number of its files."""
    os.umask(0o022)
    target = receiving.target_in(_root(), path, name, content=content)
    try:
        return receiving.receive(files[0], target).files
    except OSError as error:
        if error.errno not in _OF_THE_PATH:
            raise
        problem = f"cannot write {path} in the container: {error.strerror}"
        raise ValueUnavailable(problem, hint="choose another path") from None
    finally:
        os.close(target.folder)


def send_tar(files: Sequence[int], _: Progress, *, path: str, follow: bool) -> int:
    """Write the file or directory at `path` in the root to files[0] as a tar; return the number of its entries.

    In it, it has the last name of the path; what is in a directory has its own names if the path ends with `/.`.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    name = b"" if path.endswith("/.") else os.fsencode(path.rstrip("/").rpartition("/")[2])
    top = sending.opened_top(_root(), path, follow=follow)
    try:
        if not name and not stat.S_ISDIR(os.fstat(top).st_mode):
            raise ValueUnavailable("cannot copy the content of a file", hint="leave out the /. at the end of its path")
        return pack.pack_named(top, name, files[0]).entries
    finally:
        os.close(top)


def receive_tar(files: Sequence[int], _: Progress, *, path: str, single_id: bool) -> int:
    """Unpack the tar in files[0] into the directory at `path` in the root; return the number of its entries.

    Owners are those of the tar, with `single_id`, or if this process is not root's, this process's. Links on the way
    of `path` stay in the root, and an entry replaces a link of its name. Raises `ValueUnavailable`,
    `HostileArchive`, `OSError`.
    """
    folder = sending.opened_folder(_root(), path)
    try:
        unpacked = unpacking.unpack(
            folder,
            files[0],
            None,
            limits=Limits(),
            single_id=single_id or os.geteuid() != 0,
            whiteouts=False,
            keep_root=True,
        )
        return unpacked.entries
    except OSError as error:
        if error.errno not in (*_OF_THE_PATH, errno.EPERM):
            raise
        problem = f"cannot write {path} in the container: {error.strerror}"
        raise ValueUnavailable(problem, hint="choose another path") from None
    finally:
        os.close(folder)


def list_changes(_files: Sequence[int], _: Progress) -> list[tuple[str, str, int | None]]:
    """See `nbcontainer.images.layers.changes.list_changes`, for the root: an overlay's upper directory."""
    return changes.list_changes(_root())


def list_layers(_files: Sequence[int], _: Progress, *, layers: list[str]) -> list[list[tuple[str, str, int | None]]]:
    """Return what `list_changes` does for each of several upper directories (paths relative to the root)."""
    found = []
    for path in layers:
        with _directory(path) as folder:
            found.append(changes.list_changes(folder))
    return found


def facts_of(
    _files: Sequence[int], _: Progress, *, paths: list[str], whole: list[str]
) -> dict[str, tree_facts.PathFacts]:
    """See `nbcontainer.images.comparison.tree_facts.facts_of`, with the root as the tree."""
    return tree_facts.facts_of(_root(), paths, whole)


def digests_of(_files: Sequence[int], _: Progress, *, paths: list[str]) -> dict[str, str]:
    """See `nbcontainer.images.comparison.tree_facts.digests_of`, with the root as the tree."""
    return tree_facts.digests_of(_root(), paths)


def texts_of(
    _files: Sequence[int], _: Progress, *, paths: list[str], limit: int, total: int
) -> dict[str, tuple[str, str]]:
    """See `nbcontainer.images.comparison.small_files.texts_of`, with the root as the tree."""
    return small_files.texts_of(_root(), paths, limit, total)


def look_up(
    _files: Sequence[int], _: Progress, *, paths: list[str], replaced: list[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """See `nbcontainer.images.layers.changes.look_up`, with the root as the tree."""
    return changes.look_up(_root(), paths, replaced)


def merge_parts(_files: Sequence[int], _: Progress, *, parts: list[tuple[str, str]], modes: dict[str, int]) -> None:
    """See `nbcontainer.images.layers.merge.merge`, in the root."""
    merge.merge(_root(), parts, modes)


@contextlib.contextmanager
def _directories(paths: Sequence[str]) -> Iterator[list[int]]:
    """Yield descriptors of several directories, as `_directory` does."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_directory(path)) for path in paths]


def flatten(_files: Sequence[int], _: Progress, *, layers: list[str], target: str) -> list[str]:
    """Merge directories of the root (relative paths, the topmost first) into the empty directory `target`.

    Return the paths (absolute, in `target`) of the directories with whiteouts.
    """
    os.umask(0)
    with _directories((*layers, target)) as fds:
        return [f"/{os.fsdecode(path)}" for path in flattening.flatten(fds[:-1], fds[-1]) if path]


def copy_root(files: Sequence[int], _: Progress) -> None:
    """Copy the root, an overlay's upper directory, and its metadata to the empty directory files[0]."""
    os.umask(0)
    copying.copy(_root(), files[0])


def replace_by_copy(_files: Sequence[int], _: Progress, *, directory: str, copy: str, aside: str) -> None:
    """Put a copy of a directory of the root in its place, and the directory itself into the directory `aside`.

    `copy` is an empty directory for the copy, see `nbcontainer.images.layers.flat.copying.copy`. All are names.
    """
    os.umask(0)
    with _directories((directory, copy)) as fds:
        copying.copy(*fds)
    Path("/", directory).rename(f"/{aside}/{directory}")
    Path("/", copy).rename(f"/{directory}")


def pick(
    _files: Sequence[int], _: Progress, *, layers: list[str], current: list[str], target: str, paths: list[str]
) -> list[str]:
    """See `nbcontainer.images.layers.flat.picking.pick`, with directories of the root (relative paths).

    `paths` are absolute; return those that are in neither tree.
    """
    os.umask(0)
    with _directories((*layers, *current, target)) as fds:
        old, now = fds[: len(layers)], fds[len(layers) : -1]
        missing = picking.pick(old, now, fds[-1], [os.fsencode(path[1:]) for path in paths])
    return [f"/{os.fsdecode(path)}" for path in missing]


def drop_whiteouts(_files: Sequence[int], _: Progress, *, target: str, paths: list[str]) -> None:
    """Remove the whiteouts in directories (absolute paths in `target`, a directory of the root)."""
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=_root())
    try:
        flattening.drop_whiteouts(fd, [os.fsencode(path[1:]) for path in paths])
    finally:
        os.close(fd)


def remove_all(_files: Sequence[int], _: Progress) -> None:
    """Remove everything below the root."""
    tree.remove_below(_root())


def remove_empty(_files: Sequence[int], _: Progress, *, names: list[str]) -> None:
    """Remove the directories of the root with these names that are empty. Links are not followed (rmdir(2))."""
    for name in names:
        with contextlib.suppress(OSError):
            Path("/", name).rmdir()


def first_names(files: Sequence[int], _: Progress) -> list[tuple[str, bool]]:
    """See `nbcontainer.images.layers.inspect.first_names`, for the file in files[0]."""
    return inspect.first_names(files[0])


def examine_uppers(files: Sequence[int], _: Progress) -> dict[str, Any]:
    """Return which `diff…` directories are in the root (`there`), have content (`filled`), and how much is `free`.

    The latter is the number of free blocks or of free inodes, whichever is less (statvfs(3)). `diff` is filled too if
    the directory itself differs from the layer below, the directory files[0] (O_PATH), if it is given.
    """
    with os.scandir("/") as entries:
        there = [entry.name for entry in entries if entry.name.startswith("diff")]
    filled = [name for name in there if not _is_empty(f"/{name}")]
    if files and not filled and "diff" in there and _root_changed(files[0]):
        filled = ["diff"]
    free = os.statvfs("/")
    return {"there": there, "filled": filled, "free": min(free.f_bfree, free.f_ffree)}


def _root_changed(below: int) -> bool:
    """Return whether `/diff` differs from the directory `below`: see `root_directory.changed`."""
    with contextlib.ExitStack() as stack:
        lower = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
        stack.callback(os.close, lower)
        return root_directory.changed("/diff", lower, Path("/").stat().st_mtime_ns)


def _is_empty(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None


def usage(_files: Sequence[int], _: Progress) -> dict[str, int]:
    """See `nbcontainer.images.layers.inspect.usage`, for the root."""
    return inspect.usage(_root())
