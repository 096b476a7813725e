"""From a Spec to its steps, and the way of the steps through JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from itertools import pairwise
from typing import Any

import pytest

from nbcontainer.sandbox import plan
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES, Limit
from nbcontainer.sandbox.networking import Networking
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.spec import (
    Directory,
    HostLower,
    Mounts,
    Overlay,
    Privileges,
    ProcLevel,
    Program,
    Spec,
    Tmpfs,
    Volume,
    Work,
)
from nbcontainer.sandbox.steps.base import Plan, Step
from nbcontainer.sandbox.steps.devices import MASKED, READ_ONLY, MaskPaths, MountDevDirectory, MountSys, ReadOnlyPaths
from nbcontainer.sandbox.steps.namespaces import OWN_USER, CloneInit, SetHostname
from nbcontainer.sandbox.steps.network import BindResolver, ExtendHosts, MakeHosts, MakeResolver
from nbcontainer.sandbox.steps.overlay import GiveRoot, MountOverlay, ShowHost
from nbcontainer.sandbox.steps.proc import CoverProcesses, MountProc
from nbcontainer.sandbox.steps.program import (
    CallFunction,
    CloseDescriptors,
    Execute,
    ImportModule,
    OpenTerminal,
    WriteScript,
)
from nbcontainer.sandbox.steps.rights.capabilities import DropBounding, DropCapabilities, NoNewPrivileges
from nbcontainer.sandbox.steps.rights.rlimits import AdjustOomScore, SetLimits
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from nbcontainer.sandbox.steps.rights.user import SetUser
from nbcontainer.sandbox.steps.rootfs import (
    AttachStaged,
    BindRoot,
    MakeWorkdir,
    MountStage,
    PivotRoot,
    ReadOnlyRoot,
    SlaveMounts,
    StoreAsHost,
)
from nbcontainer.sandbox.steps.single_id import APT_CONFIG
from nbcontainer.sandbox.steps.volumes import BindVolume, MountTmpfs
from nbcontainer.sandbox.userns import idmap
from nbcontainer.sandbox.userns.idmap import COUNT, ROOT_BASE, IdMap, Range

FULL = IdMap(idmap.MapKind.RANGE, (Range(0, ROOT_BASE, COUNT),), (Range(0, ROOT_BASE, COUNT),))
SINGLE = idmap.single_map(1000, 1000)
HOST = idmap.host_map()
MAPS = pytest.mark.parametrize("ids", [FULL, SINGLE, HOST], ids=["range", "single", "host"])

ROOT = Overlay(("a/diff", "b/diff"), "../tmp/u/diff", "../tmp/u/work")
PROGRAM = Program(("/bin/sh", "/dev/cell"), ("PATH=/bin",))
MORE = (*DEFAULT_CAPABILITIES, "SYS_PTRACE")
SPEC = Spec(PROGRAM, hostname="box", script=3)

STEPS = sorted((name, step) for name, step in Step.by_name.items() if step.__module__.startswith("nbcontainer."))
EVERY_STEP = pytest.mark.parametrize("step", [step for _, step in STEPS], ids=[name for name, _ in STEPS])


VALUES = (("mounts", Mounts), ("networking", Networking), ("privileges", Privileges))


def having(**change: Any) -> Spec:
    """SPEC with other fields, by the names that they have in the values of which a spec consists."""
    for name, value in VALUES:
        fields = {field.name for field in dataclasses.fields(value)}
        if own := {key: change.pop(key) for key in fields & change.keys()}:
            change[name] = value(**own)
    return dataclasses.replace(SPEC, **change)


def build(spec: Spec, ids: IdMap, root: Overlay | Directory = ROOT) -> Plan:
    return PlanTemplate(spec, ids).on(root)


def kinds(steps: Plan | tuple[Step, ...]) -> list[str]:
    return [type(step).__name__ for step in steps]


def one(steps: Plan, kind: type[Step]) -> Any:
    found = [step for step in steps if isinstance(step, kind)]
    assert len(found) == 1, f"{len(found)} steps of {kind.__name__}"
    return found[0]


def test_a_cell_is_these_steps_in_this_order() -> None:
    """The plan of a plain cell is the list that the documentation shows, and no other."""
    assert kinds(build(SPEC, FULL)) == [
        *("CloneInit", "SlaveMounts", "MountStage", "MountProc", "MountSys", "MountDev"),
        *("BindDevice",) * 6,
        *("MountDevDirectory",) * 3,
        *("ReserveScript", "LinkStreams", "AllowPing", "ReadOnlyPaths", "MaskPaths"),
        *("OfferDisplay", "RaiseLoopback", "NewSessionKeyring", "DropBounding"),
        *("StageHosts", "MountOverlay", "AttachStaged", "AttachStaged", "AttachStaged"),
        *("SetHostname", "MakeHosts", "PivotRoot", "SetLimits", "SetUser"),
        *("DropCapabilities", "NoNewPrivileges", "InstallSeccomp"),
        *("WriteScript", "ConnectStreams", "CloseDescriptors", "Execute"),
    ]


@MAPS
@pytest.mark.parametrize("network", ["none", "host", "private"])
@pytest.mark.parametrize("terminal", [False, True])
def test_power_goes_before_the_program_comes(ids: IdMap, network: str, terminal: bool) -> None:
    """Whatever is asked for: the user, the capabilities, new privileges and system calls go, in this order, once the
    root is switched; what is left to do after them needs none.
    """
    program = dataclasses.replace(PROGRAM, terminal=terminal, user="33", cwd="/work")
    asked = having(process=program, network=network, read_only=True, tmpfs=(Tmpfs("/t"),))
    built = build(asked, ids)
    drops = ["SetLimits", "SetUser", "DropCapabilities", "NoNewPrivileges", "InstallSeccomp"]
    assert kinds(built.enter) == [*drops, "WriteScript", "ConnectStreams", "CloseDescriptors", "Execute"]
    assert kinds(built).index("DropBounding") < kinds(built).index("MountOverlay")
    assert kinds(built.setup)[-1] == "PivotRoot"
    assert [step for step in built.enter if type(step).__module__.endswith(("rootfs", "volumes", "devices"))] == []


def test_the_capabilities_are_podmans_default() -> None:
    """Root in a cell has 11 capabilities, in its own sets as in the bounding set."""
    built = build(SPEC, FULL)
    assert len(DEFAULT_CAPABILITIES) == 11
    assert one(built, DropBounding).keep == DEFAULT_CAPABILITIES
    assert one(built, DropCapabilities).keep == DEFAULT_CAPABILITIES
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "MKNOD", "SYS_PTRACE"} & set(DEFAULT_CAPABILITIES)


def test_prepared_steps_need_no_knowledge_of_the_cell() -> None:
    """Two cells on the same layers begin with equal steps, whatever they run: a spare serves both."""
    program = Program(("true",), user="1")
    other = having(process=program, hostname="other", volumes=(Volume("/a", "/b"),), read_only=True)
    assert build(other, FULL).prepare == build(SPEC, FULL).prepare


def test_what_is_done_must_be_a_beginning_with_a_root() -> None:
    """A spare serves a plan whose first steps it has done, its root among them, on the same upper and no other."""
    built = build(SPEC, FULL)
    other = build(SPEC, FULL, Overlay(ROOT.lowers, "../tmp/v/diff", "../tmp/v/work"))
    assert built.begins_with(built.prepare)
    assert built.begins_with(plan.ahead(built))
    assert not built.begins_with(built.prepare[:-1])
    assert not built.begins_with(other.prepare)
    assert not built.begins_with(plan.ahead(build(having(hostname="other"), FULL)))


def test_a_function_in_the_programs_place_is_called_by_an_interpreter() -> None:
    """What a spare has done for the program's plan is a beginning of that one, too."""
    built = dataclasses.replace(build(SPEC, FULL), compiled=True)
    calling = built.calling(CallFunction("m", "f"))
    assert (calling.steps[:-1], calling.compiled) == (built.steps[:-1], False)
    assert calling.begins_with(plan.ahead(built)[: len(calling.steps) - 1])


def test_a_plain_cell_is_prepared_up_to_its_body() -> None:
    """What is left of a plain cell when it comes is its body, its streams and its program."""
    built = build(SPEC, FULL)
    done = plan.ahead(built)
    assert tuple(built)[: len(done)] == done
    assert kinds(tuple(built)[len(done) :]) == ["WriteScript", "ConnectStreams", "CloseDescriptors", "Execute"]


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"volumes": (Volume("/a", "/b"),), "tmpfs": (Tmpfs("/t"),)}, "BindVolume"),
        ({"network": "host"}, "BindResolver"),
        ({"process": dataclasses.replace(PROGRAM, terminal=True)}, "OpenTerminal"),
        ({"process": Work("nbcontainer.images.sandboxed", "f")}, "ImportModule"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nothing_of_the_hosts_is_held_by_a_spare(change: dict[str, Any], first: str) -> None:
    """What mounts the host's files, or sends the notebook something, waits for the cell, and all after it too."""
    built = build(having(**change), FULL)
    assert kinds(tuple(built)[len(plan.ahead(built)) :])[0] == first


def test_the_host_network_is_the_hosts() -> None:
    """With the host's network there is no new network namespace and no loopback to raise, and names resolve."""
    built = build(having(network="host"), FULL)
    assert "net" not in one(built, CloneInit).namespaces
    assert "RaiseLoopback" not in kinds(built)
    assert one(built, MountSys).host_network
    assert one(built, BindResolver)


def test_a_private_network_is_a_lonely_one_with_a_resolver() -> None:
    """What is prepared is the same, so that the same spares serve; names are asked of who is there, ahead of time."""
    lonely = build(SPEC, FULL)
    built = build(having(network="private", resolver="nameserver 10.0.2.3\n"), FULL)
    assert built.prepare == lonely.prepare
    assert one(built, MakeResolver) == MakeResolver("nameserver 10.0.2.3\n")
    assert MakeResolver in [type(step) for step in plan.ahead(built)]


@pytest.mark.parametrize(("network", "step"), [("none", MakeHosts), ("private", MakeHosts), ("host", ExtendHosts)])
def test_every_container_has_its_own_name_in_hosts(network: str, step: type[MakeHosts]) -> None:
    """It comes before a volume may lie over the file, with the added names if there are any."""
    hosts = (("db", "10.0.0.7"),)
    built = build(having(network=network, hosts=hosts, volumes=(Volume("/a", "/etc/hosts"),)), FULL)
    assert one(built, step) == step(hosts)
    assert kinds(built).index(step.__name__) < kinds(built).index("BindVolume")
    assert one(build(having(network=network), FULL), step) == step()


def test_a_network_with_nobody_in_it_is_the_default() -> None:
    """Without a word about it, a cell has all six namespaces and the loopback interface alone."""
    built = build(SPEC, FULL)
    assert set(one(built, CloneInit).namespaces) == {"mount", "pid", "uts", "ipc", "cgroup", "net"}
    assert "RaiseLoopback" in kinds(built)
    assert "BindResolver" not in kinds(built)


@MAPS
def test_only_userns_host_shows_the_store_with_the_hosts_ids(ids: IdMap) -> None:
    """Layers and uppers are mapped back to the host's root where containers have no user namespace, and only there."""
    found = [step for step in build(SPEC, ids) if isinstance(step, StoreAsHost)]
    assert found == (
        [StoreAsHost(((ROOT_BASE, 0, COUNT),), name) for name in ("layers", "tmp", "below")] if ids is HOST else []
    )
    if found:
        assert kinds(build(SPEC, ids)).index("StoreAsHost") > kinds(build(SPEC, ids)).index("SlaveMounts")


@MAPS
def test_a_single_id_has_no_groups_and_no_terminal_group(ids: IdMap) -> None:
    """Where one id is mapped, setgroups(2) and devpts' gid=5 would fail, so that neither is asked for."""
    built = build(SPEC, ids)
    pts = next(step for step in built if isinstance(step, MountDevDirectory) and step.name == "pts")
    assert ("gid=5" in pts.options) == (ids is not SINGLE)
    assert one(built, SetUser).drop_groups == (ids is not SINGLE)


@MAPS
def test_a_single_id_is_made_to_do_for_packages(ids: IdMap) -> None:
    """Where one id is mapped, changes of owner are answered and apt is told to stay root; nowhere else."""
    built = build(SPEC, ids)
    assert one(built, InstallSeccomp).single_id == (ids is SINGLE)
    assert ("WriteAptConfig" in kinds(built)) == (ids is SINGLE)
    assert (f"APT_CONFIG={APT_CONFIG}" in one(built, Execute).env) == (ids is SINGLE)


def test_mounts_are_made_from_the_top_down() -> None:
    """Volumes and tmpfs come by depth of target, so that the one below lands on the one above and not under it."""
    volumes = tuple(Volume("/src", target) for target in ("/a/b/c", "/x", "/a"))
    built = build(having(volumes=volumes, tmpfs=(Tmpfs("/x/y/z/t"), Tmpfs("/a/b"))), FULL)
    targets = [step.target for step in built if isinstance(step, BindVolume | MountTmpfs)]
    assert sorted(targets) == ["/a", "/a/b", "/a/b/c", "/x", "/x/y/z/t"]
    assert [a.count("/") <= b.count("/") for a, b in pairwise(targets)] == [True] * 4


def test_a_volume_keeps_its_facts() -> None:
    """Every field of the Spec's volume is in its step."""
    volume = Volume("/src", "/dst", read_only=True, directory=False, device=7, inode=9, tree=4)
    built = build(having(volumes=(volume,)), FULL)
    assert one(built, BindVolume) == BindVolume("/src", "/dst", False, True, 4, 7, 9)


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"read_only": True}, [ReadOnlyRoot()]),
        (
            {"process": dataclasses.replace(PROGRAM, terminal=True)},
            [OpenTerminal(), SetUser(terminal=True), Execute(PROGRAM.argv, PROGRAM.env, terminal=True)],
        ),
        (
            {"process": dataclasses.replace(PROGRAM, terminal_input=True)},
            [
                OpenTerminal(1),
                SetUser(terminal=True),
                InstallSeccomp(terminal_input=True),
                Execute(PROGRAM.argv, PROGRAM.env, terminal_input=True),
            ],
        ),
        (
            {"process": dataclasses.replace(PROGRAM, cwd="/srv")},
            [MakeWorkdir("/srv"), Execute(PROGRAM.argv, PROGRAM.env, "/srv")],
        ),
        ({"process": dataclasses.replace(PROGRAM, user="bin:33")}, [SetUser("bin:33")]),
        ({"tmpfs": (Tmpfs("/t", 4096),)}, [MountTmpfs("/t", 4096)]),
        ({"hostname": "other"}, [SetHostname("other")]),
        ({"script": 5}, [WriteScript(5)]),
        (
            {"capabilities": ("CHOWN",)},
            [DropBounding(("CHOWN",)), DropCapabilities(("CHOWN", "KILL")), InstallSeccomp(("CHOWN",))],
        ),
        (
            {"capabilities": ("KILL",)},
            [DropBounding(("KILL",)), DropCapabilities(("KILL",)), InstallSeccomp(("KILL",))],
        ),
        (
            {"capabilities": MORE},
            [
                CloneInit((*CloneInit().namespaces, OWN_USER)),
                DropBounding(MORE),
                DropCapabilities(MORE),
                InstallSeccomp(MORE),
            ],
        ),
        ({"limits": (Limit("nofile", 1, 2),)}, [SetLimits((Limit("nofile", 1, 2),))]),
        ({"oom_score_adj": 0}, [AdjustOomScore(0)]),
        ({"shm_size": 4096}, [MountDevDirectory("shm", "tmpfs", "mode=1777,size=4096")]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_asked_for_is_a_step(change: dict[str, Any], steps: list[Step]) -> None:
    """Each option of a Spec changes its own steps and no others."""
    before, after = list(build(SPEC, FULL)), list(build(having(**change), FULL))
    assert [step for step in after if step not in before] == steps


def test_the_oom_score_is_written_before_the_root_is_switched() -> None:
    """Afterwards the container's own /proc is there, which can be read-only. A warm container has the score already."""
    built = build(having(oom_score_adj=500), FULL)
    names = kinds(built)
    assert names.index("AdjustOomScore") < names.index("PivotRoot")
    assert AdjustOomScore(500) in plan.ahead(built)


def test_no_script_is_no_step() -> None:
    """A cell with a command of its own has no /dev/cell."""
    assert "WriteScript" not in kinds(build(having(script=None), FULL))


def test_a_read_only_root_closes_after_what_is_made_in_it() -> None:
    """Missing targets and the working directory are made before the root refuses writes."""
    program = dataclasses.replace(PROGRAM, cwd="/new")
    built = kinds(build(having(process=program, volumes=(Volume("/s", "/d"),), read_only=True), FULL))
    assert built.index("BindVolume") < built.index("ReadOnlyRoot") < built.index("PivotRoot")
    assert built.index("MakeWorkdir") < built.index("ReadOnlyRoot")


@MAPS
def test_work_sees_one_directory_and_drops_the_rest(ids: IdMap) -> None:
    """A work sandbox loads its module, switches to its directory, and keeps what unpacking needs."""
    built = build(Spec(Work("some.module", "work", '{"a": 1}')), ids, Directory("tmp/x/diff"))
    assert built.setup == (ImportModule("some.module"), BindRoot("tmp/x/diff"), PivotRoot())
    assert built.enter == (
        SetLimits(),
        DropCapabilities(plan.WORK_CAPABILITIES),
        NoNewPrivileges(),
        InstallSeccomp(plan.WORK_CAPABILITIES),
        CallFunction("some.module", "work", '{"a": 1}'),
    )
    assert built.prepare == plan.prepare_steps(ids)


def test_work_on_layers_sees_them_merged() -> None:
    """A work sandbox on layers has an overlay without an upper as its root."""
    built = build(Spec(Work("m", "f")), FULL, Overlay(("a/diff", "b/diff")))
    assert MountOverlay(("a/diff", "b/diff")) in built.setup


def test_equal_templates_have_equal_plans() -> None:
    """A template is a value: two of one cell are equal, and differ from that of another cell."""
    template = PlanTemplate(SPEC, FULL)
    assert template == PlanTemplate(having(), FULL)
    assert template.on(ROOT) == PlanTemplate(having(), FULL).on(ROOT)
    assert template != PlanTemplate(having(read_only=True), FULL)
    assert template != PlanTemplate(SPEC, SINGLE)


def test_a_template_without_a_host_name_gets_that_of_its_root() -> None:
    """The host name, in the kernel and in the environment, is the name that comes with the root if there is none."""
    program = dataclasses.replace(PROGRAM, env=("PATH=/bin", "HOSTNAME", "A=1"))
    for hostname, expected in (("", "made-up"), ("box", "box")):
        built = PlanTemplate(having(process=program, hostname=hostname), FULL).on(ROOT, "made-up")
        assert one(built, SetHostname) == SetHostname(expected)
        assert one(built, Execute).env == ("PATH=/bin", f"HOSTNAME={expected}", "A=1")


def test_a_plan_is_told_in_order() -> None:
    """Iterating over a plan gives what is done ahead, then the setting up, then the entering."""
    built = build(SPEC, FULL)
    assert tuple(built) == built.prepare + built.setup + built.enter


@EVERY_STEP
def test_every_step_says_why(step: type[Step]) -> None:
    """Each class of step says in a phrase what it is for, and its apply or its class says what it does."""
    assert len(step.why) > 10
    assert not step.why.endswith(".")
    assert inspect.getdoc(step)


@EVERY_STEP
def test_every_advice_is_a_next_step(step: type[Step]) -> None:
    """A hint is a phrase of one line without a full stop, filed under an errno."""
    for code, advice in step.advice.items():
        assert code > 0
        assert advice == advice.strip().rstrip(".")
        assert "\n" not in advice


def value_for(kind: Any) -> Any:
    """A value of a field's type: numbers, strings, booleans, tuples of them, and None, are all that there may be."""
    if kind in (bool, int, str):
        return {bool: True, int: 7, str: 'é"\\\n:,'}[kind]
    kinds = [one for one in typing.get_args(kind) if one is not type(None)]
    if typing.get_origin(kind) is not tuple:
        return value_for(kinds[0])
    return (value_for(kinds[0]),) * 2 if kinds[-1] is ... else tuple(value_for(one) for one in kinds)


@EVERY_STEP
def test_every_step_travels(step: type[Step]) -> None:
    """Each class of step, its fields filled, is the same after its way through JSON."""
    fields = dataclasses.fields(step)  # type: ignore[arg-type]
    sent = step(**{field.name: value_for(eval(str(field.type))) for field in fields})
    (came,) = plan.decode(json.loads(json.dumps(plan.encode([sent]))))
    assert came == sent
    assert type(came) is step
    assert hash(came) == hash(sent)


def test_a_whole_plan_travels() -> None:
    """What init is sent is what was built."""
    built = build(having(volumes=(Volume("/a", "/b"),), tmpfs=(Tmpfs("/c"),), network="host"), HOST)
    assert plan.decode(json.loads(json.dumps(plan.encode(built)))) == tuple(built)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (["NoSuchStep", {}], KeyError),
        (["SetHostname", {}], TypeError),
        (["SetHostname", {"name": "a", "other": 1}], TypeError),
    ],
)
def test_what_encode_did_not_write_is_refused(value: list[Any], error: type[Exception]) -> None:
    """An unknown step, and a step with fields that it does not have, raise."""
    with pytest.raises(error):
        plan.decode([value])


def test_a_step_without_apply_says_so() -> None:
    """A step that init carries out itself is not applied by mistake."""
    with pytest.raises(TypeError, match="CallFunction is not applied"):
        CallFunction("m", "f").apply(None, ())  # type: ignore[arg-type]


def test_the_masks_are_dockers() -> None:
    """The paths that Docker hides, and those that it write-protects, are in every plan."""
    built = build(SPEC, FULL)
    assert one(built, MaskPaths).paths == MASKED
    assert one(built, ReadOnlyPaths).paths == READ_ONLY
    assert {"proc/kcore", "proc/keys", "proc/timer_list", "sys/firmware"} <= set(MASKED)
    assert set(READ_ONLY) == {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"}


def test_first_come_first_served() -> None:
    """Init is made, its mounts cut off from the host's, and the stage set, before anything is mounted."""
    assert build(SPEC, FULL).prepare[1:3] == (SlaveMounts(), MountStage())
    assert isinstance(build(SPEC, FULL).prepare[0], CloneInit)
    assert AttachStaged("proc") in build(SPEC, FULL).prepare
    assert isinstance(build(SPEC, FULL).enter[-2], CloseDescriptors)
    assert build(SPEC, FULL).enter[-1] == Execute(PROGRAM.argv, PROGRAM.env, "/")


def test_a_root_on_this_machine_is_made_of_parts() -> None:
    """The machine below the layers comes apart where the store lies in it, and each part is an overlay of its own."""
    part = Overlay(("b/diff/opt",), "../tmp/u/diff.0", "../tmp/u/work.0", HostLower("/opt"), "/opt")
    root = dataclasses.replace(ROOT, host=HostLower("../host/0", around=True), parts=(part,))
    steps = [step for step in build(SPEC, FULL, root).prepare if isinstance(step, ShowHost | MountOverlay)]
    assert steps == [
        ShowHost("../host/0", "host0"),
        MountOverlay(("../stage/names", "a/diff", "b/diff", "../stage/host0"), "../tmp/u/diff", "../tmp/u/work"),
        MountOverlay(("b/diff/opt", "/opt"), "../tmp/u/diff.0", "../tmp/u/work.0", "/opt"),
    ]


def test_an_owner_of_the_root_is_set_before_it_is_mounted() -> None:
    """Only where the layer below has another owner than the container's root: an ordinary cell has no such step."""
    steps = build(SPEC, FULL, dataclasses.replace(ROOT, give=True)).prepare
    place = steps.index(GiveRoot("a/diff", "../tmp/u/diff"))
    assert isinstance(steps[place + 1], MountOverlay)
    assert "GiveRoot" not in kinds(build(SPEC, FULL))


def test_an_outer_proc_has_its_user_namespace_and_its_covers() -> None:
    """Containers that share one would open each other's processes. The covers are repeated as the cell begins."""
    built = PlanTemplate(SPEC, FULL, ProcLevel.OUTER).on(ROOT)
    (clone,) = [step for step in built if isinstance(step, CloneInit)]
    assert "user" in clone.namespaces
    covers = [step for step in built if isinstance(step, CoverProcesses)]
    assert covers == [CoverProcesses("stage/proc"), CoverProcesses("/proc")]
    assert covers[0] in built.prepare
    assert built.enter[0] == covers[1]
    assert built.enter[0] not in plan.ahead(built)


def test_unusual_capabilities_are_over_a_user_namespace_of_the_containers_own() -> None:
    """The launcher and the containers with the default ones share one. With --userns=host, there is none at all."""
    spec = having(capabilities=MORE)
    assert one(build(spec, SINGLE), CloneInit) == CloneInit((*CloneInit().namespaces, OWN_USER))
    assert one(build(spec, HOST), CloneInit) == CloneInit()
    assert [plan.compilable(each, FULL, ProcLevel.OWN) for each in (SPEC, spec)] == [True, False]


@pytest.mark.parametrize("level", [ProcLevel.OWN, ProcLevel.NOTEBOOK, ProcLevel.PROCESSES])
def test_a_proc_of_its_own_needs_neither(level: ProcLevel) -> None:
    """The plan is that of the first level, except for the mount of /proc."""
    own, other = (PlanTemplate(SPEC, FULL, one).on(ROOT) for one in (ProcLevel.OWN, level))
    assert [step for step in own if type(step) is not MountProc] == [
        step for step in other if type(step) is not MountProc
    ]


def test_the_body_is_written_before_copies_are_refused() -> None:
    """sendfile(2) writes the body, and a filter for an input terminal refuses it."""
    process = dataclasses.replace(PROGRAM, terminal_input=True)
    names = kinds(build(having(process=process, script=5), FULL).enter)
    assert names.index("WriteScript") < names.index("InstallSeccomp") < names.index("Execute")
