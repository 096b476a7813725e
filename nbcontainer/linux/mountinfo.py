"""What is mounted where, as proc_pid_mountinfo(5) tells it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """One line of proc_pid_mountinfo(5): `root` is the part of the file system that is seen at `target`."""

    root: str
    target: str
    options: tuple[str, ...]
    fstype: str
    super_options: tuple[str, ...] = ()


def read_mounts(text: str) -> list[Mount]:
    """The mounts that a mountinfo file tells of, in its order; a later one covers an earlier one."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if len(words) < 6 or len(rest) < 3:
            continue
        root, target = _plain(words[3]), _plain(words[4])
        found.append(Mount(root, target, tuple(words[5].split(",")), rest[0], tuple(rest[2].split(","))))
    return found


def _plain(word: str) -> str:
    """A path as mountinfo writes it, with its octal escapes undone."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)
