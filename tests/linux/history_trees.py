"""The model of histories: a tree of files for each state, in a directory of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.linux.model_facts import (
    DO,
    Facts,
    Groups,
    by_names,
    copy,
    drop_attributes,
    followed,
    inodes,
    moved,
    of_directory,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Cell:
    """A state of the model: the one before it, and the whole tree after it."""

    parent: int
    tree: Facts
    changed: bool
    groups: Groups = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """The tree, and the names of the same file."""
        return self.tree | by_names(self.groups)


class Trees:
    """All states of the model, below the directory `place`. `head` is the present one, `tip` where redo leads to."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.cells = [Cell(-1, {}, changed=False)]
        self.head = self.tip = 0

    @property
    def now(self) -> Cell:
        """The present state."""
        return self.cells[self.head]

    def line(self, at: int) -> list[int]:
        """The states up to `at`, the newest first, without the image."""
        found = []
        while at > 0:
            found.append(at)
            at = self.cells[at].parent
        return found

    def changed(self, at: int) -> list[int]:
        """Those of `line` whose cell changed something."""
        return [one for one in self.line(at) if self.cells[one].changed]

    def ahead(self) -> list[int]:
        """The states that changed something and that `redo` leads to, the next one first."""
        here = set(self.line(self.head))
        return [one for one in self.changed(self.tip) if one not in here][::-1]

    def undo(self, steps: int) -> None:
        """Go back by as many states that changed something."""
        self.head = self.cells[self.changed(self.head)[steps - 1]].parent

    def redo(self, steps: int) -> None:
        """Go forward by as many states that changed something."""
        ahead = self.ahead()
        self.head = self.tip if steps == len(ahead) else self.cells[ahead[steps]].parent

    def adopt(self, new: Cell, *, changed: bool) -> None:
        """Add a state after the present one."""
        new.changed = changed
        self.cells.append(new)
        self.head = self.tip = len(self.cells) - 1

    def after(self, script: str) -> Cell:
        """The state after a script. It is not added."""
        after = self.copied()
        was, copies = inodes(after), script == DO["move"] and (after / "d").is_dir()
        subprocess.run(["busybox", "sh", "-c", script], cwd=after, check=False, stderr=subprocess.DEVNULL)
        if copies:
            drop_attributes(after / "b")
        new = self.cell(after, was)
        if copies:
            new.groups |= moved(new.groups, self.now.groups, len(self.cells))
        return new

    def copied(self) -> Path:
        """A copy of the present tree, for the next state."""
        before, after = self.place / f"w{self.head}", self.place / f"w{len(self.cells)}"
        shutil.rmtree(after, ignore_errors=True)  # of a process that was killed
        if before.exists():
            copy(before, after)
        else:
            after.mkdir()
        return after

    def cell(self, after: Path, was: dict[str, tuple[int, int]]) -> Cell:
        """The state with the tree `after`; `was` are the files before it."""
        groups = followed(after, was, self.now.groups, len(self.cells))
        return Cell(self.head, of_directory(after), changed=False, groups=groups)

    def restored(self, chosen: int, path: str) -> Cell | None:
        """The state with a path of the state `chosen`; None if that is refused. It is not added."""
        old, now = self.cells[chosen].tree, self.now.tree
        above = list(itertools.accumulate(path.split("/")[:-1], "{}/{}".format))
        for way in above:
            kinds = [tree.get(way, ("",))[0] for tree in (old, now)]
            if "link" in kinds or kinds == ["directory", "file"] or "directory" not in kinds:
                return None
        if path not in old and path not in now:
            return None
        after, source = self.copied(), self.place / f"w{chosen}"
        was = inodes(after)
        subprocess.run(["rm", "-rf", after / path], check=True)
        if path in old:
            for way in above:
                if not (after / way).exists():
                    (after / way).mkdir()
                    facts = (source / way).stat()
                    os.chown(after / way, facts.st_uid, facts.st_gid)
                    (after / way).chmod(stat.S_IMODE(facts.st_mode))
            copy(source / path, after / path)
        new = self.cell(after, was)
        inside = [one for one in new.groups if one == path or one.startswith(f"{path}/")]
        new.groups |= {one: self.cells[chosen].groups[one] for one in inside}
        assert self.now.groups.keys() >= new.groups.keys() - set(inside)
        return new
