"""The entries of a tar as four programs read them, in one form: this package, GNU tar, bsdtar's library, Go's package.

Known differences in form are levelled: slashes at the end of a name, and entries that are not files of the archive.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.tar_reader import Stream, TarReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMITS = Limits(entries=1000, bytes=1 << 24, apparent_size=1 << 24)
_LIBARCHIVE = Path(__file__).with_name("libarchive_listing.py")
_GO = Path(__file__).with_name("go_listing.go")
_TYPES = {
    tar.REGULAR: "file",
    tar.HARD_LINK: "link",
    tar.SYMLINK: "symlink",
    tar.CHAR: "char",
    tar.BLOCK_DEVICE: "block",
    tar.DIRECTORY: "directory",
    tar.GNU_DUMP_DIRECTORY: "directory",
    tar.FIFO: "fifo",
}
_OF_GO = {b"0": "file", b"\0": "file", b"7": "file", b"S": "file"} | _TYPES
_OF_GNU = {"-": "file", "h": "link", "l": "symlink", "c": "char", "b": "block", "d": "directory", "p": "fifo"}
_GNU_LINE = re.compile(
    r'(?P<type>.)[-rwxsStT]{9} \S+ +(?P<size>\S+) \S+ \S+ (?P<name>"(?:[^"\\]|\\.)*")'
    r'(?: (?:->|link to) (?P<link>"(?:[^"\\]|\\.)*"))?(?P<more>--.*)?'
)
_HARMLESS = re.compile(r"tar: (A lone zero block|Ignoring unknown extended header|.*implausibly old|Archive value)")


@dataclass(frozen=True)
class Seen:
    """One entry as a program reads it; `size` counts for files alone, `link` for links."""

    name: bytes
    type: str
    size: int = 0
    link: bytes = b""


@dataclass(frozen=True)
class Listing:
    """The entries up to the archive's end, or to where the program gave up, which `error` says."""

    entries: tuple[Seen, ...]
    error: str = ""


def seen(name: bytes, kind: str, size: int, link: bytes) -> Seen:
    """An entry, with what does not count for its type left out."""
    plain = re.sub(rb"//+", b"/", name).rstrip(b"/")
    return Seen(plain, kind, size if kind == "file" else 0, link.rstrip(b"/") if kind in ("link", "symlink") else b"")


def by_us(data: bytes) -> Listing:
    """What this package reads."""
    entries: list[Seen] = []
    reader = TarReader(Stream(iter([data])), LIMITS, end_needed=True)
    try:
        for member in iter(reader.next, None):
            if member.name and member.type in _TYPES:
                entries.append(seen(member.name, _TYPES[member.type], member.real_size, member.link))
    except HostileArchive as error:
        return Listing(tuple(entries), str(error))
    return Listing(tuple(entries))


def by_libarchive(paths: Sequence[Path]) -> list[Listing]:
    """What libarchive reads of each file."""
    return _listings([sys.executable, "-I", "-S", str(_LIBARCHIVE)], paths, lambda word: word)


def built_go(folder: Path) -> Path:
    """The program that lists with Go's archive/tar, built in a folder."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
    command = ["go", "build", "-o", str(folder / "listing"), str(_GO)]
    subprocess.run(command, check=True, cwd=folder, env=environment)
    return folder / "listing"


def by_go(program: Path, paths: Sequence[Path]) -> list[Listing]:
    """What Go's archive/tar reads of each file; a type that it does not have names is one that it does not accept."""
    return _listings([str(program)], paths, lambda word: _OF_GO.get(bytes([int(word)]), f"unknown {chr(int(word))}"))


def _listings(command: list[str], paths: Sequence[Path], kind_of: Callable[[str], str]) -> list[Listing]:
    output = subprocess.run([*command, *map(str, paths)], check=True, stdout=subprocess.PIPE).stdout.decode()
    return [_listing(part.splitlines()[1:], kind_of) for part in ("\n" + output).split("\n= ")[1:]]


def _listing(lines: list[str], kind_of: Callable[[str], str]) -> Listing:
    entries: list[Seen] = []
    for line in lines:
        if line.startswith("!"):
            return Listing(tuple(entries), line)
        kind, size, name, link = line.split(" ")
        kind = kind_of(kind)
        if kind in ("unknown g", "unknown V"):
            continue
        if kind.startswith("unknown"):
            return Listing(tuple(entries), f"a type that is not in use, {kind}")
        if len(name) > 1:
            entries.append(seen(bytes.fromhex(name[1:]), kind, int(size), bytes.fromhex(link[1:])))
    return Listing(tuple(entries))


def by_gnu(path: Path) -> Listing:
    """What GNU tar reads, up to the first error."""
    command = ["stdbuf", "-oL", "tar", "-tvf", str(path), "--quoting-style=c", "--numeric-owner", "--full-time"]
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    output = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    entries: list[Seen] = []
    for line in output.stdout.decode(errors="surrogateescape").split("\n"):
        if line.startswith("tar: ") and not _HARMLESS.match(line):
            return Listing(tuple(entries), line)
        if (found := _GNU_LINE.fullmatch(line)) is None:
            if line and not line.startswith("tar: "):
                return Listing(tuple(entries), "?? " + line)
            continue
        if found["more"] or found["name"] == '""':
            continue
        size = int(found["size"]) if found["size"].isdigit() else 0
        kind = _OF_GNU.get(found["type"], "file")
        entries.append(seen(_unquoted(found["name"]), kind, size, _unquoted(found["link"] or '""')))
    return Listing(tuple(entries))


_ESCAPES = {"n": "\n", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "r": "\r", "v": "\v"}


def _unquoted(text: str) -> bytes:
    plain = re.sub(
        r"\\([0-7]{3}|.)",
        lambda found: chr(int(found[1], 8)) if len(found[1]) == 3 else _ESCAPES.get(found[1], found[1]),
        text[1:-1],
        flags=re.DOTALL,
    )
    return plain.encode("latin-1")


def difference(ours: Listing, other: Listing) -> str:
    """Where another program reads something else than this package; empty if it does not, or one of them refuses."""
    if ours.error:
        return ""
    for mine, theirs in zip(ours.entries, other.entries, strict=False):
        if mine != theirs:
            return f"{mine} is {theirs}"
    more = len(other.entries) - len(ours.entries)
    if more > 0 or (more < 0 and not other.error):
        return f"{len(ours.entries)} entries are {len(other.entries)}: {ours.entries} {other.entries}"
    return ""
