"""The container of the Python API: what can be done with a container, as methods."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from nbcontainer.commands.options.table import RunKeywords, strings
from nbcontainer.containers import commit as committing
from nbcontainer.containers import container as containers
from nbcontainer.containers import diff as comparing
from nbcontainer.containers import run as running
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cell import Request, Streams
from nbcontainer.containers.diff import Change
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.record import Record
from nbcontainer.containers.snapshot import frozen_copy, held
from nbcontainer.containers.workspace import Workspace
from nbcontainer.errors import ContainerBusy
from nbcontainer.oci.documents import Image
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Outcome
from nbcontainer.progress import State
from nbcontainer.runs.calls import Call, Data, request_in
from nbcontainer.runs.results import Result


class Container(containers.Container):
    """A container: its files stay from run to run. `create` makes one, and `get` returns a named one.

    As a context manager it ends what runs in it; an anonymous container is then removed, and a named one is kept.

    >>> with create("busybox") as box:
    ...     result = box.run(script="echo kept > /srv/file")
    ...     print(box.run(["cat", "/srv/file"]).text, end="")
    ...     print([str(change) for change in box.diff()])
    kept
    ['C /srv', 'A /srv/file']
    """

    def __init__(self, workspace: Workspace, record: Record, *, saved: bool = True) -> None:
        super().__init__(workspace, record, saved=saved)
        self._free = threading.Lock()

    def run(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        inputs: dict[str, Any] | None = None,
        get: Sequence[str] | dict[str, str] = (),
        check: bool = True,
        stdout: Callable[[bytes], None] | None = None,
        stderr: Callable[[bytes], None] | None = None,
        **options: Unpack[RunKeywords],
    ) -> Result:
        """Run a command or a script in this container, with the files that its last run left.

        Arguments and errors are those of `nbcontainer.run`, without the image. Raises `ContainerBusy` if it runs
        already.
        """
        data = Data(input, inputs or {}, get)
        request = request_in(self.record.image, command, script, data, options)
        call = Call(
            request,
            data,
            engine=cast("Engine", self.workspace),
            stdout=stdout,
            stderr=stderr,
            runner=self._run,
        )
        return call.result(check=check)

    def _run(
        self, engine: Engine, request: Request, streams: Streams, _: Callable[[State], None]
    ) -> tuple[containers.Container, Outcome]:
        with self._alone():
            running.check(engine, request.options)
            engine.retain(self)
            outcome = running.run_in(engine, self, self.image(), replace(request, image="", name=self.name), streams)
            if not self.anonymous:
                engine.replace_last(self)
            return self, outcome

    @contextlib.contextmanager
    def _alone(self) -> Any:
        """Hold the container in this process: the lock of an anonymous container is in memory."""
        if not self._free.acquire(blocking=False):
            raise ContainerBusy(f"container '{self.name}' is running in another thread", hint="wait for it, or stop it")
        try:
            yield
        finally:
            self._free.release()

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
        with self._now() as now:
            made = committing.commit(now, image, message=message, changes=strings("changes", changes), force=force)
            if output is not None:
                layers = now.lowers[::-1]
                with held(now.workspace, now.name, now.record.image_digest, layers):
                    committing.export(now.workspace, layers, host_path(str(output)))
        return made

    @contextlib.contextmanager
    def _now(self) -> Any:
        """Yield this container, or a frozen copy if it runs."""
        if self.name in running_containers(self.workspace.store):
            with frozen_copy(self.workspace, self.name) as copy:
                yield copy
        else:
            yield self

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self.anonymous:
            cast("Engine", self.workspace).retain(self)
            self.remove()


def run_fresh(
    engine: Engine, request: Request, streams: Streams, progress: Callable[[State], None]
) -> tuple[containers.Container, Outcome]:
    """Run a request in a container of its own, or in the one that it names; return the container and the outcome."""
    return running.run(engine, request, streams, progress=progress, kind=Container)
