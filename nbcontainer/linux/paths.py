"""Host paths, walked one name at a time, so that every link is known that was followed (path_resolution(7))."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.linux.files import birth_time

if TYPE_CHECKING:
    from types import TracebackType

LINKS_MAX = 40
"""Links that one path may lead through, as in the kernel (path_resolution(7))."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Node:
    """A file or directory: its path, without links, and what it is; `born` is as `birth_time` has it."""

    path: str
    device: int
    inode: int
    born: int = 0


@dataclass(frozen=True)
class Link:
    """A symbolic link that was followed: its path, its text, and the directories it lies in, from the root down."""

    path: str
    target: str
    above: tuple[Node, ...]


class Place:
    """What a path leads to.

    `fd` is a descriptor of it (O_PATH), open until `close`. `nodes` are the directories from the root down to it, and
    itself as the last one; `links` are those that were followed on the way, in order.
    """

    def __init__(self, fd: int, nodes: tuple[Node, ...], links: tuple[Link, ...]) -> None:
        self.fd = fd
        self.nodes = nodes
        self.links = links
        self.mode = os.fstat(fd).st_mode

    @property
    def node(self) -> Node:
        """The file or directory itself."""
        return self.nodes[-1]

    def open(self, flags: int) -> int:
        """Open this very file or directory by its descriptor, and nothing that has its name now (proc_pid_fd(5))."""
        return os.open(f"/proc/self/fd/{self.fd}", flags | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a host path from the root; its links stay.

    Raises `UsageError` for a relative path if the working directory was removed.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        raise UsageError("the current directory was removed", hint="change to another one with `%cd`") from None


def resolve(path: str | Path) -> Place:
    """Return what `path` leads to, relative to the working directory; links are followed, the last one too.

    No call follows a link by itself: each name is opened without, in the descriptor of the directory before it.
    The caller closes it. Raises `UsageError` as `absolute` does, and `OSError`; if something does not exist, its
    `filename` is that whole path, with no link in the part that exists.
    """
    walk = _Walk()
    try:
        walk.start()
        # getcwd(2) has no links in it, and starts at the root: directories above the working directory count as well.
        walk.go(str(path) if str(path)[:1] == "/" else f"{absolute('.')}/{path}")
        return Place(walk.fd, tuple(walk.nodes), tuple(walk.links))
    except BaseException:
        os.close(walk.fd)
        raise


def resolve_existing(path: str | Path) -> tuple[Place, tuple[str, ...]]:
    """Return what is there of a path, and the names after it that are not. Raises what `resolve` raises."""
    whole, missing = Path(path), list[str]()
    while True:
        try:
            return resolve(whole), tuple(missing)
        except FileNotFoundError:
            if whole == whole.parent:
                raise
            missing.insert(0, whole.name)
            whole = whole.parent


class _Walk:
    """A walk under way: it stands at the last of `nodes`, and `fd` is a descriptor of that."""

    def __init__(self) -> None:
        self.fd = os.open("/", _STEP | os.O_DIRECTORY)
        self.nodes: list[Node] = []
        self.links: list[Link] = []

    def start(self) -> None:
        """Take down the root, where it stands."""
        self.nodes.append(_node("/", self.fd))

    def go(self, path: str) -> None:
        """Walk to the end of an absolute path."""
        waiting = path.split("/")[::-1]
        while waiting:
            name = waiting.pop()
            if name == "..":
                self._up()
            elif name not in ("", "."):
                try:
                    waiting += reversed(self._step(name))
                except FileNotFoundError as error:
                    missing = (one for one in reversed(waiting) if one not in ("", "."))
                    error.filename = "/".join((self.nodes[-1].path.rstrip("/"), name, *missing))
                    raise

    def _step(self, name: str) -> list[str]:
        """Go to `name`; if it is a link, stay where it starts from and return the names to go by instead."""
        path = f"{self.nodes[-1].path.rstrip('/')}/{name}"
        below = os.open(name, _STEP, dir_fd=self.fd)
        try:
            node = None if stat.S_ISLNK(os.fstat(below).st_mode) else _node(path, below)
            target = "" if node else os.readlink("", dir_fd=below)  # with no name, that very link (readlinkat(2))
        except BaseException:
            os.close(below)
            raise
        if node:
            self._stand_at(below)
            self.nodes.append(node)
            return []
        os.close(below)
        self.links.append(Link(path, target, tuple(self.nodes)))
        if len(self.links) > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target[:1] == "/":
            self._stand_at(os.open("/", _STEP | os.O_DIRECTORY))
            del self.nodes[1:]
        return target.split("/")

    def _up(self) -> None:
        above = os.open("..", _STEP | os.O_DIRECTORY, dir_fd=self.fd)
        self._stand_at(above)
        if len(self.nodes) > 1:
            left = self.nodes.pop()
            if _node(self.nodes[-1].path, above) != self.nodes[-1]:  # it was moved elsewhere meanwhile
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), left.path)

    def _stand_at(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd


def _node(path: str, fd: int) -> Node:
    facts = os.fstat(fd)
    return Node(path, facts.st_dev, facts.st_ino, birth_time(fd))
