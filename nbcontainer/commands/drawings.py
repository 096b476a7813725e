"""The verbs that draw how a container is made: `layers`, `mounts` and `namespaces`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.command import Verb
from nbcontainer.commands.docker_answers import RUN_ANSWERS
from nbcontainer.commands.grammar import Command
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.run import request_of
from nbcontainer.commands.verbs.targets import container_of
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.preview.layer_sheets import layer_stack
from nbcontainer.containers.preview.plans import observe
from nbcontainer.drawing.mount_tree import VOLUME, DrawnMount, MountTree
from nbcontainer.drawing.namespace_map import Namespace, NamespaceMap
from nbcontainer.errors import ContainerBusy, UsageError
from nbcontainer.linux.procfs import read_mounts
from nbcontainer.sandbox.inside import look_around
from nbcontainer.sandbox.steps.copy_on_write import MountCopyOnWrite
from nbcontainer.sandbox.steps.devices import DEVICES
from nbcontainer.sandbox.steps.exchange.values import INPUT, OUTPUT
from nbcontainer.sandbox.steps.volumes import BindVolume, MountTmpfs
from nbcontainer.sandbox.userns.idmap import MapKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbcontainer.commands.command import Invocation
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.drawing.layer_stack import LayerStack
    from nbcontainer.linux.procfs import Mount
    from nbcontainer.sandbox.steps.base import Plan
    from nbcontainer.sandbox.userns.idmap import IdMap

_DIGITS = 9
_FLAGS = ("nosuid", "nodev", "noexec")
_FIXED = {
    "/proc": "the container's processes",
    "/sys": "the hardware",
    "/sys/fs/cgroup": "the container's limits",
    "/dev": "the devices of the container",
    "/dev/pts": "its terminals",
    "/dev/shm": "its shared memory",
    "/dev/mqueue": "its message queues",
    "/proc/1/fd": "the streams of the cell",
    "/etc/resolv.conf": "the name servers of its network",
    INPUT: "values from the notebook",
    OUTPUT: "values for the notebook",
}


def _request(call: Invocation, verb: str) -> Request:
    words = call.words
    request = request_of(words, script=None if words.tail else "")
    if not request.image and not request.name:
        raise UsageError(f"{verb}: missing image", hint=f"name one, as in `{verb} busybox`, or a container by --name")
    if request.name in running_containers(call.engine.store):
        hint = f"look into it, as in `%container exec {request.name} cat /proc/self/mountinfo`; or remove --name"
        raise ContainerBusy(f"container '{request.name}' is running, and `{verb}` draws a new run", hint=hint)
    return request


def _mounts(call: Invocation) -> MountTree:
    plan, _, seen = observe(call.engine, _request(call, "mounts"), call.listener)
    return draw_mounts(read_mounts(seen["mountinfo"]), _sources(plan))


def draw_mounts(mounts: Iterable[Mount], sources: Mapping[str, str] = _FIXED) -> MountTree:
    """Return a drawing of mounts. `sources` says briefly what is mounted, by container path."""
    ordered = sorted(mounts, key=lambda mount: mount.target != "/")  # the root first
    return MountTree(tuple(_drawn(mount, sources) for mount in ordered))


def _sources(plan: Plan) -> dict[str, str]:
    """Return briefly what is mounted, by container path, as far as the options of the run decide it."""
    sources = dict(_FIXED)
    for step in plan:
        if isinstance(step, BindVolume):
            sources[step.target] = f"{VOLUME}{step.source}"
        elif isinstance(step, MountCopyOnWrite):
            sources[step.target] = f"{VOLUME}{step.source}, and above it a layer with changes"
        elif isinstance(step, MountTmpfs):
            sources[step.target] = "memory (--tmpfs)"
    return sources


def _drawn(mount: Mount, sources: Mapping[str, str]) -> DrawnMount:
    flags = tuple(flag for flag in mount.options if flag in _FLAGS)
    read_only = "ro" in (*mount.options, *mount.super_options)
    return DrawnMount(
        mount.number,
        mount.parent,
        mount.target,
        mount.fstype,
        _source(mount, sources),
        read_only,
        flags,
        _propagation(mount.tags),
    )


def _source(mount: Mount, sources: Mapping[str, str]) -> str:
    if mount.target in sources:
        return sources[mount.target]
    if mount.target == "/":
        return "the image's layers, and above them the cell's own" if mount.fstype == "overlay" else mount.fstype
    if mount.target in {f"/dev/{name}" for name in DEVICES}:
        return "device of the host"
    if mount.target.startswith(("/proc/", "/sys/")):
        return "read-only" if mount.fstype in ("proc", "sysfs") else "hidden"
    return mount.fstype


def _propagation(tags: tuple[str, ...]) -> str:
    kinds = {tag.partition(":")[0] for tag in tags}
    if "shared" in kinds:
        return "shares"
    return "receives" if "master" in kinds else "private"


def _namespaces(call: Invocation) -> NamespaceMap:
    _, idmap, seen = observe(call.engine, _request(call, "namespaces"), call.listener)
    inside = seen["namespaces"]
    outside = look_around()["namespaces"]
    kinds = [kind for kind in outside if kind in inside]
    return NamespaceMap(tuple(Namespace(kind, outside[kind], inside[kind]) for kind in kinds), _ids(idmap))


def _ids(idmap: IdMap) -> str:
    if idmap.kind == MapKind.HOST:
        return "those of the host: its root is root"
    if idmap.kind == MapKind.SINGLE:
        return f"root alone, who is user {os.geteuid()} on the host"
    return f"root is user {idmap.root_uid} on the host, and others follow it"


def _verb(name: str, text: str, run: Any) -> Verb:
    options = options_without("explain")
    return Verb(Command(name, "IMAGE", text, options, most=1, answers=RUN_ANSWERS), run)


def _layers(call: Invocation) -> LayerStack:
    name, at, number = (call.words.operands or [""])[0].partition("@")
    if at and not (number.isascii() and number.isdecimal() and len(number) < _DIGITS):
        raise UsageError(f"invalid state '{name}@{number}'", hint="write CONTAINER@N, N is the number of a cell, or 0")
    container = container_of(call.engine, name)
    if at and int(number) > len(container.cells):
        hint = f"it has {len(container.cells)}: list them with `%container history {container.name}`"
        raise UsageError(f"container '{container.name}' has no cell {number}", hint=hint)
    return layer_stack(container, int(number) if at else None)


LAYERS = Verb(
    Command(
        "layers",
        "[CONTAINER[@N]]",
        "Draw the layers of a container: what each cell added, changed and hid; with @N, after its cell N.",
        most=1,
    ),
    _layers,
)
MOUNTS = _verb("mounts", "Draw the mounts that a cell sees: what is mounted where, from where, and how.", _mounts)
NAMESPACES = _verb("namespaces", "Draw what a container shares with the host, and what is its own.", _namespaces)
