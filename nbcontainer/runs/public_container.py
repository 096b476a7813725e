"""The container of the Python API: what can be done with a container, as methods."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from nbcontainer.commands.options.run_option import string, strings
from nbcontainer.commands.options.table import RunKeywords
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
from nbcontainer.containers.jobs import following
from nbcontainer.containers.live import joining
from nbcontainer.containers.record import Record
from nbcontainer.containers.snapshot import frozen_copy, held
from nbcontainer.containers.workspace import Workspace
from nbcontainer.errors import ContainerBusy, ContainerError, UsageError
from nbcontainer.oci.documents import Image
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Outcome
from nbcontainer.progress import State
from nbcontainer.runs import container_files
from nbcontainer.runs.background_run import STOP_GRACE, BackgroundRun
from nbcontainer.runs.calls import Call, Data, request_in
from nbcontainer.runs.results import Result

_TURN = 0.005
"""Seconds between two looks at a run of another thread that has begun, and that can be stopped in a moment."""


class Container(base.Container):
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
        self._background: BackgroundRun | None = None

    def run(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        inputs: Mapping[str, Any] | None = None,
        get: Sequence[str] | Mapping[str, str] = (),
        check: bool = True,
        stdout: Callable[[bytes], None] | None = None,
        stderr: Callable[[bytes], None] | None = None,
        **options: Unpack[RunKeywords],
    ) -> Result:
        """Run a command or a script in this container, with the files that its last run left.

        Arguments and errors are those of `nbcontainer.run`, without the image. Raises `ContainerBusy` if it runs
        already.

        >>> with create("busybox") as box:
        ...     result = box.run(["sh", "-c", "echo one > /file"])
        ...     box.run(script="cat /file; echo two").text
        'one\\ntwo\\n'
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

    def start(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        inputs: Mapping[str, Any] | None = None,
        **options: Unpack[RunKeywords],
    ) -> Container:
        """Start a command or a script in this container, and return the container while it runs.

        It ends by itself, by `stop`, at the end of the `with` block, or with this process. Raises what `run` raises at
        its beginning.

        >>> with create("busybox").start(script="echo up; sleep 1000") as box:
        ...     while not box.logs():
        ...         pass
        ...     print(box.logs(), box.stop())
        b'up\\n' True
        """
        data = Data(input, inputs or {})
        request = request_in(self.record.image, command, script, data, options)
        self._background = BackgroundRun(cast("Engine", self.workspace), self, request, data, self._run)
        return self

    def exec(
        self,
        command: Sequence[str] = (),
        *,
        script: str | None = None,
        input: bytes | str | None = None,  # noqa: A002 - as in subprocess.run
        env: Sequence[str] | Mapping[str, str] = (),
        user: str = "",
        workdir: str = "",
        timeout: float | str | None = None,
        check: bool = True,
        stdout: Callable[[bytes], None] | None = None,
        stderr: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run a command or a script by a new process in this container while it runs, as `docker exec` does.

        It has the namespaces and the limits of what runs there, its environment with `env` added, and its user and its
        working directory unless `user` and `workdir` name others. Arguments, result and errors are those of `run`;
        values in `/in` and `/out` are not available. Raises `ContainerError` if nothing runs in the container in this
        process.

        >>> with create("busybox").start(["sleep", "1000"]) as box:
        ...     box.exec(["cat", "/proc/1/comm"]).text
        'nbcontainer-ini\\n'
        """
        if not command and script is None:
            raise UsageError("exec: missing command", hint='write it as in exec(["ls", "/"])')
        found = self._joinable()
        given: dict[str, Any] = {"env": env}
        for name, value in (("user", user), ("workdir", workdir)):
            if value != "":
                given[name] = value
        if timeout is not None:
            given["timeout"] = timeout
        data = Data(input)
        request = request_in("", command, script, data, given)

        def run_there(_: Engine, request: Request, streams: Streams, __: object) -> tuple[base.Container, Outcome]:
            return self, joining.run_inside(found, request, streams, streams.on_follow)

        engine = cast("Engine", self.workspace)
        call = Call(request, data, engine=engine, stdout=stdout, stderr=stderr, runner=run_there)
        return call.result(check=check)

    def _joinable(self) -> joining.Joinable:
        """Return what runs in it and can be joined. Raises `ContainerError` if nothing does."""
        if (found := self._running()) is not None:
            return found
        hint = "start something in it with `start`, or use `run`"
        raise ContainerError(f"nothing runs in container '{self.name}' in this process", hint=hint)

    def _running(self) -> joining.Joinable | None:
        """Return the run that `start` began, or a job or a live container of this process; None without one."""
        live = cast("Engine", self.workspace).live.get(self.name)
        if self._background is not None and self._background.running:
            return self._background.job
        return cast("joining.Joinable", live) if live is not None and live.handle is not None else None

    def logs(self) -> bytes:
        """Return what the last job has written so far, to both streams; the newest 16 MiB.

        That is the run that `start` began, or a job of any process in this container. Raises `ContainerError` if there
        was none.

        >>> with create("busybox").start(["echo", "hello"]) as box:
        ...     result = box.wait()
        ...     box.logs()
        b'hello\\n'
        """
        if self._background is not None:
            return self._background.logs()
        self._check_has_job()
        with following.open_log(cast("Engine", self.workspace), self.name) as log:
            return b"".join(record.data for record in log.records())

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end of the last job, and return its result, whose output is in `logs`.

        That is the run that `start` began, or a job of any process in this container. Raises `ContainerError` if it
        still runs after `timeout` seconds, or if there was none.

        >>> with create("busybox").start(script="exit 3") as box:
        ...     box.wait(timeout=60).exit_code
        3
        """
        if self._background is not None:
            return self._background.wait(timeout)
        self._check_has_job()
        end = following.wait(cast("Engine", self.workspace), self.name, timeout)
        if end.outcome is None:
            raise ContainerError(f"the job in container '{self.name}' {end.describe()}", hint="see `logs`")
        return Result(self, end.outcome, b"", b"")

    def _check_has_job(self) -> None:
        """Raise `ContainerError` for an anonymous container in which nothing was started: it is in no store."""
        if self.anonymous and following.own_job(cast("Engine", self.workspace), self.name) is None:
            hint = "start a job with `start`"
            raise ContainerError(f"nothing was started in container '{self.name}'", hint=hint)

    def stop(self, timeout: float = STOP_GRACE) -> bool:
        """End what runs in it, in any process; return False if nothing does. Raises `StoreError`.

        What `start` began, or a job of this process, gets its stop signal, and is killed after `timeout` seconds.

        >>> with create("busybox") as box:
        ...     box.stop()
        False
        """
        engine = cast("Engine", self.workspace)
        if not isinstance(timeout, int | float) or not timeout >= 0:
            raise UsageError(f"invalid timeout: {timeout!r}", hint="write a number of seconds")
        job = engine.jobs.get(self.name) if self._background is None else self._background.job
        if job is not None and job.join(0) is False:
            job.stop(timeout)
            return True
        while not super().stop():
            if self._free.acquire(timeout=_TURN):
                self._free.release()
                return False
        return True

    def get(self, path: str, target: str | Path | None = None) -> bytes:
        """Return the content of a regular file, by its absolute path in the container; while it runs, the present one.

        Of what `start` began, or a job or a live container of this process, it also reads volumes and tmpfs.

        With `target` (host path), the file is also written there, and a directory is copied there, as `%container cp`
        does it, with empty bytes as the value. Raises `ValueUnavailable`, `UsageError`, `ImageError`.

        >>> with create("busybox") as box:
        ...     result = box.run(script="echo made > /srv/made")
        ...     box.get("/srv/made", "made.txt")
        b'made\\n'
        """
        string("path", path)
        running = self._running()
        handle = None if running is None else running.handle
        if handle is not None:
            caller = trees.of_running(handle, self.name)
            return container_files.get_from_running(self.workspace.store, caller, self.name, path, target)
        with self._now() as now:
            return container_files.get(now, path, target)

    def put(self, source: bytes | str | Path, path: str) -> None:
        """Write bytes, or a file or directory of the host by its path, to an absolute path in the container.

        A directory is copied as `%container cp` does it. The file belongs to root there, and the change is part of
        `diff` and `commit`. Into what `start` began, or a job or a live container of this process, it is written while
        that runs, with the rights of what runs. Raises `ContainerBusy` for any other run, `ContainerError` if that has
        just ended, `ValueUnavailable`, `UsageError`, `ImageError`.

        >>> with create("busybox") as box:
        ...     box.put(b"echo hello", "/srv/greet.sh")
        ...     box.run(["sh", "/srv/greet.sh"]).text
        'hello\\n'
        """
        engine = cast("Engine", self.workspace)
        string("path", path)
        running = self._running()
        handle = None if running is None else running.handle
        if handle is not None:
            container_files.put(engine.store, trees.of_running(handle, self.name), source, path)
            return
        with self._alone():
            engine.retain(self)
            container_files.put(engine.store, trees.into_stopped(self, f"put {path}"), source, path)

    def _run(
        self, engine: Engine, request: Request, streams: Streams, _: Callable[[State], None]
    ) -> tuple[base.Container, Outcome]:
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
) -> tuple[base.Container, Outcome]:
    """Run a request in a container of its own, or in the one that it names; return the container and the outcome."""
    return running.run(engine, request, streams, progress=progress, kind=Container)
