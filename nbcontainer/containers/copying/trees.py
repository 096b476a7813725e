"""Files and directories out of a container, and into one, running or not: `cp`, and `put` and `get` of directories.

The files are a stream in a pipe (`nbcontainer.images.single_files.stream`). On the container's side a process reads or
writes them that has the container's tree as its root: a sandbox, or in a running container a copy of its init.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shlex
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import ContainerError, ImageError, UsageError, ValueUnavailable
from nbcontainer.images import sandboxed, trash
from nbcontainer.images.single_files import receiving, sending
from nbcontainer.linux.pipes import read_now
from nbcontainer.oci import timestamps
from nbcontainer.oci.reference import host_path
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox import sandboxed_call
from nbcontainer.sandbox.join_watch import JoinWatch
from nbcontainer.sandbox.joined import ENDED, JoinedHandle, end_copy
from nbcontainer.sandbox.steps.program import CallFunction
from nbcontainer.store import user_files, writable
from nbcontainer.store.errors import path_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.images.single_files.receiving import Counts
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.store.layout import Store

    Caller = Callable[..., Any]


def check(path: str) -> str:
    """Return a container path as an absolute one. Raises `UsageError`."""
    if "\0" in path or ".." in path.split("/") or not path:
        raise UsageError(f"invalid path in the container: {path!r}", hint="write an absolute path, as in /srv/data")
    return path if path.startswith("/") else f"/{path}"


@dataclass(frozen=True)
class HostPath:
    """A path of the host as it was written: `content` if it ended with `/.`, `directory` if it ended with `/`."""

    path: Path
    content: bool = False
    directory: bool = False

    @classmethod
    def of(cls, text: str) -> HostPath:
        """Return the path that a text names."""
        content = text in (".", "./") or text.endswith(("/.", "/./"))
        return cls(host_path(text), content, text.endswith("/"))


# Out


def copy_out(
    caller: Caller, path: str, target: HostPath, store: Store, *, follow: bool = False, most: int | None = None
) -> Counts:
    """Copy the file or directory at `path` in a container to `target`, as `docker cp` does; return what was copied.

    `caller` calls a function on the container's side. More than `most` bytes are `receiving.TooLarge`. Raises
    `ValueUnavailable`, `ImageError`, `LinkRefused`, `UsageError`.
    """
    path, content = check(path), path.endswith("/.")
    with _host_target(store, target, _name_of(path), content=content) as place:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        limited = replace(place, most=most)

        def receive() -> Counts:
            try:
                return receiving.receive(reader, limited)
            except OSError as error:
                raise _not_written(target, error) from error

        received = _Thread(receive, lambda: os.close(reader))
        try:
            left = _call_and_close(caller, sandboxed.send_path, writer, path=path, follow=follow)
        except BaseException as error:
            _raise_first(received, error, f"write {target.path}", f"read {path} in the container")
        counts = received.join()
        return receiving.Counts(counts.files, left, counts.links)


def _call_and_close(caller: Caller, function: Callable[..., Any], fd: int, **arguments: Any) -> Any:
    try:
        return caller(function, [fd], **arguments)
    finally:
        os.close(fd)


def _raise_first(other: _Thread, error: BaseException, others: str, own: str) -> NoReturn:
    """Raise the error of the other side, if that is the cause of `error`; `others` and `own` are their acts."""
    try:
        other.join()
    except BrokenPipeError:
        pass
    except OSError as cause:
        raise _failed(others, cause) from cause
    except ValueUnavailable as cause:
        if not isinstance(error, Exception) or cause.message == receiving.TOO_EARLY:
            pass
        else:
            raise
    if isinstance(error, OSError):
        raise _failed(own, error) from error
    raise error


@contextlib.contextmanager
def _host_target(store: Store, target: HostPath, name: str, *, content: bool) -> Iterator[receiving.Target]:
    """Yield the host's place for a copy: in an existing directory under its own name, else under the target's name."""
    with contextlib.ExitStack() as stack:
        try:
            try:
                folder = stack.enter_context(user_files.directory(store, target.path))
                place = receiving.Target(folder, os.fsencode(name), content)
            except (FileNotFoundError, NotADirectoryError) as error:
                if target.directory and isinstance(error, NotADirectoryError):
                    raise
                folder = stack.enter_context(user_files.directory(store, target.path.parent))
                place = receiving.Target(folder, os.fsencode(target.path.name), only_directory=target.directory)
        except OSError as error:
            raise _not_written(target, error) from error
        yield place


def _not_written(target: HostPath, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        hint = f"mkdir -p {shlex.quote(str(target.path if target.directory else target.path.parent))}"
    else:
        hint = path_advice(error)
    return ImageError(f"cannot write {target.path}: {error.strerror or error}", hint=hint)


def _name_of(path: str) -> str:
    """Return the name of a copy in a directory. The root of a container has none, and gets `root`."""
    return path.rstrip("/").removesuffix("/.").rpartition("/")[2] or "root"


def _failed(do: str, error: OSError) -> ImageError:
    return ImageError(f"cannot {do}: {error.strerror or error}", hint=path_advice(error))


# In


def copy_in(caller: Caller, source: HostPath, path: str, store: Store) -> int:
    """Copy a file or directory of the host to `path` in a container, as `docker cp` does; return the number of files.

    The links of its path are checked, and links below it are copied as links. Raises as `copy_out`.
    """
    directory, path = path.endswith("/"), check(path)
    top, name = _opened(store, source)
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        sent = _Thread(lambda: sending.send(top, writer, what=str(source.path)), lambda: os.close(writer))
        arguments = {"path": path if not directory or path == "/" else f"{path.rstrip('/')}/", "name": name}
        try:
            found = _call_and_close(caller, sandboxed.receive_path, reader, content=source.content, **arguments)
        except BaseException as error:
            _raise_first(sent, error, f"read {source.path}", f"write {path} in the container")
        with contextlib.suppress(BrokenPipeError):
            sent.join()
        return int(found)
    finally:
        os.close(top)


def _opened(store: Store, source: HostPath) -> tuple[int, str]:
    """Return a descriptor of what is copied, and the name of the copy."""
    try:
        fd, links = user_files.open_file(source.path)
    except OSError as error:
        raise _failed(f"read {source.path}", error) from error
    try:
        writable.check(store, links)
        return fd, source.path.name or source.path.absolute().name or "root"
    except BaseException:
        os.close(fd)
        raise


# As a tar


def send_tar(caller: Caller, path: str, out: int, *, follow: bool = False) -> None:
    """Write the file or directory at `path` in a container to the descriptor `out` as a tar.

    Raises `ValueUnavailable`, `ImageError`, `UsageError`, and `BrokenPipeError` if `out` is closed at its other end.
    """
    path = check(path)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    relayed = _Thread(lambda: _relay(reader, out), lambda: os.close(reader))
    try:
        _call_and_close(caller, sandboxed.send_tar, writer, path=path, follow=follow)
    except Exception as error:
        _join_relay(relayed)
        if isinstance(error, OSError):
            raise _failed(f"read {path} in the container", error) from error
        raise
    _join_relay(relayed)


def _join_relay(relayed: _Thread) -> None:
    try:
        relayed.join()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _failed("write to standard output", error) from error


def _relay(source: int, target: int) -> None:
    """Write all that `source` reads to `target`. The container's side never has the notebook's own descriptor."""
    while data := os.read(source, 1 << 16):
        while data:
            data = data[os.write(target, data) :]


def receive_tar(caller: Caller, source: int, path: str, *, single_id: bool) -> int:
    """Unpack the tar that the descriptor `source` reads into a directory in a container; return the number of entries.

    It may be compressed. With `single_id`, its owners are left out. Raises `ValueUnavailable`, `HostileArchive`,
    `ImageError`, `UsageError`.
    """
    path = check(path)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    relayed = _Thread(lambda: _relay_until_closed(source, writer), lambda: os.close(writer))
    try:
        found = _call_and_close(caller, sandboxed.receive_tar, reader, path=path, single_id=single_id)
    except OSError as error:
        raise _failed(f"write {path} in the container", error) from error
    finally:
        relayed.wait()  # the reader is closed by now, which ends it
    try:
        relayed.join()
    except BrokenPipeError:  # the tar has ended before its file
        pass
    except OSError as error:
        raise _failed("read the standard input", error) from error
    return int(found)


def _relay_until_closed(source: int, target: int) -> None:
    """Write all that `source` reads to a pipe, until its reader is closed: it never waits for the source alone."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(target, 0)
    while target not in dict(poll.poll()):
        try:
            data = read_now(source, 1 << 16)
        except BlockingIOError:
            continue
        if not data:
            return
        while data:
            data = data[os.write(target, data) :]


class _Thread:
    """Work in a thread, with its result. `done` is called in the thread at the end."""

    def __init__(self, work: Callable[[], Any], done: Callable[[], None]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._result = work()
            except BaseException as error:
                self._error = error
            finally:
                done()

        self._thread = threading.Thread(target=run, name="nbcontainer-copy", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def join(self) -> Any:
        """Wait for the end, and return the result. Raises what the work raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result


# The container's side


def of_stopped(container: Container) -> Caller:
    """Return what calls a function that reads the layers of a container."""

    def call(function: Callable[..., Any], files: list[int], **arguments: Any) -> Any:
        return container.workspace.on_layers(function, container.lowers, files, **arguments)

    return call


def into_stopped(container: Container, what: str) -> Caller:
    """Return what calls a function that writes to a container, whose changes become a layer, as those of a cell."""

    def call(function: Callable[..., Any], files: list[int], **arguments: Any) -> Any:
        workspace, store = container.workspace, container.workspace.store
        with container.use():
            lowers = container.lowers
            upper = WriteLayer(store, workspace, lowers, view(store, workspace.launcher, lowers))
            upper.make()
            try:
                found = sandboxed_call.call(workspace.launcher, function, upper.root, files, **arguments)
                _keep(container, upper, what)
                return found
            finally:
                if not upper.remove():
                    trash.discard(store, workspace, upper.left)

    return call


def _keep(container: Container, upper: WriteLayer, what: str) -> None:
    workspace, store = container.workspace, container.workspace.store
    with store.lock(shared=True):
        layer = upper.keep(workspace)
        cell = CellRecord(layer, what, timestamps.timestamp(time.time()), Outcome(Reason.EXITED, 0))
        try:
            container.add_cell(cell)
        except BaseException:
            workspace.discard_later([store.path / "layers" / layer])
            raise


def of_running(handle: ContainerHandle, name: str) -> Caller:
    """Return what calls a function in a running container of this process that other processes can join."""

    def call(function: Callable[..., Any], files: list[int], **arguments: Any) -> Any:
        step = CallFunction(function.__module__, function.__name__, json.dumps(arguments))
        try:
            with JoinedHandle(handle) as joined, JoinWatch(joined, (), handle.kill):
                _call(joined, step, files)
        except OSError as error:
            if error.errno not in ENDED:
                raise
            raise ContainerError(f"container '{name}' has just ended", hint="copy it again") from error
        return sandboxed_call.answer_of(joined, step.function)

    return call


def _call(joined: JoinedHandle, step: CallFunction, files: list[int]) -> None:
    """Have a process of a running container call a function, and wait for its answer. Raises `OSError`.

    On any error, that process is ended first (`end_copy`).
    """
    try:
        joined.call(step, files)
        while joined.answer is None and joined.ended is None and joined.failed is None:
            if not joined.read_or_end():
                raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
    except BaseException:
        end_copy(joined)
        raise
