"""A kernel double that makes no call and records what it was asked to do: it needs no privilege."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.linux.files import TIOCGPTPEER
from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.mounts import AT_FDCWD
from nbcontainer.linux.process import PR_GET_SECCOMP
from nbcontainer.linux.seccomp import SECCOMP_MODE_FILTER

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_DESCRIPTOR = 100
"""The first descriptor that the double returns: high, so that it is not mistaken for a real one."""

_DIRECTORY = stat.S_IFDIR | 0o755
_FILE = stat.S_IFREG | 0o644


class Call(NamedTuple):
    """One call: its name and its arguments. Keyword arguments come last, as (keyword, value)."""

    name: str
    args: tuple[Any, ...]


def call(name: str, *args: Any, **keywords: Any) -> Call:
    """Return the record of `kernel.NAME(*args, **keywords)`."""
    return Call(name, (*args, *keywords.items()))


class RecordingKernel(Kernel):
    """Records every call in `calls`, as (name, args), and answers it with a plausible value.

    Every path is a directory, except those in `nodes` (a mode with its type), in `devices` (major, minor), and in
    `missing`, which do not exist until they are made. `inodes` are the device and the inode of a path, and `texts` what
    a file has; others have none of their own. A descriptor has the path by which it was opened, below the
    working directory /store; `leads` maps a path to where it really leads. `left_open` are the descriptors that were
    not closed. `content` is the size in bytes of every file for sendfile(2). `answers` are functions that answer a call
    instead.
    """

    def __init__(
        self,
        *,
        nodes: dict[str, int] | None = None,
        devices: dict[str, tuple[int, int]] | None = None,
        missing: tuple[str, ...] = (),
        leads: dict[str, str] | None = None,
        inodes: dict[str, tuple[int, int]] | None = None,
        texts: dict[str, str] | None = None,
        content: int = 0,
        **answers: Callable[..., Any],
    ) -> None:
        self.calls: list[Call] = []
        self.nodes = dict(nodes or {})
        self.devices = dict(devices or {})
        self.missing = set(missing)
        self.leads = dict(leads or {})
        self.inodes = dict(inodes or {})
        self.texts = dict(texts or {})
        self.content = content
        self.paths: dict[int, str] = {}
        self._positions: dict[int, int] = {}
        self.left_open: set[int] = set()
        self._next = FIRST_DESCRIPTOR
        self._uid, self._name = 0, "host"
        self._failures: list[tuple[Callable[[int, Call], bool], int]] = []
        for name in dir(Kernel):
            if not name.startswith("_"):
                setattr(self, name, self._recorder(name, answers.get(name) or getattr(self, f"_{name}", None)))

    def fail(self, code: int, when: int | str | Callable[[Call], bool]) -> RecordingKernel:
        """Fail once with `OSError(code)`: at call number `when` (from 0), or at the first call of that name or kind."""
        if isinstance(when, int):
            self._failures.append((lambda number, _: number == when, code))
        elif isinstance(when, str):
            self._failures.append((lambda _, made: made.name == when, code))
        else:
            self._failures.append((lambda _, made: when(made), code))
        return self

    def names(self) -> list[str]:
        """Return the names of the calls, in order."""
        return [made.name for made in self.calls]

    def only(self, *names: str) -> list[Call]:
        """Return the calls of these names, in order."""
        return [made for made in self.calls if made.name in names]

    def _recorder(self, name: str, answer: Callable[..., Any] | None) -> Callable[..., Any]:
        def record(*args: Any, **keywords: Any) -> Any:
            made = call(name, *args, **keywords)
            number = len(self.calls)
            self.calls.append(made)
            for failure in self._failures:
                matches, code = failure
                if matches(number, made):
                    self._failures.remove(failure)
                    path = next((word for word in args if isinstance(word, str)), None)
                    raise OSError(code, os.strerror(code), path)
            return None if answer is None else answer(*args, **keywords)

        return record

    def _descriptor(self, path: str) -> int:
        number = self._next
        self._next += 1
        self.paths[number] = path
        self.left_open.add(number)
        return number

    def _at(self, path: str, dirfd: int | None) -> str:
        folder = "" if dirfd is None or dirfd == AT_FDCWD else self.paths.get(dirfd, "")
        joined = f"{folder}/{path.lstrip('/')}" if folder else path
        return joined.rstrip("/") if joined != "/" else joined

    def _find(self, path: str) -> str:
        if path in self.missing:
            raise FileNotFoundError(2, os.strerror(2), path)
        return path

    def _facts(self, path: str) -> os.stat_result:
        number, mode = 0, self.nodes.get(path, _DIRECTORY)
        if path in self.devices:
            number, mode = os.makedev(*self.devices[path]), stat.S_IFCHR | 0o666
        device, inode = self.inodes.get(path, (2, 1))
        values = (mode, inode, device, 1, 0, 0, 0, 0, 0, 0)
        return os.stat_result(values, {"st_rdev": number})

    # The answers of calls. A call that is not here returns None.

    def _open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._at(path, dir_fd)
        if flags & os.O_CREAT:
            self.missing.discard(place)
            self.nodes[place] = _FILE
        return self._descriptor(self._find(place))

    def _openat2(self, dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
        return self._descriptor(self._find(self._at(path, dirfd)))

    def _open_tree(self, dirfd: int, path: str, flags: int) -> int:
        return self._descriptor(self._find(self._at(path, dirfd)))

    def _mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self.missing.discard(self._at(path, dir_fd))

    def _mount(self, source: str | None, target: str, fstype: str | None, flags: int, data: str | None) -> None:
        self._find(target)

    def _close(self, fd: int) -> None:
        self.left_open.discard(fd)

    def _fstat(self, fd: int) -> os.stat_result:
        return self._facts(self.paths.get(fd, f"descriptor {fd}"))

    def _stat(self, path: str, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._facts(self._find(path))

    def _read_text(self, path: str) -> str:
        return self.texts.get(path, "")

    def _ioctl(self, fd: int, request: int, argument: int | bytes = 0) -> int | bytes:
        return self._descriptor("terminal") if request == TIOCGPTPEER else argument

    def _listdir(self, path: str) -> list[str]:
        below = [name.removeprefix(f"{path}/") for name in self.nodes if name.startswith(f"{path}/")]
        return sorted({name.partition("/")[0] for name in below})

    def _readlink(self, path: str) -> str:
        if path == "/proc/self/cwd":
            return "/store"
        place = self.paths[int(path.rpartition("/")[2])]
        return self.leads.get(place, f"/store/{place}")

    def _sendfile(self, out: int, source: int, offset: int | None, count: int) -> int:
        start = self._positions.get(source, 0) if offset is None else offset
        sent = max(0, min(count, self.content - start))
        if offset is None:
            self._positions[source] = start + sent
        return sent

    def _fsopen(self, fstype: str) -> int:
        return self._descriptor(fstype)

    def _fsmount(self, context: int, attributes: int) -> int:
        return self._descriptor(self.paths[context])

    def _user_namespace(self, ranges: tuple[tuple[int, int, int], ...]) -> int:
        return self._descriptor("user namespace")

    def _clone(self, flags: int) -> int:
        return 4321

    def _last_capability(self) -> int:
        return 40

    def _prctl(self, option: int, argument: int = 0, second: int = 0) -> int:
        return SECCOMP_MODE_FILTER if option == PR_GET_SECCOMP else 0

    def _getrlimit(self, resource: int) -> tuple[int, int]:
        return 1024, 4096

    def _sethostname(self, name: str) -> None:
        self._name = name

    def _nodename(self) -> str:
        return self._name

    def _setresuid(self, real: int, effective: int, saved: int) -> None:
        self._uid = real

    def _getuid(self) -> int:
        return self._uid

    def _umask(self, mask: int) -> int:
        return 0o022
