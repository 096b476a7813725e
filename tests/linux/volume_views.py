"""The model of copy-on-write volumes: what cells see in each state, and what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tests.linux.model_facts import DO, ROOT, Facts, Groups, by_names
from tests.linux.tree_facts import facts_of

if TYPE_CHECKING:
    from pathlib import Path

_SET = "$PY -c 'import os, sys; os.setxattr(sys.argv[1], {name}, {value})' {{p}} {{n}}"
CAPABLE = "0100000200200000000000000000000000000000"
_THERE, _FILE = "[ -e {p} ] && [ ! -L {p} ] && ", "[ -f {p} ] && [ ! -L {p} ] && "
DO_MORE = {
    **DO,
    "attribute": _THERE + _SET.format(name='"user.mine"', value="sys.argv[2].encode()"),
    "no attribute": _THERE + "$PY -c 'import os, sys; os.removexattr(sys.argv[1], \"user.mine\")' {p}",
    "time": _FILE + "touch -d @{n} {p}",
}
if ROOT:
    value = f'bytes.fromhex("{CAPABLE}")'
    DO_MORE["capability"] = _FILE + _SET.format(name='"security.capability"', value=value)

KINDS = sorted(DO_MORE)
"""What cells do."""

CAPABILITY = "security.capability"
"""The attribute that never reaches the host."""


@dataclass
class View:
    """A state of the model: the one before it, the directory with what cells see, and whether its cell changed that.

    `groups` say which files are one. `number` is that of the state in the container.
    """

    parent: int
    place: Path
    groups: Groups
    changed: bool
    number: int = 0

    @property
    def facts(self) -> Facts:
        """What cells see: the model does not have the times of directories and links, nor parts of seconds."""
        return steady(files(facts_of(str(self.place)))) | by_names(self.groups)


def files(facts: Facts) -> Facts:
    """Facts without the names of the same file. Only root can give files to other users: owners are root's alone."""
    found = {path: one for path, one in facts.items() if not path.startswith("=")}
    return found if ROOT else {path: (kind, (), *more) for path, (kind, _, *more) in found.items()}


def names(facts: Facts) -> Facts:
    """Only the names of the same file."""
    return {path: one for path, one in facts.items() if path.startswith("=")}


def steady(facts: Facts) -> Facts:
    """Facts without the times of directories and links, and of files in seconds."""
    return {
        path: (kind, owner, mode, cast("int", time) // 10**9 if kind == "file" else 0, *more)
        for path, (kind, owner, mode, time, *more) in facts.items()
    }


def without_capability(one: tuple[object, ...]) -> tuple[object, ...]:
    """Facts of a file without its capabilities."""
    kind, owner, mode, time, attributes, content = one
    left = {name: value for name, value in cast("dict[str, str]", attributes).items() if name != CAPABILITY}
    return kind, owner, mode, time, left, content
