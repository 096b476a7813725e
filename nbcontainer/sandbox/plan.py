"""From a Spec to the ordered steps that make it: the list that runs, is explained and is tested."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.spec import SHM_SIZE, Directory, Overlay, Program, Work
from nbcontainer.sandbox.steps import single_id
from nbcontainer.sandbox.steps.base import Plan, Step
from nbcontainer.sandbox.steps.capabilities import DropBounding, DropCapabilities, NoNewPrivileges
from nbcontainer.sandbox.steps.control_directory import control_directory_step
from nbcontainer.sandbox.steps.devices import device_steps
from nbcontainer.sandbox.steps.namespaces import CloneInit, NewSessionKeyring, SetHostname
from nbcontainer.sandbox.steps.network import BindResolver, MakeResolver, RaiseLoopback
from nbcontainer.sandbox.steps.overlay import MountOverlay, ShowHost
from nbcontainer.sandbox.steps.program import (
    CallFunction,
    CloseDescriptors,
    ConnectStreams,
    Execute,
    ImportModule,
    OpenTerminal,
    WriteScript,
)
from nbcontainer.sandbox.steps.rlimits import SetLimits
from nbcontainer.sandbox.steps.rootfs import (
    LAYERS,
    STAGE,
    AttachStaged,
    BindRoot,
    MakeWorkdir,
    MountStage,
    PivotRoot,
    ReadOnlyRoot,
    SlaveMounts,
    StoreAsHost,
)
from nbcontainer.sandbox.steps.seccomp import InstallSeccomp
from nbcontainer.sandbox.steps.user import SetUser
from nbcontainer.sandbox.steps.volumes import BindVolume, MountTmpfs
from nbcontainer.sandbox.userns.idmap import COUNT, HOST, ROOT_BASE, SINGLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.sandbox.spec import Spec
    from nbcontainer.sandbox.userns.idmap import IdMap

WORK_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")
"""What unpacking and packing need: any owner and mode, whiteouts (device 0:0), file capabilities."""

TTY_GROUP = 5
"""The group of terminals, as in every distribution's /etc/group and the OCI runtime specification."""


@functools.cache
def prepare_steps(
    idmap: IdMap, network: str = "none", shm_size: int = SHM_SIZE, more: tuple[str, ...] = ()
) -> tuple[Step, ...]:
    """The first part of every plan: what needs no knowledge of the image. `more` are unusual capabilities to keep."""
    host_network = network == "host"
    namespaces = ("mount", "pid", "uts", "ipc", "cgroup", *(() if host_network else ("net",)))
    return (
        CloneInit(namespaces),
        SlaveMounts(),
        *(StoreAsHost(ROOT_BASE, COUNT, name) for name in (LAYERS, "tmp") if idmap.kind == HOST),
        MountStage(),
        *device_steps(
            host_network=host_network,
            tty_group=TTY_GROUP if idmap.maps(TTY_GROUP) else None,
            shm_size=shm_size,
        ),
        *((single_id.WriteAptConfig(),) if idmap.kind == SINGLE else ()),
        *(() if host_network else (RaiseLoopback(),)),
        NewSessionKeyring(),
        DropBounding((*DEFAULT_CAPABILITIES, *more)),
    )


@functools.lru_cache(maxsize=16)
def build(spec: Spec, idmap: IdMap) -> Plan:
    """The plan for `spec` in the user namespace that `idmap` describes."""
    if isinstance(spec.process, Work):
        setup = (ImportModule(spec.process.module), *_root_steps(spec.root), PivotRoot())
        return Plan(prepare_steps(idmap), setup, _work_enter(spec.process))
    return Plan(
        _with_root(spec, idmap),
        _program_setup(spec, spec.process),
        _program_enter(spec, spec.process, idmap),
    )


def ahead(todo: Plan) -> tuple[Step, ...]:
    """The beginning of a plan that can be done before its cell is there."""
    return (*todo.prepare, *itertools.takewhile(lambda step: step.ahead, (*todo.setup, *todo.enter)))


def _with_root(spec: Spec, idmap: IdMap) -> tuple[Step, ...]:
    attach = (AttachStaged("proc"), AttachStaged("sys"), AttachStaged("dev"))
    more = tuple(name for name in spec.capabilities if name not in DEFAULT_CAPABILITIES)
    return (*prepare_steps(idmap, spec.network, spec.shm_size, more), *_root_steps(spec.root), *attach)


def _root_steps(root: Overlay | Directory) -> Iterator[Step]:
    if isinstance(root, Directory):
        yield BindRoot(root.path, root.read_only)
        return
    for number, overlay in enumerate((root, *root.parts)):
        host = overlay.host
        lowers = overlay.lowers
        if host is not None and host.around:
            yield ShowHost(host.path, f"host{number}")
            lowers += (f"../{STAGE}/host{number}",)
        elif host is not None:
            lowers += (host.path,)
        yield MountOverlay(lowers, overlay.upper, overlay.work, overlay.target)


def _program_setup(spec: Spec, program: Program) -> tuple[Step, ...]:
    steps: list[Step] = [SetHostname(spec.hostname)]
    if spec.control_directory is not None:
        steps.append(control_directory_step(spec.control_directory))
    if program.terminal:
        steps.append(OpenTerminal())
    if spec.network == "host":
        steps.append(BindResolver())
    elif spec.network == "private":
        steps.append(MakeResolver(spec.resolver))
    mounts: list[MountTmpfs | BindVolume] = [
        *(MountTmpfs(t.target, t.size) for t in spec.tmpfs),
        *(BindVolume(v.source, v.target, v.directory, v.read_only, v.tree, v.device, v.inode) for v in spec.volumes),
    ]
    # Shorter targets first, so that what is mounted at /data/in lands on the volume at /data and not under it.
    mounts.sort(key=lambda mount: mount.target.count("/"))
    steps += mounts
    if program.cwd != "/":
        steps.append(MakeWorkdir(program.cwd))
    if spec.read_only:
        steps.append(ReadOnlyRoot())
    steps.append(PivotRoot())
    return tuple(steps)


def _program_enter(spec: Spec, program: Program, idmap: IdMap) -> tuple[Step, ...]:
    # Init goes through these steps before the cell, and ends what the cell leaves by the right to kill.
    kept = spec.capabilities if "KILL" in spec.capabilities else (*spec.capabilities, "KILL")
    fewer = set(DEFAULT_CAPABILITIES) - set(spec.capabilities)
    single = idmap.kind == SINGLE
    env = single_id.environment(program.env) if single else program.env
    return (
        SetLimits(spec.limits),
        # What init keeps for itself, the cell loses as it is executed.
        *((DropBounding(spec.capabilities),) if fewer else ()),
        SetUser(program.user, drop_groups=idmap.setgroups, terminal=program.terminal),
        DropCapabilities(kept),
        NoNewPrivileges(),
        InstallSeccomp(spec.capabilities, single),
        *(() if spec.script < 0 else (WriteScript(spec.script),)),
        ConnectStreams(),
        CloseDescriptors(),
        Execute(program.argv, env, program.cwd, program.terminal),
    )


def _work_enter(work: Work) -> tuple[Step, ...]:
    return (
        SetLimits(),
        DropCapabilities(WORK_CAPABILITIES),
        NoNewPrivileges(),
        InstallSeccomp(WORK_CAPABILITIES),
        CallFunction(work.module, work.function, work.arguments),
    )


def encode(steps: Iterable[Step]) -> list[Any]:
    """Steps as JSON values: [name, {field: value}] each."""
    return [[type(step).__name__, vars(step)] for step in steps]


def decode(values: Iterable[Any]) -> tuple[Step, ...]:
    """The steps that `encode` wrote. Raises `KeyError` or `TypeError` for what it did not write."""
    return tuple(
        Step.by_name[name](**{field: _tupled(value) for field, value in fields.items()}) for name, fields in values
    )


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
