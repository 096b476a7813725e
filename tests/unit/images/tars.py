"""Tar archives byte by byte, broken ones too, and what trees look like. Knows nothing of the package's own code."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BLOCK = 512
END = bytes(2 * BLOCK)

USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"
V7 = b""

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % n for n in range(7))


def header(
    name: bytes,
    *,
    kind: bytes = FILE,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    size: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = USTAR,
    major: bytes = b"",
    minor: bytes = b"",
    prefix: bytes = b"",
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """A header block, after a pax header for a name or target past its field. Numbers given as bytes are written as
    they are; without `checksum` it is the right one.
    """

    def octal(value: int | bytes, width: int) -> bytes:
        return value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)

    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s64s8s8s155s12s",
        name,
        octal(mode, 8),
        octal(uid, 8),
        octal(gid, 8),
        octal(size, 12),
        octal(mtime, 12),
        b" " * 8,
        kind,
        link,
        magic,
        b"",
        major,
        minor,
        prefix,
        rest,
    )
    checked = b"%06o\0 " % sum(block) if checksum is None else checksum
    long = {key: value for key, value in ((b"path", name), (b"linkpath", link)) if len(value) > 100}
    return (pax(long) if long else b"") + block[:148] + checked.ljust(8, b"\0") + block[156:]


def padded(data: bytes) -> bytes:
    """`data` and zeros up to the next whole block."""
    return data + bytes(-len(data) % BLOCK)


def entry(name: bytes, data: bytes = b"", **fields: Any) -> bytes:
    """A header and its data."""
    fields.setdefault("size", len(data))
    return header(name, **fields) + padded(data)


def directory(name: bytes, **fields: Any) -> bytes:
    """A directory's entry."""
    fields.setdefault("mode", 0o755)
    return header(name, kind=DIRECTORY, **fields)


def symlink(name: bytes, target: bytes, **fields: Any) -> bytes:
    """A symbolic link's entry."""
    return header(name, kind=SYMLINK, link=target, mode=0o777, **fields)


def hard_link(name: bytes, source: bytes, **fields: Any) -> bytes:
    """A hard link's entry."""
    return header(name, kind=LINK, link=source, **fields)


def record(key: bytes, value: bytes) -> bytes:
    """One record of a pax header."""
    body = b" %s=%s\n" % (key, value)
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d%s" % (length, body)


def pax(records: Mapping[bytes, bytes] | bytes, kind: bytes = b"x") -> bytes:
    """An extended header, of records or of raw bytes in their place."""
    data = records if isinstance(records, bytes) else b"".join(record(*item) for item in records.items())
    return entry(b"PaxHeaders/x", data, kind=kind)


def gnu_long(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU tar's header for a long name (`L`) or a long target (`K`)."""
    return entry(b"././@LongLink", name + b"\0", kind=kind, magic=GNU)


def archive(*entries: bytes) -> bytes:
    """Entries and the end's mark."""
    return b"".join(entries) + END


@dataclass(frozen=True)
class Node:
    """What there is to know of one file; `first` is the first of the names that a hard-linked one has."""

    type: str
    mode: int = 0
    mtime: int = 0
    owner: tuple[int, int] = (0, 0)
    data: bytes = b""
    link: bytes = b""
    device: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    first: bytes = b""


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFSOCK: "socket",
}


def snapshot(root: Path) -> dict[bytes, Node]:
    """Every file below `root` (`b"."` is the root itself) with what matters of it."""
    found: dict[bytes, Node] = {}
    linked: dict[tuple[int, int], list[bytes]] = {}
    todo = [root]
    while todo:
        path = todo.pop()
        facts = path.lstat()
        kind = _TYPES[stat.S_IFMT(facts.st_mode)]
        name = os.fsencode(path.relative_to(root))
        if kind == "directory":
            todo += path.iterdir()
        elif facts.st_nlink > 1:
            linked.setdefault((facts.st_dev, facts.st_ino), []).append(name)
        names = os.listxattr(path, follow_symlinks=False)
        found[name] = Node(
            kind,
            stat.S_IMODE(facts.st_mode),
            facts.st_mtime_ns // 10**9,
            (facts.st_uid, facts.st_gid),
            path.read_bytes() if kind == "file" else b"",
            os.fsencode(path.readlink()) if kind == "symlink" else b"",
            facts.st_rdev if kind in ("char", "block") else 0,
            {key: os.getxattr(path, key, follow_symlinks=False) for key in names if key.startswith("user.")},
        )
    for together in linked.values():
        for name in together:
            found[name] = replace(found[name], first=min(together))
    return found
