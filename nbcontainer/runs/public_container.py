"""The container of the Python API: its files, its changes, and images of it, as methods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbcontainer.commands.options.run_option import string, strings
from nbcontainer.containers import commit as committing
from nbcontainer.containers import container as base
from nbcontainer.containers import diff as comparing
from nbcontainer.containers import run as running
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.copying import trees
from nbcontainer.containers.cow import volume_changes
from nbcontainer.containers.cow.volume_changes import Applied, VolumeChanges
from nbcontainer.containers.diff import Change
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.snapshot import frozen_copy, held
from nbcontainer.errors import ContainerNotFound
from nbcontainer.oci.documents import Image
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Outcome
from nbcontainer.progress import State
from nbcontainer.runs import arguments, container_files
from nbcontainer.runs.running_container import RunningContainer

_PUBLIC = (
    *("run", "start", "exec", "logs", "wait", "stop", "put", "get", "diff", "changes", "apply", "discard", "commit"),
    *("undo", "redo", "checkout", "rename", "remove", "image", "name", "anonymous", "cells", "record", "as_dict"),
    *("running", "health"),
)
"""The documented names of a container; the others are for this package."""


class Container(RunningContainer):
    """A container: its files stay from run to run. `create` makes one, and `get` returns a named one.

    As a context manager it ends what runs in it; an anonymous container is then removed, and a named one is kept.

    >>> with create("busybox") as box:
    ...     result = box.run(script="echo kept > /srv/file")
    ...     print(box.run(["cat", "/srv/file"]).text, end="")
    ...     print([str(change) for change in box.diff()])
    kept
    ['C /srv', 'A /srv/file']
    """

    def __dir__(self) -> list[str]:
        """List what users call, and the names of the language: what completion shows."""
        return sorted({*(name for name in super().__dir__() if name.startswith("__")), *_PUBLIC})

    def get(self, path: str, target: str | Path | None = None) -> bytes:
        """Return the content of a regular file, by its absolute path in the container; while it runs, the present one.

        Of what `start` began, or a job or a live container of this process, it also reads volumes and tmpfs.

        With `target` (host path), the file is also written there, or into a directory that is there, and a directory
        is copied there, as `%container cp` does it, with empty bytes as the value. Raises `ValueUnavailable`,
        `UsageError`, `ImageError`.

        >>> with create("busybox") as box:
        ...     result = box.run(script="echo made > /srv/made")
        ...     box.get("/srv/made", "made.txt")
        b'made\\n'
        """
        arguments.path_inside(path)
        place = None if target is None else arguments.path("target", target)
        running = self._running()
        handle = None if running is None else running.handle
        if handle is not None:
            caller = trees.of_running(handle, self.name)
            return container_files.get_from_running(self.workspace.store, caller, self.name, path, place)
        with self._now() as now:
            return container_files.get(now, path, place)

    def put(self, source: bytes | bytearray | memoryview | str | Path, path: str) -> None:
        """Write bytes, or a file or directory (host path), to an absolute path in the container.

        A string is a path: write `text.encode()` for a text. The parents of a file are made. A file of the host gets
        its own name in a directory that is there, or whose path ends with a slash. A directory is copied as
        `%container cp` does it. The file belongs to root there, and the change is part of `diff` and `commit`. Into
        what `start` began, or a job or a live container of this process, it is written while that runs, with the rights
        of what runs. Raises `ContainerBusy` for any other run, `ContainerError` if that has just ended,
        `ValueUnavailable`, `UsageError`, `ImageError`, `TypeError`.

        >>> with create("busybox") as box:
        ...     box.put(b"echo hello", "/srv/greet.sh")
        ...     box.run(["sh", "/srv/greet.sh"]).text
        'hello\\n'
        """
        engine, content = self._engine, container_files.source_of(source)
        arguments.path_inside(path)
        running = self._running()
        handle = None if running is None else running.handle
        if handle is not None:
            container_files.put(engine.store, trees.of_running(handle, self.name), content, path)
            return
        with self._alone():
            engine.retain(self)
            container_files.put(engine.store, trees.into_stopped(self, f"put {path}"), content, path)

    def diff(self) -> list[Change]:
        """Return what its runs changed, sorted by path: `kind` is A (added), C (changed) or D (deleted).

        While it runs, this is the present state.

        >>> with create("busybox") as box:
        ...     result = box.run(["touch", "/new"])
        ...     [str(change) for change in box.diff()]
        ['A /new']
        """
        with self._now() as now:
            return comparing.diff(now)

    def changes(self) -> VolumeChanges:
        """Return what its runs changed in copy-on-write volumes and is not applied; `conflicts` prevent `apply`.

        Raises `ContainerBusy`, `ChangesRefused`.

        >>> with create("busybox") as box:
        ...     box.changes().changes
        ()
        """
        with self._alone():
            return volume_changes.list_changes(self)

    def apply(self, *, force: bool = False) -> Applied:
        """Write the changes to copy-on-write volumes to the host's directories: all of them, or none.

        With `force`, the host's own changes are overwritten. Raises `ContainerBusy`, and `ChangesRefused` if the host
        changed the same files meanwhile, or if there is nothing to apply.

        >>> Path("data").mkdir(exist_ok=True)
        >>> with create("busybox") as box:
        ...     result = box.run(script="echo new > /data/file", volumes=["./data:/data:cow"])
        ...     box.apply().written
        1
        """
        with self._alone():
            return volume_changes.apply(self, force=force)

    def discard(self) -> int:
        """Drop the changes to copy-on-write volumes; return to how many volumes. `undo` brings them back.

        Raises `ContainerBusy`, and `ChangesRefused` if there are none.

        >>> Path("data").mkdir(exist_ok=True)
        >>> with create("busybox") as box:
        ...     result = box.run(script="echo newer > /data/file", volumes=["./data:/data:cow"])
        ...     box.discard()
        1
        """
        with self._alone():
            return volume_changes.discard(self)

    def commit(
        self,
        image: str,
        *,
        output: str | Path | None = None,
        message: str = "",
        changes: Sequence[str] = (),
        force: bool = False,
    ) -> Image:
        """Return a new image of what its runs left. `output` (host path) gets a tar of its merged tree.

        Raises `ContainerIncomplete` if changes of a run are lost, unless `force` is true.

        >>> with create("busybox") as box:
        ...     result = box.run(script="echo hello > /greeting")
        ...     image = box.commit("greeting", message="with a greeting")
        >>> run("greeting", ["cat", "/greeting"]).text
        'hello\\n'
        >>> remove_image("greeting")
        """
        string("image", image)
        string("message", message)
        place = None if output is None else host_path(arguments.path("output", output))
        with self._now() as now:
            made = committing.commit(now, image, message=message, changes=strings("changes", changes), force=force)
            if place is not None:
                layers = now.lowers[::-1]
                with held(now.workspace, now.name, now.record.image_digest, layers):
                    committing.export(now.workspace, layers, place)
        return made

    @contextlib.contextmanager
    def _now(self) -> Any:
        """Yield this container, or a frozen copy if it runs."""
        if self.name in running_containers(self.workspace.store):
            with frozen_copy(self.workspace, self.name) as copy:
                yield copy
        else:
            yield self.newest()

    @property
    def cells(self) -> tuple[CellRecord, ...]:
        """Its cells, the oldest first, those of other cells, objects and notebooks as well.

        >>> with create("busybox") as box:
        ...     result = box.run(["true"])
        ...     [cell.command for cell in box.cells]
        ['true']
        """
        if not self.anonymous:
            with contextlib.suppress(ContainerNotFound):
                return self.newest().cells
        return super().cells

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON values that `inspect` shows, of now."""
        if not self.anonymous:
            with contextlib.suppress(ContainerNotFound):
                return self.newest().as_dict()
        return super().as_dict()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self.anonymous:
            self.remove()


def run_fresh(
    engine: Engine, request: Request, streams: Streams, progress: Callable[[State], None]
) -> tuple[base.Container, Outcome]:
    """Run a request in a container of its own, or in the one that it names; return the container and the outcome."""
    return running.run(engine, request, streams, progress=progress, kind=Container)
