"""Facts of all files below a directory. This text also runs in containers, where an interpreter is all there is."""

from __future__ import annotations

import os
import stat
import sys
from typing import Any


def attributes_of(path: str) -> dict[str, str]:
    """Return the attributes of a file: those of users, and its capabilities, whatever user namespace they are of."""
    found = {}
    for name in sorted(os.listxattr(path)):
        if name.startswith("user.") and not name.startswith("user.overlay."):
            found[name] = os.getxattr(path, name).hex()
        elif name == "security.capability":
            found[name] = os.getxattr(path, name)[4:20].hex()
    return found


def facts_of(top: str) -> dict[str, Any]:
    """Return type, owner, mode, time (ns), attributes and content or target by path, and which names are one file."""
    found: dict[str, Any] = {}
    names: dict[tuple[int, int], list[str]] = {}
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            facts, key = os.lstat(path), os.path.relpath(path, top)
            owner, mode, time = (facts.st_uid, facts.st_gid), stat.S_IMODE(facts.st_mode), facts.st_mtime_ns
            if stat.S_ISLNK(facts.st_mode):
                found[key] = ("link", owner, mode, time, {}, os.readlink(path))  # noqa: PTH115
            elif stat.S_ISDIR(facts.st_mode):
                found[key] = ("directory", owner, mode, time, attributes_of(path), "")
            else:
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = ("file", owner, mode, time, attributes_of(path), file.read())
                names.setdefault((facts.st_dev, facts.st_ino), []).append(key)
    return found | {f"={min(group)}": tuple(sorted(group)) for group in names.values() if len(group) > 1}


if __name__ == "__main__":
    sys.stdout.write(repr(facts_of(".")))
