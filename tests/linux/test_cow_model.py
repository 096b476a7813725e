"""Random sequences of cells, `apply`, `discard` and moves in the history, against a model that copies the directory."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import attaching, volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ChangesRefused, ContainerError
from tests.linux.test_history_model import DO, PATHS, Facts
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.sandbox.spec import Volume

EXAMPLES = int(os.environ.get("NBCONTAINER_COW_EXAMPLES", "2"))
STEPS = int(os.environ.get("NBCONTAINER_COW_STEPS", "12"))


KINDS = sorted(DO.keys() - {"owner"})
"""What cells do. Owners have tests of their own: a tar does not show those of the host."""


@dataclass
class View:
    """A state of the model: the one before it, the directory with what cells see, and whether its cell changed that.

    `number` is that of the state in the container.
    """

    parent: int
    place: Path
    changed: bool
    number: int = 0


def of_directory(top: Path) -> Facts:
    """The facts of all files below a directory: type, mode, time, content or target, and the names of the same file.

    Links have no time here: `mv` of busybox gives a link another one if it has to copy a directory of the host.
    """
    found: Facts = {}
    names: dict[int, list[str]] = {}
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)  # noqa: PTH118
            facts, key = os.lstat(path), os.path.relpath(path, top)
            if stat.S_ISLNK(facts.st_mode):
                found[key] = ("link", os.readlink(path))  # noqa: PTH115
            elif stat.S_ISDIR(facts.st_mode):
                found[key] = ("directory", stat.S_IMODE(facts.st_mode))
            else:
                names.setdefault(facts.st_ino, []).append(key)
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = ("file", stat.S_IMODE(facts.st_mode), int(facts.st_mtime), file.read())
    return found | {f"={min(same)}": tuple(sorted(same)) for same in names.values() if len(same) > 1}


def of_tar(data: bytes) -> Facts:
    """The facts of all files in a tar, as `of_directory` has them."""
    found: Facts = {}
    same: dict[str, set[str]] = {}
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        for entry in tar:
            key = entry.name.removeprefix("./").rstrip("/")
            if key in ("", "."):
                continue
            if entry.issym():
                found[key] = ("link", entry.linkname)
            elif entry.isdir():
                found[key] = ("directory", entry.mode)
            else:
                first = entry.linkname.removeprefix("./") if entry.islnk() else key
                same.setdefault(first, {first}).add(key)
                source = tar.getmember(entry.linkname) if entry.islnk() else entry
                content = tar.extractfile(source)
                assert content is not None
                found[key] = ("file", source.mode, int(source.mtime), content.read())
    return found | {f"={min(names)}": tuple(sorted(names)) for names in same.values() if len(names) > 1}


class Volumes(RuleBasedStateMachine):
    """One container with one volume, and its model. `base` is the state before which no undo leads."""

    engine: Engine
    scratch: Path

    def __init__(self) -> None:
        super().__init__()
        self.name = f"cow-{secrets.token_hex(4)}"
        self.numbers = itertools.count(1_500_000_000, 1000)
        self.top = self.scratch / self.name
        self.host = self.top / "host"
        (self.host / "d").mkdir(parents=True)
        (self.host / "a").write_text("of the host\n")
        (self.host / "d" / "e").write_text("of the host\n")
        run_script(self.engine, "true")
        containers.create(self.engine, self.engine.images.find("busybox"), self.name)
        self.volume = cast("Volume", parse_volume(f"{self.host}:/w:cow"))
        self.forks: list[str] = []
        self.views = [View(-1, self._copy(self.host), changed=False)]
        self.head = self.base = 0
        self.linked = True
        self._run("true")

    @property
    def made(self) -> Container:
        """The container."""
        return containers.get(self.engine, self.name)

    def _copy(self, source: Path) -> Path:
        """A copy of a directory, with all facts."""
        target = self.top / secrets.token_hex(4)
        subprocess.run(["cp", "-a", source, target], check=True)
        return target

    def _cell(self, script: str) -> bytes:
        ran = run_script(self.engine, script, name=self.name, volumes=(self.volume,))
        assert ran.outcome.ok, ran.stderr
        return ran.stdout

    def _run(self, script: str) -> None:
        """Run a script in the container, and in a copy of the model's directory."""
        place = self._copy(self.views[self.head].place)
        subprocess.run(["busybox", "sh", "-c", script], cwd=place, check=False, stderr=subprocess.DEVNULL)
        before = self.made.record.volumes
        self._cell(f"cd /w && {{ {script}; }} 2>/dev/null; true")
        changed = bool(before) and before != self.made.record.volumes
        self._add(place, changed=changed)

    def _add(self, place: Path, *, changed: bool) -> None:
        head = self.made.record.head
        self.views.append(View(self.head, place, changed, 0 if head is None else head.number))
        self.head = len(self.views) - 1

    def _changed(self) -> list[int]:
        """The states since `base` that `undo` can take back, the newest first."""
        found, at = [], self.head
        while at > self.base:
            found += [at] if self.views[at].changed else []
            at = self.views[at].parent
        return found

    @rule(kind=some.sampled_from(KINDS), path=some.sampled_from(PATHS), mode=some.sampled_from(("00", "55", "70")))
    def cell(self, kind: str, path: str, mode: str) -> None:
        """Run a cell that changes something, or nothing."""
        self._run(DO[kind].format(p=path, n=next(self.numbers), m=mode))

    @rule()
    def apply(self) -> None:
        """The host has what cells saw, or there is nothing to apply."""
        if not volume_changes.has_changes(self.made):
            with pytest.raises(ChangesRefused):
                volume_changes.apply(self.made)
            return
        volume_changes.apply(self.made)
        assert self._facts(of_directory(self.host)) == self._facts(of_directory(self.views[self.head].place))
        self._add(self.views[self.head].place, changed=True)
        self.base = self.head
        self._run("true")

    @precondition(lambda self: volume_changes.has_changes(self.made))
    @rule()
    def discard(self) -> None:
        """Cells see the host's directory again."""
        volume_changes.discard(self.made)
        self._add(self._copy(self.host), changed=True)

    @rule(steps=some.integers(1, 3))
    def undo(self, steps: int) -> None:
        """Undo as many cells, as far as the last `apply`."""
        changed = self._changed()
        if steps <= len(changed):
            self.made.undo(steps)
            self.head = self.views[changed[steps - 1]].parent

    @precondition(lambda self: EXAMPLES > 2)
    @rule(pick=some.integers(0, 1000), path=some.sampled_from(PATHS))
    def restore(self, pick: int, path: str) -> None:
        """Give the volume a path of any state since `base`, or be refused and change nothing. In long runs only."""
        line = self._line()
        old = self.views[line[pick % len(line)]]
        before = self.made.record
        try:
            restore(self.made, old.number, [f"/w/{path}"])
        except ContainerError:
            assert self.made.record.head == before.head
            return
        place, source = self._copy(self.views[self.head].place), old.place / path
        subprocess.run(["rm", "-rf", place / path], check=True)
        if source.exists() or source.is_symlink():
            subprocess.run(["cp", "-a", source, place / path], check=True)
        self.linked = False  # which names are of one file is not in the model from here on
        self._add(place, changed=self.made.record.volumes != before.volumes)

    def _line(self) -> list[int]:
        """The states since `base`, the newest first."""
        found, at = [self.head], self.head
        while at > self.base:
            at = self.views[at].parent
            found.append(at)
        return found

    def _facts(self, found: Facts) -> Facts:
        return found if self.linked else {path: facts for path, facts in found.items() if not path.startswith("=")}

    @precondition(lambda self: self.head > 0)
    @rule()
    def checkout(self) -> None:
        """Continue in a new container in the same state; the one before stays."""
        fork = f"cow-{secrets.token_hex(4)}"
        self.made.checkout(self.made.record.head, fork)
        self.forks.append(self.name)
        self.name = fork

    @rule()
    def start_again(self) -> None:
        """Read all from disk, as another process does."""
        self.engine.states._known.clear()

    @invariant()
    def trees_agree(self) -> None:
        """Cells see the model's directory, and `changes` lists something if and only if it differs from the host's."""
        seen = of_tar(self._cell("cd /w && tar c ."))
        assert self._facts(seen) == self._facts(of_directory(self.views[self.head].place))
        self._add(self.views[self.head].place, changed=False)
        if not volume_changes.list_changes(self.made).changes:
            assert of_names(self.host) == of_names(self.views[self.head].place)

    def teardown(self) -> None:
        """Remove the containers."""
        for name in (self.name, *self.forks):
            try:
                containers.get(self.engine, name).remove()
            except ContainerError:
                continue
        self.engine.background.wait()
        shutil.rmtree(self.top)


def of_names(top: Path) -> list[str]:
    """The paths of all files below a directory."""
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.slow
@pytest.mark.timeout(180 if EXAMPLES <= 2 else 7200)
def test_volumes_agree_with_a_model_that_copies_the_directory(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step of random sequences, cells see the model's files, modes, times and links, and so does the host
    after `apply`."""
    monkeypatch.setattr(attaching, "MOST_LAYERS", 3)
    assert engine
    own = Engine(tmp_path / "store")
    try:
        machine = type("Bound", (Volumes,), {"engine": own, "scratch": tmp_path})
        chosen = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=False,
        )
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        own.close()
