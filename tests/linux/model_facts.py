"""What the models of histories and of copy-on-write volumes compare: facts of all files of a tree, from a directory
or from a tar; and what their cells do."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable

ROOT = os.geteuid() == 0
"""Only root can give the model's files to other users, so owners are compared for root alone."""

Facts = dict[str, tuple[object, ...]]

Groups = dict[str, object]
"""The identity of each regular file by its path: names of one file have the same one."""

PATHS = ("a", "b", "d", "d/a", "d/e", "d/e/f")
DO = {
    "write": "mkdir -p $(dirname {p}) && rm -rf {p} && echo {n} > {p} && touch -d @{n} {p}",
    "append": "[ -f {p} ] && echo {n} >> {p} && touch -d @{n} {p}",
    "remove": "rm -rf {p}",
    "directory": "rm -rf {p}; mkdir -p {p} && chmod 7{m} {p}",
    "mode": "[ -e {p} ] && [ ! -L {p} ] && chmod 7{m} {p}",
    "link": "mkdir -p $(dirname {p}) && rm -rf {p} && ln -s {n} {p} && touch -h -d @{n} {p}",
    "name": "[ -f a ] && [ {p} != a ] && mkdir -p $(dirname {p}) && rm -rf {p} && ln a {p}",
    "move": "[ -d d ] && rm -rf b && mv d b",
    "nothing": "true",
    **({"owner": "[ -e {p} ] && [ ! -L {p} ] && chown {m}:1{m} {p}"} if ROOT else {}),
}
"""What cells do: `{p}` is a path, `{n}` a new number, and `{m}` two digits."""

_XATTR = "SCHILY.xattr."


def linked(groups: Iterable[Iterable[str]]) -> Facts:
    """Facts about names of the same file."""
    return {f"={min(names)}": tuple(sorted(names)) for names in map(list, groups) if len(names) > 1}


def of_directory(top: Path) -> Facts:
    """The facts of all files below a directory: type, mode, owner, time, attributes, content or target.

    Links have no time here: `mv` of busybox gives a link another one if it has to copy a directory of a lower layer.
    """
    found: Facts = {}
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            facts, key = os.lstat(path), os.path.relpath(path, top)
            owner = (facts.st_uid, facts.st_gid) if ROOT else ()
            if stat.S_ISLNK(facts.st_mode):
                found[key] = ("link", owner, os.readlink(path))  # noqa: PTH115
            elif stat.S_ISDIR(facts.st_mode):
                found[key] = ("directory", owner, stat.S_IMODE(facts.st_mode))
            else:
                names = [one for one in os.listxattr(path) if one.startswith("user.")]
                attributes = {one: os.getxattr(path, one).decode() for one in names}
                content = Path(path).read_bytes()
                found[key] = ("file", owner, stat.S_IMODE(facts.st_mode), int(facts.st_mtime), attributes, content)
    return found


def of_tar(tar: tarfile.TarFile, top: str = "", *, links: bool = True) -> Facts:
    """The facts of all files in a tar below `top`, as `of_directory` has them; with `links`, the names of one file."""
    found: Facts = {}
    same: dict[str, set[str]] = {}
    for entry in tar:
        key = _below(entry.name, top)
        if not key:
            continue
        owner = (entry.uid, entry.gid) if ROOT else ()
        if entry.issym():
            found[key] = ("link", owner, entry.linkname)
        elif entry.isdir():
            found[key] = ("directory", owner, entry.mode)
        else:
            first = _below(entry.linkname, top) if entry.islnk() else key
            same.setdefault(first, {first}).add(key)
            source = tar.getmember(entry.linkname) if entry.islnk() else entry
            content = tar.extractfile(source)
            assert content is not None
            headers = source.pax_headers
            attributes = {name.removeprefix(_XATTR): headers[name] for name in headers if name.startswith(_XATTR)}
            owner = (source.uid, source.gid) if ROOT else ()
            found[key] = ("file", owner, source.mode, int(source.mtime), attributes, content.read())
    return found | linked(same.values()) if links else found


def _below(name: str, top: str) -> str:
    """Return the path of an entry relative to `top` (`w/`); an empty one for `top` itself and what is not in it."""
    path = name.removeprefix("./")
    return path.removeprefix(top).rstrip("/") if path.startswith(top) else ""


def inodes(top: Path) -> dict[str, tuple[int, int]]:
    """The inode and the change time of each regular file below a directory."""
    found = {}
    for folder, _, files in os.walk(top):
        for name in files:
            facts = os.lstat(path := os.path.join(folder, name))  # noqa: PTH118
            if stat.S_ISREG(facts.st_mode):
                found[os.path.relpath(path, top)] = (facts.st_ino, facts.st_ctime_ns)
    return found


def followed(top: Path, was: dict[str, tuple[int, int]], old: Groups, number: int) -> Groups:
    """The identities of the files below a directory that `was` so before a cell, and whose files had `old` ones.

    A file that was not touched is still the one that it was. overlayfs copies a file that changes, so it is not the
    same as its other names any more.
    """
    return {
        path: old[path] if was.get(path) == found and path in old else (number, found[0])
        for path, found in inodes(top).items()
    }


def moved(groups: Groups, old: Groups, number: int) -> Groups:
    """The identities of files that busybox moved from `d` to `b`: copies, and those that were one file still are."""
    return {path: (number, old["d" + path[1:]]) for path in groups if path.startswith("b/")}


def drop_attributes(top: Path) -> None:
    """Remove the attributes of a directory and all below it: `mv` of busybox copies lower layers without them."""
    for path in (top, *top.rglob("*")):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith(("user.", "security.capability")):
                os.removexattr(path, name, follow_symlinks=False)


def by_names(groups: Groups) -> Facts:
    """Facts about names of the same file, by their identities."""
    names: dict[object, list[str]] = {}
    for path, group in groups.items():
        names.setdefault(group, []).append(path)
    return linked(names.values())


def copy(source: Path, target: Path) -> None:
    """Copy a file or tree. Names of one file become files of their own: `Groups` say which were one."""
    keep = "--preserve=mode,ownership,timestamps,xattr"
    subprocess.run(["cp", "-PR", keep, source, target], check=True)
