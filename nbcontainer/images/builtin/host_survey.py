"""What the image `host` shows of this machine, and what its one layer hides with whiteouts and empty directories.

The machine's files are the lowest layer of an overlay, below the image's layer; they are not copied, except small files
beside mounts. Hidden are homes, the store, files that others cannot read, and directories that every container has
empty. If the containers' root can use the machine's root as it is (`whole`), the lower is one directory, `/`, and one
more for each file system mounted among the programs. Otherwise it is each directory at the top, since the lower of a
plain user's overlay cannot contain mounts (has_locked_children in fs/namespace.c).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import site
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from nbcontainer.linux.procfs import Mount, read_mounts, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY, EMPTY, GONE, LINK, FILE = "directory", "empty", "gone", "link", "file"

_FRESH = {"/dev": 0o755, "/proc": 0o555, "/run": 0o755, "/sys": 0o555, "/tmp": 0o1777, "/var/tmp": 0o1777}
_PROGRAMS = ("/usr", "/opt", "/etc", "/var", "/nix", "/gnu", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/boot")
_SEARCHED = ("/etc", "/var", "/opt", "/srv", "/usr/local")
"""Where all levels are searched for files that others cannot read; elsewhere only those near the top."""

_NEAR = 3
_ON_DISK = frozenset("ext2 ext3 ext4 xfs btrfs f2fs bcachefs zfs erofs jfs reiserfs overlay".split())
_HASHED = ("/etc/shadow", "/etc/gshadow")
_COPIED = 1 << 20  # bytes; a file beside a mount, as Docker's /etc has them
_HASHED_MAX = 1 << 24  # bytes; a hundred thousand users
_LINKS_MAX = 40


@dataclass(frozen=True)
class SurveyEntry:
    """One path of the image's layer. `data` is the content of a file, or the target of a link."""

    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    data: bytes = b""


@dataclass(frozen=True)
class MachineView:
    """The image `host`: its layer's entries by absolute path, and the directories of the machine below it."""

    entries: dict[str, SurveyEntry]
    directories: tuple[str, ...]


@dataclass(frozen=True)
class Surroundings:
    """What a survey looks at, and hides: `store` and `homes`, except for the interpreter's `pythons` in them."""

    store: str
    whole: bool
    top: Path = Path("/")
    mounts: tuple[Mount, ...] = ()
    homes: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    uid: int = field(default_factory=os.geteuid)


def surroundings(store: Path, *, whole: bool) -> Surroundings:
    """Return those of this machine, as this process sees it."""
    people = [user for user in pwd.getpwall() if user.pw_uid == 0 or 1000 <= user.pw_uid < 65534]
    homes = ["/home", "/root", str(Path("~").expanduser()), *(user.pw_dir for user in people)]
    pythons = [sys.prefix, sys.base_prefix, *([site.getuserbase()] if site.ENABLE_USER_SITE else [])]
    return Surroundings(
        str(store),
        whole,
        mounts=tuple(read_mounts(read_text("/proc/self/mountinfo"))),
        homes=tuple(dict.fromkeys(home for home in homes if home.count("/") > 1 or home in ("/home", "/root"))),
        pythons=tuple(dict.fromkeys(python for python in pythons if Path(python).is_dir())),
    )


def survey(outside: Surroundings) -> MachineView:
    """Survey the machine; unreadable paths are left out. Raises `OSError` if the top is unreadable."""
    found = _Survey(outside)
    for path, mode in _FRESH.items():
        found.empty(path, mode)
    for home in outside.homes:
        found.empty(home)
    found.hide(outside.store)
    if outside.whole:
        found.show_whole()
    else:
        for top in sorted(outside.top.iterdir()):
            found.show(f"/{top.name}")
    found.hide_secrets()
    for python in outside.pythons:
        found.reveal(python)
    return MachineView(found.entries, tuple(sorted(found.directories)))


class _Survey:
    def __init__(self, outside: Surroundings) -> None:
        self.outside = outside
        self.entries: dict[str, SurveyEntry] = {}
        self.directories: list[str] = []
        self._mounted = {mount.target: mount.fstype for mount in outside.mounts}

    def empty(self, path: str, mode: int | None = None) -> None:
        """Show an empty directory; if `mode` is given, even if the machine does not have that directory."""
        path = self._real(path)
        if mode is None and not stat.S_ISDIR(self._mode(path)):
            return
        if self._hidden(path):
            return
        entry = self._entry(EMPTY, path)
        self._add_parents(path)
        self.entries[path] = entry if mode is None else SurveyEntry(EMPTY, mode)

    def hide(self, path: str) -> None:
        """Hide a path."""
        path = self._real(path)
        if not self._hidden(path) and self._mode(path):
            self._add_parents(path)
            self.entries[path] = SurveyEntry(GONE)

    def show_whole(self) -> None:
        """Show the machine's root, and the file systems mounted among its programs."""
        self.directories.append("/")
        for path, fstype in self._mounted.items():
            among = path in _PROGRAMS or path.startswith(tuple(f"{top}/" for top in _PROGRAMS))
            if among and fstype in _ON_DISK and stat.S_ISDIR(self._mode(path)) and not self._hidden(path):
                self._show_directory(path)

    def show(self, path: str) -> None:
        """Show a path at the top, or beside a mount."""
        mode = self._mode(path)
        if self._hidden(path) or (path in self._mounted and self._mounted[path] not in _ON_DISK):
            if stat.S_ISDIR(mode) and path not in self.entries:
                self.empty(path, stat.S_IMODE(mode))
        elif stat.S_ISLNK(mode):
            self.entries[path] = SurveyEntry(LINK, 0o777, data=os.fsencode(self._host(path).readlink()))
        elif stat.S_ISREG(mode):
            self._copy(path)
        elif not stat.S_ISDIR(mode):
            pass  # a socket or a device has no use in a container
        elif not os.access(self._host(path), os.R_OK | os.X_OK):
            self.empty(path)
        elif any(target.startswith(f"{path}/") for target in self._mounted):
            self.entries.setdefault(path, self._entry(DIRECTORY, path))
            for below in sorted(self._host(path).iterdir()):
                self.show(f"{path}/{below.name}")
        else:
            self._show_directory(path)

    def hide_secrets(self) -> None:
        """Hide files that others cannot read: a container's root could read them."""
        for path in _SEARCHED:
            self._search(path, -1)
        self._search("", _NEAR)
        for path in _HASHED if self.outside.whole else ():
            if self._mode(path):
                text, facts = self._read(path, _HASHED_MAX), self._entry(FILE, path)
                clean = SurveyEntry(FILE, facts.mode, facts.uid, facts.gid, _without_hashes(text or b""))
                self._add_parents(path)
                self.entries[path] = SurveyEntry(GONE) if text is None else clean

    def reveal(self, path: str) -> None:
        """Show a directory inside a hidden one, and the links that lead to it."""
        for _ in range(_LINKS_MAX):
            link = next((above for above in _from_top(path) if stat.S_ISLNK(self._mode(above))), None)
            if link is None:
                break
            target = str(self._host(link).readlink())
            if self._hidden(link):
                self._add_parents(link)
                self.entries[link] = SurveyEntry(LINK, 0o777, data=os.fsencode(target))
            path = (
                os.path.normpath(f"{link.rpartition('/')[0]}/{target}" if target[:1] != "/" else target)
                + (path[len(link) :])
            )
        if self._hidden(path) and not any(
            f"{path}/".startswith(f"{known}/") for known in self.directories if known != "/"
        ):
            self._add_parents(path)
            self._show_directory(path)

    # Entries

    def _show_directory(self, path: str) -> None:
        self.directories.append(path)
        self._add_parents(path)
        self.entries[path] = self._entry(DIRECTORY, path)

    def _add_parents(self, path: str) -> None:
        for above in _from_top(path)[:-1]:
            if above not in self.entries:
                self.entries[above] = self._entry(DIRECTORY, above)

    def _entry(self, kind: str, path: str) -> SurveyEntry:
        """Return an entry with the owner and mode of the machine's file; root and 0755 if there is none."""
        try:
            facts = self._host(path).lstat()
        except OSError:
            return SurveyEntry(kind)
        mode = stat.S_IMODE(facts.st_mode)
        if not self.outside.whole:
            return SurveyEntry(kind, mode)  # the container does not have its owner
        uid, gid = (number if number < 65536 else 0 for number in (facts.st_uid, facts.st_gid))
        return SurveyEntry(kind, mode, uid, gid)

    def _copy(self, path: str) -> None:
        if (data := self._read(path, _COPIED)) is not None:
            self.entries[path] = SurveyEntry(FILE, self._entry(FILE, path).mode, data=data)

    # The machine

    def _read(self, path: str, limit: int) -> bytes | None:
        """Return the content of a regular file of at most `limit` bytes, None for anything else."""
        # A container that has the directory as a volume may put a pipe there now, or a link to what is hidden here.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError), os.fdopen(self._open(path, flags), "rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode) and facts.st_size <= limit:
                return file.read(limit)
        return None

    def _open(self, path: str, flags: int) -> int:
        top = os.open(self.outside.top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return openat2(top, path.lstrip("/"), flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        finally:
            os.close(top)

    def _host(self, path: str) -> Path:
        return self.outside.top / path.lstrip("/")

    def _mode(self, path: str) -> int:
        try:
            return self._host(path).lstat().st_mode
        except OSError:
            return 0

    def _real(self, path: str) -> str:
        """Return the path with its links resolved, as long as they stay below the top."""
        top = os.path.realpath(self.outside.top)
        found = os.path.realpath(self._host(path))
        return "/" + os.path.relpath(found, top) if found.startswith(f"{top}/".replace("//", "/")) else path

    def _hidden(self, path: str) -> bool:
        """Whether the path, or a directory above it, is hidden."""
        return any(above in self.entries and self.entries[above].kind in (EMPTY, GONE) for above in _from_top(path))

    def _search(self, top: str, depth: int) -> None:
        """Hide files below `top` that others cannot read, to that depth (-1: all); unreadable directories stay."""
        waiting = [(top, depth)]
        while waiting:
            path, left = waiting.pop()
            if left == 0 or self._hidden(path):
                continue
            with contextlib.suppress(OSError), os.scandir(self._host(path)) as entries:
                for entry in entries:
                    below = f"{path}/{entry.name}"
                    facts = entry.stat(follow_symlinks=False)
                    if not self.outside.whole and facts.st_uid != self.outside.uid:
                        needed = 0  # a plain user has the same access there as here
                    else:
                        needed = 0o5 if stat.S_ISDIR(facts.st_mode) else 0o4
                    if stat.S_ISDIR(facts.st_mode):
                        if facts.st_mode & needed != needed:
                            self.empty(below)
                        elif below not in self._mounted or below in self.directories:
                            waiting.append((below, left - 1))
                    elif stat.S_ISREG(facts.st_mode) and facts.st_mode & needed != needed:
                        self.hide(below)


def _from_top(path: str) -> list[str]:
    """Return `/a`, `/a/b` and so on to the path itself."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _without_hashes(text: bytes) -> bytes:
    """Return a shadow(5) file without password hashes."""
    lines: Iterable[list[bytes]] = (line.split(b":") for line in text.split(b"\n"))
    return b"".join(b":".join([line[0], b"*", *line[2:]]) + b"\n" for line in lines if len(line) > 2)
