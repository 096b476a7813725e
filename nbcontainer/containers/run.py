"""Run a request: choose its container, run it there as a cell, and keep what it wrote."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers import lookup as containers
from nbcontainer.containers import named_volumes as volumes
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cells.cell import Cell
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cells.surroundings import surrounded
from nbcontainer.containers.cells.template import Attached
from nbcontainer.containers.container import Container
from nbcontainer.errors import (
    ContainerBusy,
    ContainerError,
    ContainerNotFound,
    ImageError,
    ImageNotFound,
    LauncherError,
    LimitUnavailable,
    NbcontainerError,
    NetworkUnavailable,
    SetupFailed,
    UsageError,
)
from nbcontainer.oci import reference
from nbcontainer.outcome import from_status
from nbcontainer.store import writable
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.cached.use import Use
    from nbcontainer.containers.cow.attaching import CowVolumes
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener

    Notify = Callable[[str], None]

UNAPPLIED = (
    "the changes to {} are in a layer until the next cell without --name: `%container changes` lists them, and "
    "`%container apply` writes them"
)
"""The notice after a cell of an anonymous container that changed a copy-on-write volume."""


def check(engine: Engine, options: RunOptions) -> None:
    """Raise `LinkRefused` for a path of the options that leads through a link which a container could have made."""
    if not (options.process.links or options.mounts.volumes):
        return
    for links in (options.process.links, *(volume.links for volume in options.mounts.volumes)):
        if links:
            with store_errors("look up the directories that containers can write to", engine.store.path):
                writable.check(engine.store, links)


def choose_container(
    engine: Engine,
    request: Request,
    progress: Listener | None = None,
    kind: type[Container] = Container,
    notify: Notify | None = None,
) -> tuple[Container, Image]:
    """Return a request's container, which is made if it does not exist, and its image. Raises this package's errors.

    `notify` gets a line for each tolerance with which the image was ingested for this request.
    """
    with store_errors("use a container", engine.store.path):
        return _choose_container(engine, request, progress, kind, notify)


def _choose_container(
    engine: Engine, request: Request, progress: Listener | None, kind: type[Container], notify: Notify | None
) -> tuple[Container, Image]:
    if not request.image and not request.name:
        raise UsageError("missing image", hint="name one, as in `%%container busybox`, or a container by --name")
    if request.name:
        with contextlib.suppress(ContainerNotFound):
            found = containers.get(engine, request.name, kind)
            if found.anonymous:
                raise UsageError(f"container '{request.name}' is anonymous", hint="choose another name")
            _check_same_image(engine, found, request, progress, notify)
            if not dict(request.options.labels).items() <= found.record.labels.items():
                hint = f"remove --label, or `%container rm {found.name}` first"
                raise UsageError(f"container '{found.name}' exists, and keeps its labels", hint=hint)
            return found, found.image()
        if not request.image:
            containers.get(engine, request.name)  # raises, with the hint
    image, labels = _find(engine, request, progress, notify), dict(request.options.labels)
    if request.name:
        return containers.create(engine, image, request.name, labels, kind), image
    return containers.create_anonymous(engine, image, labels, kind), image


def _find(engine: Engine, request: Request, progress: Listener | None, notify: Notify | None) -> Image:
    """Return the image. If it is missing and no container can start here, that is the error: a pull would not help."""
    selection, images = request.options.selection, engine.images.reporting_to(progress)
    try:
        image = images.find(request.image, pull=selection.pull, platform=selection.platform)
    except ImageError as error:
        assert engine.launcher.pid
        if not request.name and _is_container(engine, request.image):
            hint = f"'{request.image}' is a container: write `--name {request.image}` to use that"
            raise ImageNotFound(f"no image '{request.image}' was found: {error.message}", hint=hint) from error
        raise
    if notify is not None:
        for text in dict.fromkeys(images.notices):
            notify(f"note: {text}")
    return image


def _is_container(engine: Engine, word: str) -> bool:
    try:
        containers.get(engine, word)
    except NbcontainerError:
        return False
    return True


def _check_same_image(
    engine: Engine, found: Container, request: Request, progress: Listener | None, notify: Notify | None
) -> None:
    word = request.image
    if not word:
        return
    if not reference.is_path(word):
        wanted = reference.parse(word)
        # A name with a digest is looked up: an older version may have made the container by a false one.
        if wanted.familiar == found.record.image and wanted.digest in ("", found.record.image_digest):
            return
    if _find(engine, request, progress, notify).digest == found.record.image_digest:
        return
    hint = f"remove the image to continue with '{found.name}', or choose another name"
    raise ContainerError(f"container '{found.name}' was made from '{found.record.image}', not '{word}'", hint=hint)


def run_in(
    engine: Engine, container: Container, image: Image, request: Request, streams: Streams, *, keep: bool = True
) -> Outcome:
    """Return the outcome of one cell in a container. Raises `SetupFailed` if it cannot start, `ContainerBusy` …

    In every case, all its processes end. What it wrote is a layer of the container, if it wrote anything; if
    not `keep`, it is discarded, and the container has no cell more.
    """
    engine.check_process()
    engine.background.keep_pace()
    request = surrounded(engine, request, image, streams)
    asked = request.options
    check(engine, asked)
    with contextlib.ExitStack() as stack:
        with store_errors("use a container", engine.store.path):
            if container.saved or not container.anonymous:  # a new one has no lock, and nothing to finish
                stack.enter_context(container.use(wait=lambda: _announce_wait(engine, container, streams)))
            container.flatten()
        use = None
        if keep and request.options.cache not in _NOT_CACHED:
            use = _cached(engine, container, image, request, streams)
            if use is not None and (outcome := use.hit()) is not None:
                container.settle()
                return outcome
            if use is not None:
                stack.callback(use.recorder.close)
        mounts = request.options.mounts
        if mounts.named or (mounts.read_only and mounts.image_volumes):
            mounts = stack.enter_context(volumes.attached(engine, container, image, mounts))
            request = replace(request, options=replace(request.options, mounts=mounts))
        cow = copy_on_write(engine, container, request)
        if use is not None:
            request, streams = use.connect(request)
        cell = Cell(engine, container, image, request, streams, cow)
        cell.result, cell.asked = "" if use is None else use.result, asked
        outcome = _run_and_keep(engine, container, cell, keep=keep)
        if use is not None:
            use.keep(outcome, cell.touched)
        return outcome


def _run_and_keep(engine: Engine, container: Container, cell: Cell, *, keep: bool) -> Outcome:
    """Run a cell; with `keep`, keep what it left. All its processes end, and what it used is released.

    What a cell wrote is kept as well if an error here ended it: its output could not be written, for example.
    """
    outcome = None
    began = time.monotonic()
    try:
        outcome = cell.run()
        return outcome
    except (SetupFailed, LauncherError):
        raise
    except BaseException:
        if cell.running is not None:
            outcome = from_status(None, stopped=None, wall_time=time.monotonic() - began)
        raise
    finally:
        try:
            if keep:
                _keep(engine, container, cell, outcome)
            elif outcome is None and cell.running is not None:
                cell.running.kill()
        finally:
            cell.release()


_NOT_CACHED = ("", "off")


def _cached(engine: Engine, container: Container, image: Image, request: Request, streams: Streams) -> Use | None:
    """Return the use of the cache by a request, None if it is not cached. It is imported when it is used."""
    from nbcontainer.containers.cached.use import lookup

    with store_errors("look into the cache", engine.store.path):
        return lookup(engine, container, image, request, streams)


def _keep(engine: Engine, container: Container, cell: Cell, outcome: Outcome | None) -> None:
    """Keep what a cell left, and prepare for the next one."""
    with store_errors("keep what the cell left", engine.store.path):
        cell.keep(outcome)
    if outcome is not None and not cell.options.host_userns:
        _prewarm_like(engine, container, cell)
    container.settle()


def copy_on_write(engine: Engine, container: Container, request: Request) -> CowVolumes | None:
    """Return the copy-on-write volumes of a request; None if it has none. Raises `UsageError`, `ContainerError`."""
    options = request.options
    volumes = [volume for volume in options.mounts.volumes if volume.cow is not None]
    if not volumes:
        return None
    from nbcontainer.containers.cow.attaching import CowVolumes

    return CowVolumes(engine, container, volumes, own_ids=not options.host_userns)


def _announce_wait(engine: Engine, container: Container, streams: Streams) -> Callable[[], None] | None:
    """Say that the cell waits for the one that runs in its container; return what ends the wait (`Streams`).

    Raises `ContainerBusy` if that is a kernel, a live container or a job, which may run until it is stopped.
    """
    running = running_containers(engine.store).get(container.name)
    if running is not None and (running.kernel or running.log or running.live):
        problem = f"container '{container.name}' is running, here or in another notebook"
        raise ContainerBusy(problem, hint=f"stop it first: `%container stop {container.name}`")
    say = streams.on_wait or streams.notify
    say(f"waiting for the cell that runs in container '{container.name}', here or in another notebook")
    return streams.check_wait


def _prewarm_like(engine: Engine, container: Container, cell: Cell) -> None:
    """Prewarm for a next cell like this one: an anonymous one on the same image, or one in the same container."""
    assert cell.template is not None
    first = container.anonymous and container.record.count == 1
    lowers = container.record.base[::-1] if first else container.lowers
    engine.prewarm(lowers, cell.options.resources.cgroup_limits, cell.template)


def run(
    engine: Engine,
    request: Request,
    streams: Streams,
    *,
    progress: Listener | None = None,
    kind: type[Container] = Container,
) -> tuple[Container, Outcome]:
    """Return the container in which a request ran, an object of the class `kind`, and its outcome.

    An anonymous container replaces the last one as the engine's `last`. With `remove`, it is removed at once, but one
    that was there before stays if the run fails with an error.
    """
    check(engine, request.options)
    found = bool(request.name) and request.remove and containers.has(engine, request.name)
    container, image = choose_container(engine, request, progress, kind, streams.notify)
    check_removable(container, request, found=found)
    if not request.name:
        engine.replace_last(None)
    keep = not request.remove
    try:
        outcome = run_in(engine, container, image, request, streams)
    except BaseException as error:
        not_started = isinstance(error, SetupFailed | LimitUnavailable | NetworkUnavailable)
        keep = found or (keep and (bool(request.name) or not not_started))
        raise
    finally:
        if not keep:
            container.remove()
        else:
            engine.replace_last(container)
    if keep and container.anonymous and streams.on_notice is not None:
        for volume in container.record.volumes:
            if volume.layers:
                streams.on_notice(UNAPPLIED.format(volume.source))
    return container, outcome


def check_removable(container: Container, request: Request, *, found: bool) -> None:
    """Raise `ContainerError` if `remove` would drop changes of volumes: of a container that was there before."""
    if found and request.remove and container.record.has_unapplied_changes:
        problem = f"container '{container.name}' has changes to copy-on-write volumes that are not applied"
        raise ContainerError(problem, hint=f"`%container apply {container.name}` writes them; or leave out --rm")


def prewarm_image(engine: Engine, word: str) -> None:
    """Prewarm for the first cell to be on an image, if the store has it. Raises `ImageNotFound`."""
    image = engine.store.index.image(reference.parse(word).familiar)
    container = containers.create_anonymous(engine, image)
    cell = Cell(engine, container, image, Request(image=word, script=""), Streams(_nowhere, _nowhere))
    engine.prewarm(
        container.lowers, cell.options.resources.cgroup_limits, cell.make_template(Attached(cell.options.mounts))
    )


def _nowhere(_: bytes) -> None:
    pass
