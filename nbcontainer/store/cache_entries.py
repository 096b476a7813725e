"""Results of cached cells: one file of `cache/` each, named by the key of the cell.

A file is a line of JSON and the bytes of the output. It is untrusted input, because an import can have made it: what is
read is bounded and checked, and a file that is damaged is as if it were not there. The only names in it that become
paths are those of files in `/out`: they are checked, and made below a new directory.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.outcome import Outcome
from nbcontainer.store.atomic_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = "cache"
"""The directory of the store with the results."""

CONTENTS = "cache.layers"
"""The directory of the store with the digests of layers that were read for a key: a link for each layer."""

VERSION = 1
"""The version of the files, and of the keys."""

OUTPUT_LIMIT = 64 << 20
"""Bytes of output of one cell that are kept."""

HEAD_LIMIT = 4 << 20
"""Bytes of a file's first line."""

STDOUT, STDERR, SHOWN, CLEARED, FILE = "out", "err", "display", "clear", "file"
_KINDS = frozenset({STDOUT, STDERR, SHOWN, CLEARED, FILE})

_TEXTS = ("key", "result", "layer", "created", "command", "boot")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MOST = 1 << 62  # of bytes, seconds and the like
_KEY = re.compile(r"[0-9a-f]{64}")
_RESULT = re.compile(r"[0-9a-f]{32}")
_LAYER = re.compile(r"[\w-]+(\.[\w-]+)*")
_TEXT = 4096  # characters of a type, a name and a command


class BadEntry(ValueError):
    """A file is not the result of a cell."""


@dataclass(frozen=True)
class Event:
    """One piece of output: `kind` is its stream, or SHOWN with the type in `mime`, or CLEARED (`mime` is 1 to wait).

    FILE is a file of `/out`; `mime` is its path there, and that of a directory ends with a slash.
    """

    kind: str
    data: bytes = b""
    mime: str = ""


@dataclass(frozen=True)
class Entry:
    """The result of one cell.

    `result` is random: two results of one key differ in it. `layer` is the id of its layer in the store, empty if the
    cell changed nothing. `created` is the time when the cell ended. `names` are those of the values in the key.
    `imported` is whether another store computed it. `boot` is the boot of this machine in which it was written; empty
    when all of it is on disk.
    """

    key: str
    result: str
    layer: str
    created: str
    command: str
    outcome: Outcome
    events: tuple[Event, ...] = ()
    names: tuple[str, ...] = ()
    imported: bool = False
    boot: str = ""

    @property
    def is_there(self) -> bool:
        """Whether all of it was written: the machine has not crashed before it was on disk."""
        return self.boot in ("", boot_id())

    @property
    def size(self) -> int:
        """The bytes of its output."""
        return sum(len(event.data) for event in self.events)

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        body = b"".join(event.data for event in self.events)
        head = {
            "version": VERSION,
            "key": self.key,
            "result": self.result,
            "layer": self.layer,
            "created": self.created,
            "command": self.command,
            "outcome": self.outcome.as_dict(),
            "events": [[event.kind, event.mime, len(event.data)] for event in self.events],
            "names": list(self.names),
            "imported": self.imported,
            "boot": self.boot,
            "digest": hashlib.sha256(body).hexdigest(),
        }
        return json.dumps(head).encode() + b"\n" + body


def parse(key: str, data: bytes) -> Entry:
    """Return the entry that `to_bytes` gave for that key. Raises `BadEntry` for anything else."""
    end = data.find(b"\n", 0, HEAD_LIMIT)
    try:
        if end < 0 or len(data) > end + 1 + OUTPUT_LIMIT:
            raise BadEntry("it is not the result of a cell")
        return _checked(key, json.loads(data[:end]), data[end + 1 :])
    except BadEntry:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BadEntry(f"it is not the result of a cell: {error}") from error


def _checked(key: str, head: Any, body: bytes) -> Entry:
    if head["version"] != VERSION:
        raise BadEntry(f"another version of nbcontainer wrote it ({head['version']!r}, not {VERSION})")
    outcome = Outcome.from_dict(head["outcome"])
    texts = [*(head[name] for name in _TEXTS), *head["names"]]
    if not all(type(text) is str and len(text) <= _TEXT for text in texts) or type(head["imported"]) is not bool:
        raise BadEntry("a value has the wrong type or size")
    if head["key"] != key or not _KEY.fullmatch(key) or not _RESULT.fullmatch(head["result"]):
        raise BadEntry("it is the result of another cell")
    if not outcome.ok or (head["layer"] and not _LAYER.fullmatch(head["layer"])):
        raise BadEntry("it is not the result of a cell that ended well")
    if not all(math.isfinite(number) and 0 <= number < _MOST for number in list(vars(outcome).values())[1:]):
        raise BadEntry("a number in it is out of range")
    if not _TIME.fullmatch(head["created"]):
        raise BadEntry("its time is not one of RFC 3339")
    if hashlib.sha256(body).hexdigest() != head["digest"]:
        raise BadEntry("its output is damaged")
    rest = (head["created"], head["command"], outcome, tuple(_events(head["events"], body)), tuple(head["names"]))
    return Entry(key, head["result"], head["layer"], *rest, head["imported"], head["boot"])


def _events(listed: Any, body: bytes) -> Iterator[Event]:
    at = 0
    for kind, mime, size in listed:
        if kind not in _KINDS or type(mime) is not str or len(mime) > _TEXT or type(size) is not int or size < 0:
            raise BadEntry("a part of its output has the wrong type")
        if kind == FILE and not _is_below(mime):
            raise BadEntry("the path of a file is not one in /out")
        if at + size > len(body):
            raise BadEntry("its output is cut off")
        yield Event(kind, body[at : at + size], mime)
        at += size
    if at != len(body):
        raise BadEntry("its output is longer than its parts")


def _is_below(path: str) -> bool:
    """Return whether a path, or one with a slash at its end, names something below a directory."""
    parts = path.removesuffix("/").split("/")
    return "\0" not in path and not any(part in ("", ".", "..") for part in parts)


class Cache:
    """The results in the store at `store` (host)."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.folder = store / CACHE

    def read(self, key: str) -> Entry | None:
        """Return the result with that key; None if there is none that is whole. Raises `OSError`."""
        try:
            entry = parse(key, self._content(key))
        except (FileNotFoundError, BadEntry):
            return None
        return entry if entry.is_there else None

    def _content(self, key: str) -> bytes:
        try:
            fd = os.open(self.folder / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadEntry("it is a link") from error
            raise
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > HEAD_LIMIT + OUTPUT_LIMIT:
                raise BadEntry("it is not a file of a cell's result")
            return file.read(HEAD_LIMIT + OUTPUT_LIMIT)

    def write(self, entry: Entry, temporary: Path) -> None:
        """Write a result, in place of the one with its key. `temporary` is a free path in the store.

        It is used until the next boot of this machine, and later only after `settle`. Raises `OSError`, and `BadEntry`
        for a result that could not be read.
        """
        data = replace(entry, boot=boot_id()).to_bytes()
        parse(entry.key, data)
        self.folder.mkdir(mode=0o755, exist_ok=True)
        replace_file(self.folder / entry.key, temporary, data, sync=False)

    def settle(self, entry: Entry, temporary: Path) -> None:
        """Record that a result and its layer are on disk, if it is still there. Raises `OSError`.

        The caller holds the store's lock (shared), so that no process removes the result in between.
        """
        found = self.read(entry.key)
        if found is not None and found.result == entry.result:
            replace_file(self.folder / entry.key, temporary, replace(found, boot="").to_bytes())

    def names(self) -> list[str]:
        """Return the names of all files, those of damaged ones too. Raises `OSError`."""
        try:
            return sorted(name for name in os.listdir(self.folder) if _KEY.fullmatch(name))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def entries(self) -> Iterator[tuple[str, Entry | BadEntry]]:
        """Yield each key with its result, or with the error of a damaged file. Raises `OSError`."""
        for key in self.names():
            try:
                yield key, parse(key, self._content(key))
            except FileNotFoundError:
                continue
            except BadEntry as error:
                yield key, error

    def layers(self) -> set[str]:
        """Return the layers that results need. Raises `OSError`."""
        return {layer for key in self.names() if (layer := self._layer(key))}

    def _layer(self, key: str) -> str:
        """Return the layer that the first line of a file names; empty for none. The output is not read."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            fd = os.open(self.folder / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                return str(json.loads(file.readline(HEAD_LIMIT))["layer"])
        return ""

    def remove(self, key: str) -> None:
        """Remove a result. Raises `OSError`."""
        (self.folder / key).unlink(missing_ok=True)


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine (proc_sys_kernel(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
