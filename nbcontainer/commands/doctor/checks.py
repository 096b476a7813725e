"""The checks of `doctor`: what is tried on the host, in the order of the report.

The texts are those of a cell that cannot start: they come from the steps (`nbcontainer.sandbox.steps.base`) and from
`nbcontainer.sandbox.diagnosis`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nbcontainer.commands.doctor.report import LIMITED, MISSING, OK
from nbcontainer.containers.mounts import NOT_ADMIN, UNMAPPED
from nbcontainer.errors import ContainerError, NetworkUnavailable, SetupFailed, StoreError
from nbcontainer.images.builtin import busybox
from nbcontainer.rendering.quantities import size
from nbcontainer.sandbox import diagnosis as machines
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.overlay import UPPER_ADVICE, upper_refused
from nbcontainer.sandbox.steps.proc import LIMITS
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store.errors import FREE_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.sandbox.diagnosis import Machine
    from nbcontainer.sandbox.userns.idmap import IdMap

_LITTLE = 200_000_000  # bytes; an image of a distribution


class ProbeRunner(Protocol):
    """Tries things: `nbcontainer.commands.doctor.probe_environment.ProbeEnvironment`, or a test's simulated machine."""

    @property
    def has_busybox(self) -> bool:
        """Whether the store has an image of that name."""
        ...

    @property
    def proc(self) -> ProcLevel:
        """Where a container's /proc comes from. Raises `LauncherError`."""
        ...

    @property
    def init(self) -> str:
        """Which program is the init of an ordinary cell, and why. Raises `LauncherError`."""
        ...

    def run(self, name: str) -> None:
        """Try a part of the plan. Raises `SandboxError` or `OSError`."""
        ...

    def connect(self) -> str:
        """Give a container a private network; return the name of the program. Raises `SandboxError` or `OSError`."""
        ...

    def use_memory(self) -> None:
        """Put the write layers of the later probes into memory. Raises `OSError`."""
        ...

    def map_volume(self) -> None:
        """Make an idmapped mount. Raises `ContainerError`."""
        ...

    def free(self) -> int:
        """Bytes that are free."""
        ...


@dataclass(frozen=True)
class ProbeContext:
    """What the probes are given: the machine's files, the store's path, and what can be tried.

    `refused` is why the store cannot be written, `find_busybox` finds a static one, `can_make_group` says whether a
    cgroup can be made below a directory. `place` is where things are tried, the store's own file system if it can be.
    """

    machine: Machine
    store: Path
    place: Path
    trials: ProbeRunner
    idmap: IdMap
    refused: StoreError | None = None
    find_busybox: Callable[[], Path | None] = busybox.static_busybox
    can_make_group: Callable[[Path], bool] = hierarchy.can_make_group

    @property
    def file_system(self) -> str:
        """The type of the file system where things are tried."""
        mount = self.machine.mount_of(self.place)
        return mount.fstype if mount else "an unknown file system"


class Finding(NamedTuple):
    """What a probe answers, when what it tried was not refused by an error."""

    state: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Probe:
    """One check: `look` answers, or raises what a cell would raise (`NbcontainerError`, `OSError`)."""

    name: str
    look: Callable[[ProbeContext], Finding]


def trial(name: str, found: str) -> Probe:
    """The check that the probe of that name answers; `found` is what there is to say when it went well."""

    def look(patient: ProbeContext) -> Finding:
        patient.trials.run(name)
        return Finding(OK, found)

    return Probe(name, look)


def look_at_proc(patient: ProbeContext) -> Finding:
    """Where a container's /proc comes from, and what does not work in it."""
    patient.trials.run("/proc")
    level = patient.trials.proc
    if level in (ProcLevel.OWN, ProcLevel.NOTEBOOK):
        return Finding(OK, level)
    return Finding(LIMITED, f"{level}: {LIMITS[level]}", machines.proc_advice(patient.machine))


def look_at_kernel(patient: ProbeContext) -> Finding:
    """The version, for what it says: vendors bring features to old kernels, which only trying shows."""
    found = patient.machine.release or "unknown"
    if patient.machine.version < machines.NEWEST_CALL:
        return Finding(LIMITED, found, machines.call_advice(patient.machine))
    return Finding(OK, found)


def look_at_ids(patient: ProbeContext) -> Finding:
    """How many ids a container has, and whose they are."""
    if (refusal := idmap.range_refusal(patient.machine)) is not None:
        return Finding(LIMITED, f"root is the only user in a container: {refusal.why}", refusal.advice)
    ids = patient.idmap
    others = next((part.outside for part in ids.uids if part.inside == 1), None)
    where = f"on the host, root is {ids.root_uid}" + (f", 1 is {others}" if others is not None else "")
    return Finding(OK, f"{sum(part.count for part in ids.uids)} ids; {where}")


def look_at_store(patient: ProbeContext) -> Finding:
    """Whether the store can be written, and how much fits."""
    if patient.refused is not None:
        raise patient.refused
    free = patient.trials.free()
    found = f"{patient.store} on {patient.file_system}, {size(free)} free"
    if free < _LITTLE:
        return Finding(LIMITED, found, FREE_SPACE)
    if patient.file_system in ("tmpfs", "ramfs"):
        return Finding(LIMITED, f"{found}; memory is empty after a restart", UPPER_ADVICE)
    return Finding(OK, found)


def look_at_overlay(patient: ProbeContext) -> Finding:
    """Whether what a cell writes, removes and renames goes to a layer of its own, and where that can be."""
    found, advice = "what cells write goes to a layer of their own", UPPER_ADVICE
    try:
        if not (limit := _limit(patient, "overlay")):
            return Finding(OK, "what cells write, remove and rename goes to a layer of their own")
    except SetupFailed as error:
        if not upper_refused(error):
            raise
        found, advice = f"what cells write is in memory, since {patient.file_system} cannot hold it", error.hint
        patient.trials.use_memory()
        limit = _limit(patient, "overlay")
    return Finding(LIMITED, f"{found}; {limit}" if limit else found, advice)


def look_at_container(patient: ProbeContext) -> Finding:
    """Whether a cell's whole plan can be carried out."""
    limit = _limit(patient, "container")
    if limit:
        return Finding(LIMITED, limit, UPPER_ADVICE)
    return Finding(OK, f"all steps of a cell's plan; init is {patient.trials.init}")


def _limit(patient: ProbeContext, name: str) -> str:
    """Try it; return what fails where write layers are, or nothing. Raises as the probe for anything else."""
    try:
        patient.trials.run(name)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return error.strerror or ""
    return ""


def look_at_private_network(patient: ProbeContext) -> Finding:
    """Whether a cell can reach other machines, and by which program; if not, it has the host's network, or none."""
    try:
        return Finding(OK, f"access to other machines and published ports, by {patient.trials.connect()}")
    except NetworkUnavailable as error:
        return Finding(LIMITED, error.message, error.hint)


def look_at_hostname(patient: ProbeContext) -> Finding:
    """Whether a container has a name of its own: what the notebook runs in may refuse that, and a cell runs without."""
    try:
        patient.trials.run("host name")
    except PermissionError as error:
        return Finding(LIMITED, error.strerror or "", machines.namespace_advice(patient.machine))
    return Finding(OK, "the container's own")


def look_at_volumes(patient: ProbeContext) -> Finding:
    """Whether the files of a volume keep their owner."""
    if patient.idmap.root_uid == patient.machine.uid:
        return Finding(OK, "files keep their owner: root in a container is this user")
    try:
        patient.trials.map_volume()
    except ContainerError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = (
            NOT_ADMIN
            if cause.errno == errno.EPERM
            else f"{patient.file_system}, where the store is, has no idmapped mounts"
        )
        return Finding(LIMITED, UNMAPPED.format("files in volumes", reason), error.hint)
    return Finding(OK, f"files keep their owner, by idmapped mounts on {patient.file_system}")


def look_at_cgroups(patient: ProbeContext) -> Finding:
    """Which cgroups there are, and whether limits can be set in them."""
    groups = hierarchy.look(patient.machine)
    usable = groups.usable(patient.can_make_group)
    advice = hierarchy.advice(patient.machine, groups, usable)
    found = f"{groups.version}, " + (f"limits on {', '.join(usable)}" if usable else "no limits")
    return Finding(LIMITED if advice else OK, found, advice)


def look_at_busybox(patient: ProbeContext) -> Finding:
    """Whether the image that is always there can be made."""
    if (path := patient.find_busybox()) is not None:
        return Finding(OK, f"{path}, static")
    if patient.trials.has_busybox:
        return Finding(OK, "in the store")
    if patient.machine.which("apt-get") and patient.machine.which("dpkg-deb"):
        found = "none that is static; the first use fetches the distribution's package"
        return Finding(LIMITED, found, busybox.INSTALL_BUSYBOX)
    return Finding(MISSING, "none that is static", busybox.INSTALL_BUSYBOX)


PROBES = (
    Probe("kernel", look_at_kernel),
    trial("namespaces", "user, mount, pid, uts, ipc, cgroup"),
    Probe("user ids", look_at_ids),
    trial("mounts", "the container's own"),
    Probe("/proc", look_at_proc),
    trial("/dev", "devices, terminals, shared memory, message queues"),
    trial("network", "the container's own, lo is up"),
    Probe("private network", look_at_private_network),
    trial("/sys", "read-only"),
    Probe("host name", look_at_hostname),
    Probe("store", look_at_store),
    Probe("overlay", look_at_overlay),
    Probe("volumes", look_at_volumes),
    Probe("container", look_at_container),
    Probe("cgroups", look_at_cgroups),
    Probe("busybox", look_at_busybox),
)
"""Every check, in the order of the report: a thing comes after what it needs."""
