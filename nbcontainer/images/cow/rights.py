"""What `apply` sets of directories that stay: their owner, permissions and attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.images.cow import attributes
from nbcontainer.images.cow.below import DIRECTORY, opened
from nbcontainer.images.cow.comparing import is_new_on_both, mode_of

if TYPE_CHECKING:
    from nbcontainer.images.cow.comparing import Action, View

_BITS = 0o3777


class ChangedMeanwhile(Exception):
    """The host changed a path between its comparison and its replacement."""

    def __init__(self, path: bytes) -> None:
        super().__init__()
        self.path = path


class Rights(NamedTuple):
    """The permissions, the owner and the attributes of a directory."""

    mode: int
    uid: int
    gid: int
    attributes: dict[str, bytes]

    @classmethod
    def of(cls, folder: int) -> Rights:
        """Return those of an open directory. Raises `OSError`."""
        facts = os.fstat(folder)
        return cls(stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid, attributes.kept(folder))

    def give(self, folder: int) -> int:
        """Give them to an open directory; return how many attributes it does not take. Raises `OSError`."""
        now = Rights.of(folder)
        if (now.uid, now.gid) != (self.uid, self.gid):
            os.fchown(folder, self.uid, self.gid)
        lost = attributes.replace(folder, self.attributes)
        if now[:3] != self[:3]:
            os.fchmod(folder, self.mode & _BITS)
        return lost

    def to_json(self) -> list[Any]:
        """Return them as JSON values."""
        return [self.mode, self.uid, self.gid, {name: value.hex() for name, value in self.attributes.items()}]

    @classmethod
    def from_json(cls, values: Any) -> Rights:
        """Return those of `to_json`. Raises `ValueError`, `TypeError`, `AttributeError` for anything else."""
        mode, uid, gid, own = values
        found = {name: bytes.fromhex(value) for name, value in own.items() if attributes.is_kept(name)}
        return cls(int(mode), int(uid), int(gid), found)


class Merge(NamedTuple):
    """A directory that stays: what it has before and after, and its time before in nanoseconds."""

    path: bytes
    before: Rights
    after: Rights
    mtime: int

    def to_json(self) -> list[Any]:
        """Return it as JSON values."""
        return [os.fsdecode(self.path), self.before.to_json(), self.after.to_json(), self.mtime]

    @classmethod
    def from_json(cls, values: Any) -> Merge:
        """Return that of `to_json`. Raises `ValueError`, `TypeError`, `AttributeError` for anything else."""
        path, before, after, mtime = values
        return cls(os.fsencode(path), Rights.from_json(before), Rights.from_json(after), int(mtime))

    def do(self, tree: int) -> int:
        """Give the directory what it has after; return as `Rights.give`. Raises `ChangedMeanwhile`, `OSError`."""
        with opened(tree, self.path, DIRECTORY) as folder:
            if Rights.of(folder) != self.before:
                raise ChangedMeanwhile(self.path)
            return self.after.give(folder)

    def undo(self, tree: int) -> bool:
        """Give the directory what it had, if `do` has changed it, and nothing else; return that. Raises `OSError`.

        A process that was killed may have done a part of it.
        """
        with opened(tree, self.path, DIRECTORY) as folder:
            now, before, after = Rights.of(folder), self.before, self.after
            own = before.attributes.items() | after.attributes.items()
            values = zip(now[:3], before[:3], after[:3], strict=True)
            if now == before or any(one not in both for one, *both in values) or not now.attributes.items() <= own:
                return False
            before.give(folder)
            return True


def planned(view: View, action: Action, *, force: bool) -> Merge | None:
    """Return what to do with a directory that stays, None for nothing. Raises `ChangedMeanwhile`, `OSError`.

    The volume itself keeps what it has: its owner, mode and attributes in the layer are those that the mount gave it.
    """
    noted, facts, host = view.noted.get(action.path), action.entry.facts, action.host
    assert host is not None
    wanted = (mode_of(action.entry), facts.st_uid, facts.st_gid)
    now = (stat.S_IMODE(host.st_mode), host.st_uid, host.st_gid)
    changes = (
        bool(action.path)
        and wanted != now
        and (noted is None or wanted != noted.rights)
        and not is_new_on_both(view, action.path)
    )
    if changes and noted is not None and now != noted.rights and not force:
        raise ChangedMeanwhile(action.path)
    with opened(view.layers[action.entry.layer], action.path, DIRECTORY) as source:
        new = attributes.kept(source)
    old = _attributes(view, action.path, needed=changes or bool(new))
    known = noted is not None and noted.attributes == attributes.mark(old)  # else the host changed them
    if not action.path or not (force or known):
        new = old | new
    before, after = Rights(*now, old), Rights(*(wanted if changes else now), new)
    return None if before == after else Merge(action.path, before, after, host.st_mtime_ns)


def _attributes(view: View, path: bytes, *, needed: bool) -> dict[str, bytes]:
    """Return the attributes of the host's directory; none if it may not be opened and they are not needed."""
    try:
        with opened(view.tree, path, DIRECTORY) as folder:
            return attributes.kept(folder)
    except OSError as error:
        if needed or error.errno != errno.EACCES:
            raise
        return {}
