"""What is attacked by way of a volume: a directory that a cell had, and one beside it that it had not."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.volumes import parse_volume
from tests.running import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine


class Scene:
    """A volume that a cell had, `data`, beside what it is not to reach: a directory with a file, `secret/key`."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder.resolve()
        self.data, self.secret = self.folder / "data", self.folder / "secret"
        self.data.mkdir()
        self.secret.mkdir()
        (self.secret / "key").write_text("NAME=secret\n")

    def on(self, engine: Engine) -> Scene:
        """The same, on another engine."""
        other = copy.copy(self)
        other.engine = engine
        return other

    def cell(self, script: str, *volumes: str, **options: Any) -> str:
        """Runs a cell of busybox to its good end; what it wrote."""
        mounts = tuple(parse_volume(volume) for volume in volumes)
        ran = run_script(self.engine, f"set -e; {script}", volumes=mounts, remove=True, **options)
        assert ran.outcome.ok, ran.stderr.decode()
        return ran.text

    def leave(self, script: str, **options: Any) -> None:
        """A cell with the volume at /d does its worst: `$S` is the directory that it is after, by its host path."""
        self.cell(f"S={self.secret}; cd /d; {script}", f"{self.data}:/d", **options)

    def verb(self, name: str, *words: object) -> str:
        """What a command answers."""
        command = VERBS[name]
        return str(command.run(Invocation(self.engine, parse(command.command, [str(word) for word in words]))))

    def users_link(self, name: str, target: str) -> None:
        """A link of the user's own, beside the volume."""
        (self.folder / name).symlink_to(target)

    @property
    def untouched(self) -> bool:
        """Whether the secret is as it was, and alone."""
        return os.listdir(self.secret) == ["key"] and (self.secret / "key").read_text() == "NAME=secret\n"
