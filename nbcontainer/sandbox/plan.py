"""Plan templates: from a spec to the ordered steps that make it.

The list that runs is also the list that `inspect` shows and that the tests check.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.networking import Network, Networking
from nbcontainer.sandbox.spec import DEFAULT_HOSTNAME, SHM_SIZE, Directory, ProcLevel, Program, Work
from nbcontainer.sandbox.steps import single_id
from nbcontainer.sandbox.steps.base import Plan, Step
from nbcontainer.sandbox.steps.copy_on_write import MountCopyOnWrite
from nbcontainer.sandbox.steps.devices import device_steps
from nbcontainer.sandbox.steps.exchange.control_directory import MakeControlDirectory
from nbcontainer.sandbox.steps.exchange.display import OfferDisplay, WriteDriver
from nbcontainer.sandbox.steps.exchange.toolbox import MountToolbox
from nbcontainer.sandbox.steps.exchange.values import MountValues
from nbcontainer.sandbox.steps.limits_view import ShowLimits
from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.steps.namespaces import OWN_USER, CloneInit, JoinNetwork, NewSessionKeyring, SetHostname
from nbcontainer.sandbox.steps.network import (
    NAMES,
    BindResolver,
    ExtendHosts,
    MakeHosts,
    MakeResolver,
    RaiseLoopback,
    StageHosts,
)
from nbcontainer.sandbox.steps.overlay import GiveRoot, MountOverlay, ShowHost
from nbcontainer.sandbox.steps.proc import CoverProcesses
from nbcontainer.sandbox.steps.program import (
    CallFunction,
    CloseDescriptors,
    ConnectStreams,
    Execute,
    ImportModule,
    OpenTerminal,
    WriteGitConfig,
    WriteScript,
)
from nbcontainer.sandbox.steps.rights.capabilities import CloseInit, DropBounding, DropCapabilities, NoNewPrivileges
from nbcontainer.sandbox.steps.rights.rlimits import AdjustOomScore, SetLimits
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from nbcontainer.sandbox.steps.rights.user import SetUser
from nbcontainer.sandbox.steps.rootfs import (
    BELOW,
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
from nbcontainer.sandbox.steps.volumes import BindVolume, MountTmpfs
from nbcontainer.sandbox.userns.idmap import HOST, SINGLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.sandbox.spec import Mounts, Overlay, Spec, Volume
    from nbcontainer.sandbox.userns.idmap import IdMap

WORK_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")
"""The capabilities for unpacking and packing: any owner and mode, whiteouts (device 0:0), file capabilities."""

TTY_GROUP = 5
"""The group of terminals, as in every distribution's /etc/group and the OCI runtime specification."""


@functools.cache
def prepare_steps(
    idmap: IdMap,
    network: Network = Network.NONE,
    shm_size: int = SHM_SIZE,
    more: tuple[str, ...] = (),
    proc: ProcLevel = ProcLevel.OWN,
) -> tuple[Step, ...]:
    """Return the first part of every plan: the steps that need no image. `more` are unusual capabilities to keep."""
    host_network = network == Network.HOST
    namespaces = ("mount", "pid", "uts", "ipc", "cgroup", *(() if host_network else ("net",)))
    owners = tuple((one.outside, one.inside, one.count) for one in idmap.store)
    as_host = tuple(StoreAsHost(owners, name) for name in (LAYERS, "tmp", BELOW) if idmap.kind == HOST)
    # In an outer /proc, only a user namespace separates containers: it denies what asks for the right to trace. Unusual
    # capabilities in the launcher's would be rights over it, over other containers and over the programs that it runs.
    own_user = idmap.kind != HOST and (bool(more) or proc == ProcLevel.OUTER)
    return (
        CloneInit((*namespaces, OWN_USER) if own_user else namespaces),
        SlaveMounts(),
        *as_host,
        MountStage(),
        *device_steps(
            host_network=host_network,
            tty_group=TTY_GROUP if idmap.maps(TTY_GROUP) else None,
            shm_size=shm_size,
            last_group=idmap.last_gid,
            program=2 + len(as_host),  # each of these steps has a child
            proc=proc,
        ),
        OfferDisplay(),
        *((single_id.WriteAptConfig(),) if idmap.kind == SINGLE else ()),
        *(() if host_network else (RaiseLoopback(),)),
        NewSessionKeyring(),
        DropBounding((*DEFAULT_CAPABILITIES, *more)),
    )


_ATTACH = (AttachStaged("proc"), AttachStaged("sys"), AttachStaged("dev"))


@dataclass(frozen=True)
class PlanTemplate:
    """The plan of a container in the user namespace that `idmap` describes, but for its root.

    `proc` is what the launcher found that the kernel allows (`Launcher.proc`).
    Templates can be compared: a container that waits with an equal template, on the same layers, has an equal plan.
    """

    spec: Spec
    idmap: IdMap
    proc: ProcLevel = ProcLevel.OWN
    compiled: bool = field(default=False, kw_only=True)
    """Whether init can be the compiled helper; see `compilable`."""
    shares: bool = field(default=True, kw_only=True)
    """Whether the container can hand a descriptor to another process; see `shares`."""

    def on(self, root: Overlay | Directory, name: str = DEFAULT_HOSTNAME) -> Plan:
        """Return the plan on `root`. `name` is the host name if the spec has none."""
        process = self.spec.process
        if isinstance(process, Work):
            setup = (ImportModule(process.module), *_root_steps(root), PivotRoot())
            return Plan(prepare_steps(self.idmap, proc=self.proc), setup, _work_enter(process))
        name = self.spec.hostname or name
        prepare, setup, enter = self._parts
        return Plan(
            (*prepare, *_root_steps(root, names=True), *_ATTACH),
            (SetHostname(name), *setup),
            (*enter, self._execute(process, name)),
            compiled=self.compiled,
        )

    @functools.cached_property
    def _parts(self) -> tuple[tuple[Step, ...], tuple[Step, ...], tuple[Step, ...]]:
        """The steps before the root is mounted, those after the host name is set, and those before the program."""
        spec, process = self.spec, self.spec.process
        assert isinstance(process, Program)
        more = spec.privileges.unusual
        network = Network.NONE if spec.networking.joined else Network(spec.networking.network)
        prepare = prepare_steps(self.idmap, network, spec.shm_size, more, self.proc)
        # Once more as the cell begins: what has started since the container was prewarmed.
        cover = (CoverProcesses("/proc"),) if self.proc == ProcLevel.OUTER else ()
        # In the host's /proc, before the root is switched: the container's own can be read-only.
        score = spec.privileges.oom_score_adj
        scored = () if score is None else (AdjustOomScore(score),)
        return prepare, (*scored, *_program_setup(spec, process)), (*cover, *_program_enter(spec, process, self.idmap))

    def _execute(self, program: Program, name: str) -> Execute:
        env = tuple(f"HOSTNAME={name}" if item == "HOSTNAME" else item for item in program.env)
        if self.idmap.kind == SINGLE:
            env = single_id.environment(env)
        return Execute(program.argv, env, program.cwd, program.terminal, program.terminal_input)


def compilable(spec: Spec, idmap: IdMap, proc: ProcLevel) -> bool:
    """Return whether a container of this kind needs nothing of its init but system calls.

    Otherwise another process takes part in its start: it mounts, maps ids, connects a network or exchanges files.
    """
    process = spec.process
    return (
        isinstance(process, Program)
        and not process.has_terminal
        and spec.control_directory is None
        and spec.values is None
        and spec.networking.network != Network.PRIVATE
        and idmap.kind != HOST
        and not spec.privileges.unusual
        and proc in (ProcLevel.OWN, ProcLevel.PROCESSES)
    )


def shares(spec: Spec) -> bool:
    """Return whether a container of this kind can hand a descriptor to another process, by a socket (unix(7)).

    One with a volume, or in the network of others, can; and so can one that others join, which its spec does not show.
    """
    return spec.namespace is not None or reaches_others(spec.mounts, spec.networking)


def reaches_others(mounts: Mounts, networking: Networking) -> bool:
    """Return whether a container with these mounts, in this network, shares a directory or the network with others."""
    shared = bool(mounts.volumes or mounts.named)
    return shared or bool(networking.joined) or networking.network == Network.HOST


def ahead(todo: Plan) -> tuple[Step, ...]:
    """Return the beginning of a plan that can be done before its cell is there."""
    return (*todo.prepare, *itertools.takewhile(lambda step: step.ahead, todo.steps[len(todo.prepare) :]))


def _root_steps(root: Overlay | Directory, *, names: bool = False) -> Iterator[Step]:
    """Yield the steps for the root; with `names`, the container's own /etc/hosts is above all layers."""
    if isinstance(root, Directory):
        yield BindRoot(root.path, root.read_only)
        return
    if root.mounted and root.upper is not None:
        yield AttachRoot(root.lowers, root.upper)
        return
    overlays = (root, *root.parts)
    holder = next((one for one in overlays if one.target == "/etc"), root) if names else None
    for number, overlay in enumerate(overlays):
        host = overlay.host
        lowers = overlay.lowers
        if host is not None and host.around:
            yield ShowHost(host.path, f"host{number}")
            lowers += (f"../{STAGE}/host{number}",)
        elif host is not None:
            lowers += (host.path,)
        if overlay is holder:
            below = "" if overlay.target == "/etc" else "/etc"
            yield StageHosts(tuple(f"{lower}{below}" for lower in lowers))
            lowers = (f"../{NAMES}{'' if below else '/etc'}", *lowers)
        if overlay.give and overlay.upper is not None:
            yield GiveRoot(overlay.lowers[0], overlay.upper)
        yield MountOverlay(lowers, overlay.upper, overlay.work, overlay.target)


def _program_setup(spec: Spec, program: Program) -> tuple[Step, ...]:
    """Return the steps between the host name and the program's own process: what the container contains."""
    return (*_identity_steps(spec, program), *_filesystem_steps(spec, program), PivotRoot())


def _identity_steps(spec: Spec, program: Program) -> Iterator[Step]:
    """Yield the steps for what the program finds around it but for mounts: network, terminal, names and settings."""
    if spec.namespace is not None:
        yield JoinNetwork(spec.namespace)
    if spec.control_directory is not None:
        yield MakeControlDirectory(**vars(spec.control_directory))
    if program.has_terminal:
        yield OpenTerminal(3 if program.terminal else 1)
    yield from _name_steps(spec)
    if spec.driver:
        yield WriteDriver(spec.driver)
    if spec.git_config:
        yield WriteGitConfig(spec.git_config)


def _name_steps(spec: Spec) -> Iterator[Step]:
    """Yield the steps for /etc/resolv.conf and /etc/hosts."""
    host_network = spec.networking.network == Network.HOST
    if spec.resolver:
        yield MakeResolver(spec.resolver)
    elif host_network:
        yield BindResolver()
    yield (ExtendHosts if host_network else MakeHosts)(spec.networking.hosts)


def _filesystem_steps(spec: Spec, program: Program) -> Iterator[Step]:
    """Yield the steps for mounts, the working directory and the root itself, which comes last."""
    yield from _mount_steps(spec.mounts)
    if spec.values is not None:
        yield MountValues(**vars(spec.values))
    if program.cwd != "/":
        yield MakeWorkdir(program.cwd)
    if spec.mounts.read_only:
        yield ReadOnlyRoot()


_BOUND = ("source", "target", "directory", "read_only", "tree", "device", "inode", "noexec", "slave")
"""The fields of a volume that its step has, too."""


_COPIED = ("source", "target", "tree", "device", "inode", "noexec")
"""The fields of a copy-on-write volume that its step has, too."""


def _mount_steps(mounts: Mounts) -> list[MountTmpfs | BindVolume | MountCopyOnWrite | MountToolbox]:
    """Return the steps for mounts: shorter targets first, so that a mount at /data/in lands on the one at /data."""
    steps: list[MountTmpfs | BindVolume | MountCopyOnWrite] = [
        *(MountTmpfs(**vars(tmpfs)) for tmpfs in mounts.tmpfs),
        *(_volume_step(number, volume) for number, volume in enumerate(mounts.volumes)),
    ]
    steps.sort(key=lambda mount: mount.target.count("/"))
    return [*((MountToolbox(mounts.tools),) if mounts.tools else ()), *steps]


def _volume_step(number: int, volume: Volume) -> BindVolume | MountCopyOnWrite:
    if volume.cow is None:
        return BindVolume(**{name: getattr(volume, name) for name in _BOUND})
    fields = {name: getattr(volume, name) for name in _COPIED}
    return MountCopyOnWrite(number, lowers=volume.cow.lowers, upper=volume.cow.upper, work=volume.cow.work, **fields)


def _program_enter(spec: Spec, program: Program, idmap: IdMap) -> tuple[Step, ...]:
    """Return the steps that make init what the program may be, without the program itself."""
    capabilities = spec.privileges.capabilities
    # Init goes through these steps before the cell, and needs the right to kill what the cell leaves.
    kept = capabilities if "KILL" in capabilities else (*capabilities, "KILL")
    fewer = set(DEFAULT_CAPABILITIES) - set(capabilities)
    return (
        *((ShowLimits(spec.groups),) if spec.groups else ()),
        SetLimits(spec.limits),
        # What init keeps for itself, the cell loses when it is executed.
        *((DropBounding(capabilities),) if fewer else ()),
        *_program_rights(spec, program, idmap, kept),
        ConnectStreams(),
        CloseDescriptors(),
    )


def _program_rights(spec: Spec, program: Program, idmap: IdMap, kept: tuple[str, ...]) -> tuple[Step, ...]:
    """Return the steps for the program's user, its capabilities, its filter of system calls, and its body.

    The filter comes before the body, since a prewarmed container has it. One that refuses copies comes after the body.
    """
    user = SetUser(program.user, drop_groups=idmap.setgroups, terminal=program.has_terminal, groups=program.groups)
    install = InstallSeccomp(spec.privileges.capabilities, idmap.kind == SINGLE, program.terminal_input)
    write = () if spec.script is None else (WriteScript(spec.script),)
    before, after = (write, ()) if install.terminal_input else ((), write)
    if spec.privileges.new_privileges:
        # Without no_new_privs, only a process with SYS_ADMIN may install the filter (seccomp(2)).
        return *before, install, user, DropCapabilities(kept), CloseInit(), *after
    return user, DropCapabilities(kept), NoNewPrivileges(), *before, install, *after


def _work_enter(work: Work) -> tuple[Step, ...]:
    return (
        SetLimits(),
        DropCapabilities(WORK_CAPABILITIES),
        NoNewPrivileges(),
        InstallSeccomp(WORK_CAPABILITIES),
        CallFunction(work.module, work.function, work.arguments),
    )


def rest(todo: Plan, done: int) -> dict[str, Any]:
    """Return the message with the steps of a plan after the first `done` ones, which contain all of `prepare`."""
    setup, enter = todo.rest(done)
    return {"setup": encode(setup), "enter": encode(enter)}


def encode(steps: Iterable[Step]) -> list[Any]:
    """Return steps as JSON values: [name, {field: value}] each."""
    return [[type(step).__name__, vars(step)] for step in steps]


def decode(values: Iterable[Any]) -> tuple[Step, ...]:
    """Return the steps that `encode` wrote. Raises `KeyError` or `TypeError` for what it did not write."""
    return tuple(
        Step.by_name[name](**{field: _tupled(value) for field, value in fields.items()}) for name, fields in values
    )


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
