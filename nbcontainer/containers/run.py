"""Running a request: in which container, as a cell of it, and what is kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers import container as containers
from nbcontainer.containers.cell import Cell, Request, Streams, store_errors
from nbcontainer.containers.options import check_options
from nbcontainer.errors import (
    ContainerError,
    ContainerNotFound,
    LimitUnavailable,
    NetworkUnavailable,
    SetupFailed,
    UsageError,
)
from nbcontainer.oci import reference
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store import writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.oci.documents import Image
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener

    Sink = Callable[[bytes], None]


def check(engine: Engine, options: RunOptions) -> None:
    """Raises `UsageError` for what no run can be asked for, `LinkRefused` for paths that containers could redirect."""
    check_options(options)
    for links in (options.links, *(volume.links for volume in options.volumes)):
        if links:
            with store_errors(engine, "look up the directories that containers can write to"):
                writable.check(engine.store, links)


def choose_container(engine: Engine, request: Request, progress: Listener | None = None) -> tuple[Container, Image]:
    """The container that a request means, made where it does not exist, and its image. Raises this package's errors."""
    with store_errors(engine, "use a container"):
        return _choose_container(engine, request, progress)


def _choose_container(engine: Engine, request: Request, progress: Listener | None) -> tuple[Container, Image]:
    if not request.image and not request.name:
        raise UsageError("no image", hint="name one, as in %%container busybox, or a container by --name")
    if request.name:
        with contextlib.suppress(ContainerNotFound):
            found = containers.get(engine, request.name)
            if found.anonymous:
                raise UsageError(f"{request.name} is an anonymous container", hint="choose another name")
            _check_same_image(engine, found, request, progress)
            return found, found.image()
        if not request.image:
            containers.get(engine, request.name)  # raises, with the hint
    image = _find(engine, request, progress)
    if request.name:
        return containers.create(engine, image, request.name), image
    return containers.create_anonymous(engine, image), image


def _find(engine: Engine, request: Request, progress: Listener | None) -> Image:
    options = request.options
    return engine.images.reporting_to(progress).find(request.image, pull=options.pull, platform=options.platform)


def _check_same_image(engine: Engine, found: Container, request: Request, progress: Listener | None) -> None:
    word = request.image
    if not word:
        return
    if not reference.is_path(word):
        wanted = reference.parse(word)
        # A name with a digest is looked up: an older version may have made the container by a false one.
        if wanted.familiar == found.record.image and wanted.digest in ("", found.record.image_digest):
            return
    if _find(engine, request, progress).digest == found.record.image_digest:
        return
    hint = f"leave the image out to go on with {found.name}, or choose another name"
    raise ContainerError(f"container {found.name} was made from {found.record.image}, not from {word}", hint=hint)


def run_in(engine: Engine, container: Container, image: Image, request: Request, streams: Streams) -> Outcome:
    """Runs one cell in a container to its end. Raises `SetupFailed` where it cannot start, `ContainerBusy` …

    Whatever happens, nothing of it runs afterwards; what it wrote is a layer of the container, if it wrote anything.
    """
    check(engine, request.options)
    with contextlib.ExitStack() as stack:
        with store_errors(engine, "use a container"):
            stack.enter_context(container.use())
        cell = Cell(engine, container, image, request, streams)
        outcome = None
        try:
            outcome = cell.run()
        finally:
            try:
                with store_errors(engine, "keep what the cell left"):
                    cell.settle(outcome)
                if outcome is not None and request.options.userns != idmap.HOST:
                    # The next cell is most likely like this one: anonymous on the same image, or in this container.
                    lowers = container.record.base[::-1] if container.anonymous else container.lowers
                    engine.prewarm(lowers, request.options.cgroup_limits, cell.plan_for)
            finally:
                cell.clear_away()
        return outcome


def run(
    engine: Engine, request: Request, streams: Streams, *, progress: Listener | None = None
) -> tuple[Container, Outcome]:
    """Runs a request to its end: the container it ran in, and how it ended.

    An anonymous container replaces the last one as the engine's `last`; with `remove`, it is gone at once.
    """
    check(engine, request.options)
    container, image = choose_container(engine, request, progress)
    if not request.name:
        engine.replace_last(None)
    keep = not request.remove
    try:
        outcome = run_in(engine, container, image, request, streams)
    except (SetupFailed, LimitUnavailable, NetworkUnavailable):
        keep = keep and bool(request.name)
        raise
    finally:
        if not keep:
            container.remove()
        else:
            engine.replace_last(container)
    return container, outcome


def prewarm_image(engine: Engine, word: str) -> None:
    """Prepares for the first cell to be on an image, if the store has it. Raises `ImageNotFound`."""
    image = engine.store.index.image(reference.parse(word).familiar)
    container = containers.create_anonymous(engine, image)
    cell = Cell(engine, container, image, Request(image=word, script=""), Streams(_nowhere, _nowhere))
    engine.prewarm(container.lowers, cell.options.cgroup_limits, cell.plan_for)


def _nowhere(_: bytes) -> None:
    pass
