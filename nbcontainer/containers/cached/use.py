"""One cell with `--cache`: a hit is replayed; a miss is run, and its result kept."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.containers.cached.key import Key, NotCached, key_of, volumes_in_key, why_never, why_not
from nbcontainer.containers.cached.outputs import NotKept, ReplayedOutput, closed_on_error, kept_files
from nbcontainer.containers.cached.recording import Recorder, replay
from nbcontainer.containers.cached.volume_content import Digests
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.options import StandardInput
from nbcontainer.linux.files import syncfs
from nbcontainer.oci import timestamps
from nbcontainer.rendering.quantities import duration
from nbcontainer.sandbox.plan import reaches_others
from nbcontainer.store.cache_entries import BadEntry, Cache, Entry
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome

_COMMAND = 4000  # characters of a cell's text in its result

ALWAYS = "always"


def lookup(engine: Engine, container: Container, image: Image, request: Request, streams: Streams) -> Use | None:
    """Return the use of the cache by a request, with the container's lock held; None if the request is not cached.

    A notice says why, once in a notebook. Raises `StoreError`, `UsageError`, and what a sandbox raises.
    """
    always = request.options.cache == ALWAYS
    try:
        for reason in why_never(request, streams):
            raise NotCached(reason)
        for reason in () if always else why_not(container, image, request):
            raise NotCached(f"{reason}; `--cache=always` caches it anyway")
        return Use(engine, container, request, streams, key_of(container, request, streams, digests_of(engine)))
    except NotCached as error:
        note(engine, streams, str(error))
        return None


def digests_of(engine: Engine) -> Digests:
    """Return the digests of files that this process has read for keys."""
    if not isinstance(engine.file_digests, Digests):
        engine.file_digests = Digests()
    return engine.file_digests


def note(engine: Engine, streams: Streams, reason: str) -> None:
    """Show once in a notebook why a cell is not cached."""
    engine.note_once(f"--cache: the cell runs and is not cached: {reason}", streams.notify)


@dataclass
class Use:
    """The use of the cache by one cell."""

    engine: Engine
    container: Container
    request: Request
    streams: Streams
    key: Key

    def __post_init__(self) -> None:
        self.cache = Cache(self.engine.store.path)
        self.recorder = Recorder()
        self.result = secrets.token_hex(16)

    def hit(self) -> Outcome | None:
        """Replay the result of the same cell, and make the container's state the one after it; None if there is none.

        Raises `StoreError`; then the container has not changed.
        """
        store = self.engine.store
        with store_errors("read a kept result", self.engine.store.path), store.lock(shared=True):
            entry = self.cache.read(self.key.digest)
            if entry is None or (entry.layer and not (store.path / "layers" / entry.layer / "diff").exists()):
                return None
            output = None
            if self._has_output:
                try:
                    output = ReplayedOutput(store, entry.events)
                except (OSError, ValueError):  # the disk is full, or the result names no files: the cell runs
                    return None
            now = timestamps.timestamp(time.time())
            cell = CellRecord(
                entry.layer, self.request.as_text, now, entry.outcome, result=entry.result, computed=entry.created
            )
            self.container.confinement = None
            with closed_on_error(output):
                self.container.add_cell(cell)
        if output is not None and self.streams.on_output is not None:
            self.streams.on_output(output.directory, output.remove, trusted=not entry.imported)
        replay(entry.events, self.streams, trust=not entry.imported)
        if self.streams.on_cached is not None:
            self.streams.on_cached(described(entry))
        return entry.outcome

    @property
    def _has_output(self) -> bool:
        """Whether the cell has an `/out`."""
        return self.streams.values is not None and self.streams.values.output

    def connect(self, request: Request) -> tuple[Request, Streams]:
        """Return the request and the streams of the cell, which is recorded, and reads the input that was hashed."""
        streams = self.recorder.between(self.streams)
        if self.key.given is None:
            return request, streams
        return replace(request, stdin=StandardInput(self.key.given)), replace(streams, stdin=None)

    def keep(self, outcome: Outcome, touched: str = "") -> None:
        """Keep the result of the cell that has just run, if it ended well. An error is shown, and fails nothing.

        `touched` is what acted on it from outside, empty for nothing: then another run may end otherwise.
        """
        if not outcome.ok:
            return
        problem = touched or self._problem()
        if not problem:
            try:
                self._write(outcome)
                self._hand_out()
            except OSError:  # a full disk: the cell runs again
                pass
            except BadEntry:
                problem = "its output has too many parts, or a name in it is too long"
        if problem:
            note(self.engine, self.streams, problem)

    def _hand_out(self) -> None:
        """Let the caller read the files that were kept, if another container could change those of `/out` meanwhile."""
        options = self.request.options
        give = self.streams.on_output
        if self._has_output and give is not None and reaches_others(options.mounts, options.networking):
            output = ReplayedOutput(self.engine.store, self.recorder.events)
            give(output.directory, output.remove, trusted=True)

    def _problem(self) -> str:
        """Return why the result cannot be kept; empty if it can."""
        if not self.recorder.complete:
            return "its output is too large"
        head = self.container.record.head
        if head is None or head.cell.result != self.result:
            return "its changes are lost"
        if any(volume.read_only for volume in self.request.options.mounts.volumes) and self._changed():
            return "its read-only volumes changed while it ran"
        return self._problem_of_files()

    def _problem_of_files(self) -> str:
        """Keep the files of `/out`; return why they cannot be kept, empty if they are."""
        if self.recorder.directory is None:
            return "its /out is not there" if self._has_output else ""
        try:
            for event in kept_files(self.recorder.directory):
                self.recorder.add(event.kind, event.data, event.mime)
        except NotKept as error:
            return str(error)
        return "" if self.recorder.complete else "its output is too large"

    def _changed(self) -> bool:
        """Return whether a volume has changed since the key was made."""
        try:
            found = volumes_in_key(self.request.options.mounts, digests_of(self.engine), wait=False)
            return found != (self.key.volumes, self.key.times)
        except NotCached:
            return True

    def _write(self, outcome: Outcome) -> None:
        store, head = self.engine.store, self.container.record.head
        assert head is not None
        text = self.request.as_text[:_COMMAND]
        entry = Entry(
            self.key.digest,
            self.result,
            head.cell.layer,
            head.cell.created,
            text,
            outcome,
            self.recorder.events,
            self.key.names,
        )
        if entry.layer:
            store.layers.share(entry.layer)
        self.cache.write(entry, store.path / "tmp" / store.unique())
        self.engine.later(lambda: settle(self.engine, entry))


def settle(engine: Engine, entry: Entry) -> None:
    """Bring a result and its layer to disk. Raises `OSError`."""
    store = engine.store
    fd = os.open(store.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
    with store.lock(shared=True):  # a result that `prune` removes now would come back without its layer
        Cache(store.path).settle(entry, store.path / "tmp" / store.unique())


def described(entry: Entry) -> str:
    """Return the line that says that a result is a kept one, and when it was computed."""
    when = entry.created.replace("T", " ").replace("Z", " UTC")
    origin = ", imported" if entry.imported else ""
    return f"cached: computed at {when} in {duration(entry.outcome.wall_time)}{origin}"
