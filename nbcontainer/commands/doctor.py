"""`doctor`: checks what this machine supports by trying it, and says how to fix what it does not support.

The texts are those of a cell that cannot start: they come from the steps (`nbcontainer.sandbox.steps.base`) and from
`nbcontainer.sandbox.diagnosis`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from nbcontainer.commands.doctor_probes import ProbeEnvironment
from nbcontainer.commands.views.simple import Lines
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.mounts import NOT_ADMIN, UNMAPPED
from nbcontainer.errors import ContainerError, NbcontainerError, NetworkUnavailable, SetupFailed, StoreError
from nbcontainer.images.builtin import busybox
from nbcontainer.rendering.fields import Sign, State
from nbcontainer.rendering.quantities import size
from nbcontainer.rendering.table import Table
from nbcontainer.rendering.text import columns
from nbcontainer.sandbox import diagnosis as machines
from nbcontainer.sandbox.apparmor import profile
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.overlay import UPPER_ADVICE, upper_refused
from nbcontainer.sandbox.steps.proc import LIMITS
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store.errors import FREE_SPACE
from nbcontainer.store.layout import default_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.commands.grammar import Words
    from nbcontainer.sandbox.userns.idmap import IdMap

_T = TypeVar("_T")

OK, LIMITED, MISSING = "ok", "limited", "missing"
"""A check's states: it works; it works with a limit that is named; it does not work."""

_SIGNS = {OK: Sign.GOOD, LIMITED: Sign.WARN, MISSING: Sign.BAD}

PATIENCE = 10.0
"""Seconds for the whole examination, which takes a fraction of one: a dead file system may never answer."""

_LITTLE = 200_000_000  # bytes; an image of a distribution


@dataclass(frozen=True)
class Check:
    """One thing looked at: its state, what was found, and the one thing to do about it (empty where it is ok)."""

    name: str
    state: str
    found: str
    advice: str = ""

    @property
    def field(self) -> State:
        """The state, with its sign."""
        return State(self.state, _SIGNS[self.state])


@dataclass(frozen=True)
class Report:
    """What an examination found, in the order in which things depend on each other."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything works here, be it with limits."""
        return all(check.state != MISSING for check in self.checks)

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            lines.append((check.field.text, check.name, check.found))
            if check.advice:
                lines.append(("", "", f"→ {check.advice}"))
        return columns(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = tuple((check.field, check.name, check.found, check.advice) for check in self.checks)
        return Table(("state", "check", "found", "what to do"), rows)._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: `ok`, and `checks` with their fields."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    as_json = as_dict


class ProbeRunner(Protocol):
    """Tries things: `nbcontainer.commands.doctor_probes.ProbeEnvironment`, or a test's simulated machine."""

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
        """Tries a part of the plan. Raises `SandboxError` or `OSError`."""
        ...

    def connect(self) -> str:
        """Gives a container a private network; the name of the program. Raises `SandboxError` or `OSError`."""
        ...

    def use_memory(self) -> None:
        """Puts the write layers of the later probes into memory. Raises `OSError`."""
        ...

    def map_volume(self) -> None:
        """Makes an idmapped mount. Raises `ContainerError`."""
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
    where = f"root is {ids.root_uid} here" + (f", 1 is {others}" if others is not None else "")
    return Finding(OK, f"{sum(part.count for part in ids.uids)}: {where}")


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
    """Tries it; returns what fails where write layers are, or nothing. Raises as the probe for anything else."""
    try:
        patient.trials.run(name)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return error.strerror or ""
    return ""


def look_at_private_network(patient: ProbeContext) -> Finding:
    """Whether a cell can have a way out, and by which program; without one, it has the host's network, or none."""
    try:
        return Finding(OK, f"a way out and ports, by {patient.trials.connect()}")
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


def answer(words: Words, store: Engine | Path | None) -> Report | Lines:
    """Return the report for a store, or the AppArmor profile if the arguments ask for it. Raises `UsageError`."""
    return Lines(tuple(profile().splitlines())) if words.has("apparmor-profile") else examine(store)


def examine(store: Engine | Path | None = None, machine: Machine | None = None) -> Report:
    """Examines this machine for the store of an engine, or at a path (host), by default the user's.

    Everything is tried in throw-away containers and directories, of which nothing stays. It ends within `PATIENCE`.
    """
    machine = machine or Machine()
    path = store.store.path if isinstance(store, Engine) else store or default_path()
    bench = ProbeEnvironment(path.absolute(), idmap.choose(machine))
    end = time.monotonic() + PATIENCE
    try:
        refused = _make(bench, end)
        return diagnose(ProbeContext(machine, bench.path, bench.folder, bench, bench.idmap, refused), end)
    finally:
        with contextlib.suppress(TimeoutError):
            _within(end, bench.close)


def _make(bench: ProbeEnvironment, end: float) -> StoreError | None:
    """Makes the bench; why it is not where the store is, None where it is."""
    try:
        _within(end - PATIENCE / 2, bench.make)
    except StoreError as error:
        refused = error
    except TimeoutError:
        refused = StoreError(f"{bench.path} does not answer", hint=UPPER_ADVICE)
    else:
        return None
    with contextlib.suppress(OSError):  # no launcher starts there either, and says so
        bench.make_elsewhere()
    return refused


def diagnose(patient: ProbeContext, end: float) -> Report:
    """The report of all probes. None is asked for longer than until `end` (time.monotonic())."""
    checks: list[Check] = []
    failures: dict[str, str] = {}
    for probe in PROBES:
        try:
            finding = _within(end, functools.partial(probe.look, patient))
        except TimeoutError:
            finding = Finding(MISSING, f"no answer in {PATIENCE:.0f} s")
        except NbcontainerError as error:
            finding = Finding(MISSING, error.message, error.hint)
        except OSError as error:
            finding = Finding(MISSING, str(error))
        if finding.state == MISSING:
            # What fails for the same reason needs no other cure.
            cause = failures.setdefault(finding.found, probe.name)
            if cause != probe.name:
                finding = Finding(MISSING, f"not without {cause}")
        checks.append(Check(probe.name, *finding))
    return Report(tuple(checks))


def _within(end: float, do: Callable[[], _T]) -> _T:
    """What `do` returns or raises, or TimeoutError at `end`: a thread that waits for a dead disk is left behind."""
    answers: list[Future[_T]] = []

    def work() -> None:
        answer: Future[_T] = Future()
        try:
            answer.set_result(do())
        except BaseException as error:
            answer.set_exception(error)
        answers.append(answer)

    thread = threading.Thread(target=work, name="nbcontainer-doctor", daemon=True)
    thread.start()
    thread.join(max(end - time.monotonic(), 0.1))
    if not answers:
        raise TimeoutError
    return answers[0].result()
