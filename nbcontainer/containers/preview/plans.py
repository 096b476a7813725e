"""The plan of a request that is not run, and what a process sees in the container that the plan makes."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cells.cell import Cell
from nbcontainer.containers.cells.cell_files import CellFiles, has_host_ids
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cells.surroundings import surrounded
from nbcontainer.containers.cells.template import SCRIPT_FILE, Attached
from nbcontainer.containers.run import choose_container, copy_on_write
from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import ContainerNotFound
from nbcontainer.sandbox.inside import look_around
from nbcontainer.sandbox.plan import ahead
from nbcontainer.sandbox.sandboxed_call import perform
from nbcontainer.sandbox.steps.program import CallFunction
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.engine import Engine
    from nbcontainer.progress import Listener
    from nbcontainer.sandbox.spec import Mounts, Overlay
    from nbcontainer.sandbox.steps.base import Plan
    from nbcontainer.sandbox.userns.idmap import IdMap


def plan_of(engine: Engine, request: Request, progress: Listener | None = None) -> tuple[Plan, int]:
    """Return the plan of a request, and how many of its first steps can be done before the request is made.

    Nothing is run, and no container is made: a request that names one which does not exist is planned without a name.
    Volumes of the store are left out. Raises this package's errors.
    """
    cell, upper = _unstarted(engine, request, progress)
    plan = cell.make_template(Attached(_travelling(cell))).on(upper.root, upper.name)
    return plan, len(ahead(plan))


def _travelling(cell: Cell) -> Mounts:
    """Return the mounts of a cell as a plan has them: with a layer for what changes, and with the notebook's trees."""
    mounts = cell.options.mounts
    if cell.cow is not None:
        mounts = cell.cow.planned(mounts)
    if has_host_ids(mounts, cell.launcher):
        return mounts
    trees = enumerate(mounts.volumes, SCRIPT_FILE + 1)
    return replace(mounts, volumes=tuple(replace(volume, tree=number) for number, volume in trees))


def observe(engine: Engine, request: Request, progress: Listener | None = None) -> tuple[Plan, IdMap, dict[str, Any]]:
    """Return what a process sees in a request's container: its plan, its map of ids, and what `look_around` returns.

    The plan is that of the request, but a function of this package takes the place of the program. It changes nothing.
    Volumes of the store are left out. On a read-only store the root is read-only. Raises this package's errors.
    """
    cell, upper = _unstarted(engine, request, progress)
    files = CellFiles(engine, cell.launcher, cell.request, cell.streams, cell.cow)
    with store_errors("look into a container", engine.store.path):
        root = _made(upper)
        try:
            files.open_null_streams()
            plan = cell.make_template(files.attach()).on(root, upper.name)
            look = CallFunction(look_around.__module__, look_around.__name__)
            seen = perform(cell.launcher, plan.calling(look), files.travelling)
        finally:
            files.close()
            if cell.cow is not None:
                cell.cow.release()
            if not upper.remove():
                engine.discard_later(upper.left)
    return plan, cell.launcher.idmap, seen


def _unstarted(engine: Engine, request: Request, progress: Listener | None) -> tuple[Cell, WriteLayer]:
    """Return a cell for a request, and a write layer for it that has no directories yet."""
    if request.name and request.image:
        try:
            containers.get(engine, request.name)
        except ContainerNotFound:
            request = replace(request, name="")
    container, image = choose_container(engine, request, progress)
    streams = Streams(_nowhere, _nowhere)
    request = surrounded(engine, request, image, streams)
    mounts = replace(request.options.mounts, named=())
    request = replace(request, options=replace(request.options, mounts=mounts))
    cell = Cell(engine, container, image, request, streams, copy_on_write(engine, container, request))
    lowers = container.lowers
    return cell, WriteLayer(engine.store, engine, lowers, view(engine.store, cell.launcher, lowers))


def _made(upper: WriteLayer) -> Overlay:
    """Make a write layer; return the root on it, which is read-only if the store is. Raises `OSError`."""
    try:
        upper.make()
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        parts = tuple(replace(part, upper=None, work=None) for part in upper.root.parts)
        return replace(upper.root, upper=None, work=None, parts=parts)
    return upper.root


def _nowhere(_: bytes) -> None:
    pass
