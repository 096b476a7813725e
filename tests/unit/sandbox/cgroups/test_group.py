"""Where a cell's control group can be made, and what is written into it, on hierarchies made of plain files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nbcontainer.errors import LimitUnavailable
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox.cgroups.group import UNLIMITED, Group, GroupLimits, sweep
from nbcontainer.sandbox.cgroups.hierarchy import Cgroups, name_of
from nbcontainer.sandbox.diagnosis import Machine

ALL = ("cpu", "memory", "pids")


def unified(top: Path, given: dict[str, str], own: str) -> Cgroups:
    """A tree of version 2: what each group gives its children. The top one is the hierarchy's root."""
    for name, controllers in given.items():
        group = top / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.controllers").write_text("cpu memory pids io")
        (group / "cgroup.subtree_control").write_text(controllers)
        if group != top:
            (group / "cgroup.events").write_text("populated 1\n")
    return Cgroups(top / own, ALL, {}, top)


@pytest.mark.parametrize(
    ("needed", "given", "closed", "where"),
    [
        (("memory",), {".": "", "user": "memory", "user/app": "memory", "user/app/me": ""}, (), "user/app"),
        (ALL, {".": "", "user": "cpu memory pids", "user/app": "memory pids", "user/app/me": ""}, (), "user"),
        (("pids",), {".": "", "user": "pids", "user/app": "pids", "user/app/me": "pids"}, (), "user/app/me"),
        (("pids",), {".": "", "user": "pids", "user/app": "pids", "user/app/me": ""}, ("user/app",), "user"),
        (("pids",), {".": "", "user": "", "user/app": "", "user/app/me": ""}, (), "."),
        (("pids",), {".": "", "user": "", "user/app": "", "user/app/me": ""}, (".",), None),
    ],
    ids=["beside this one", "where all are", "below this one", "where it may", "the root can be told to", "nowhere"],
)
def test_the_nearest_group_that_gives_what_is_needed(
    tmp_path: Path, needed: tuple[str, ...], given: dict[str, str], closed: tuple[str, ...], where: str | None
) -> None:
    """All controllers come from one group above this process, where it may make others and whose children get them."""
    groups = unified(tmp_path, given, "user/app/me")
    shut = {tmp_path / name for name in closed}
    found = groups.parents(needed, lambda path: path not in shut)
    assert found == ({} if where is None else {tmp_path / where: needed})


def test_versions_are_used_side_by_side(tmp_path: Path) -> None:
    """A controller of version 1 is used where it is; one hierarchy may have several."""
    both = tmp_path / "cpu,memory"
    groups = dataclasses.replace(
        unified(tmp_path / "unified", {".": "pids"}, "."), legacy={"cpu": both, "memory": both, "freezer": tmp_path}
    )
    assert groups.parents(ALL, lambda _: True) == {both: ("cpu", "memory"), tmp_path / "unified": ("pids",)}
    assert groups.parents(ALL, lambda path: path != both) == {}


@pytest.mark.parametrize(
    ("limits", "version_2", "version_1"),
    [
        (
            GroupLimits(memory=64 << 20),
            {"memory.max": "67108864", "memory.oom.group": "1", "memory.swap.max": "0"},
            {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864"},
        ),
        (
            GroupLimits(64 << 20, 1 << 20),
            {"memory.max": "67108864", "memory.oom.group": "1", "memory.swap.max": "1048576"},
            {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "68157440"},
        ),
        (
            GroupLimits(64 << 20, UNLIMITED),
            {"memory.max": "67108864", "memory.oom.group": "1", "memory.swap.max": "max"},
            {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "-1"},
        ),
        (
            GroupLimits(cpus=1.5),
            {"cpu.max": "150000 100000"},
            {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"},
        ),
        (GroupLimits(pids=9), {"pids.max": "9"}, {"pids.max": "9"}),
    ],
)
def test_a_limit_in_the_kernels_words(
    limits: GroupLimits, version_2: dict[str, str], version_1: dict[str, str]
) -> None:
    """Each limit is the files that the kernel's documentation of either version names for it."""
    for unified, expected in ((True, version_2), (False, version_1)):
        found = dict(setting for name in limits.controllers for setting in limits.settings(name, unified=unified))
        if limits.memory is not None:
            found |= [limits.swap_setting(unified=unified)]
        assert found == expected


def test_no_limit_needs_no_controller() -> None:
    """What nobody asked for, and what may be as much as there is, needs no group."""
    assert GroupLimits().controllers == ()
    assert GroupLimits(pids=UNLIMITED).controllers == ()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with version 2 alone, where the files of a new group are not there: a plain directory has none."""
    top = tmp_path / "cgroup"
    unified(top, {".": "memory pids cpu"}, ".")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    (tmp_path / "proc" / "self" / "mountinfo").write_text(f"36 25 0:31 / {top} rw - cgroup2 cgroup2 rw\n")
    return Machine(proc=tmp_path / "proc", uid=1000)


def test_a_limit_that_the_kernel_refuses_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    """One line names the file and the reason, and the group that was begun is gone."""
    with pytest.raises(LimitUnavailable, match=r"cannot set a limit at .*/memory\.max: No such file or directory; "):
        Group(GroupLimits(memory=64 << 20), machine, lambda _: True)
    assert [path for path in (tmp_path / "cgroup").iterdir() if path.is_dir()] == []


def test_a_limit_without_a_group_says_what_to_do(machine: Machine) -> None:
    """What cannot be limited is named, with the version that is there, and the way."""
    with pytest.raises(LimitUnavailable) as raised:
        Group(GroupLimits(memory=64 << 20, pids=5), machine, lambda _: False)
    assert "cannot limit a cell's memory or processes (cgroups: v2); start the notebook in its own group" in str(
        raised.value
    )


class Made(Group):
    """A group of plain files, as the kernel leaves them when a cell has ended."""

    def __init__(self, limits: GroupLimits, place: Path, **files: str) -> None:
        self.limits = limits
        self._paths = dict.fromkeys((*ALL, "cpuacct"), place)
        for name, text in files.items():
            (place / name.replace("__", ".")).write_text(text)


EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 1\n"


@pytest.mark.parametrize(
    ("reason", "code", "files", "explained"),
    [
        ("killed", 137, {"memory__events": EVENTS.format(2)}, "out of memory"),
        ("exited", 137, {"memory__oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"}, "out of memory"),
        ("exited", 0, {"memory__events": EVENTS.format(2)}, "exited"),
        ("exited", 1, {"memory__events": EVENTS.format(0)}, "exited"),
        ("exited", 2, {"pids__events": "max 3\n"}, "too many processes"),
        ("exited", 2, {"pids__events": "max 0\n"}, "exited"),
        ("timeout", 143, {"pids__events": "max 3\n"}, "timeout"),
        ("interrupted", 130, {"memory__events": EVENTS.format(2)}, "interrupted"),
        ("exited", 1, {"memory__events": EVENTS.format(1), "pids__events": "max 3\n"}, "out of memory"),
        ("exited", 1, {}, "exited"),
        ("exited", 1, {"memory__events": "nonsense", "pids__events": ""}, "exited"),
    ],
)
def test_the_kernels_counts_are_the_reason(
    tmp_path: Path, reason: str, code: int, files: dict[str, str], explained: str
) -> None:
    """If the kernel counted that a cell reached a limit and the cell ended badly, the limit is the reason."""
    group = Made(GroupLimits(memory=64 << 20, pids=9), tmp_path, **files)
    ended = group.explain(Outcome(Reason(reason), code))
    assert ended.reason == explained
    assert ended.limit == {"out of memory": 64 << 20, "too many processes": 9}.get(explained, 0)


@pytest.mark.parametrize("file", ["memory__peak", "memory__max_usage_in_bytes"])
def test_the_peak_is_the_groups(tmp_path: Path, file: str) -> None:
    """The most that all processes had together is the kernel's count, where it has one."""
    assert (
        Made(GroupLimits(memory=1), tmp_path, **{file: "4096\n"}).explain(Outcome(Reason.EXITED, 0)).peak_memory == 4096
    )


def test_without_a_count_the_peak_stays(tmp_path: Path) -> None:
    """A kernel that does not tell leaves the peak of the largest process."""
    assert Made(GroupLimits(memory=1), tmp_path).explain(Outcome(Reason.EXITED, 0, peak_memory=7)).peak_memory == 7


@pytest.mark.parametrize(
    ("files", "told", "seconds"),
    [
        ({"cpu__stat": "usage_usec 250000\nuser_usec 200000\n"}, 0.0, 0.25),
        ({"cpuacct__usage": "1500000000\n"}, 0.0, 1.5),
        ({"cpu__stat": "usage_usec 250000\n"}, 0.125, 0.125),
        ({"cpu__stat": "nr_periods 0\n"}, 0.0, 0.0),
        ({}, 0.0, 0.0),
    ],
)
def test_the_processors_time_is_the_groups(tmp_path: Path, files: dict[str, str], told: float, seconds: float) -> None:
    """A cell whose init was killed before it could say what the cell used has the time that the kernel counted."""
    ended = Outcome(Reason.TIMEOUT, 137, cpu_time=told)
    assert Made(GroupLimits(cpus=0.5), tmp_path, **files).explain(ended).cpu_time == seconds


def test_the_dead_are_swept_and_the_living_are_not(machine: Machine, tmp_path: Path) -> None:
    """A group goes when the process in its name is dead, or its number is another's; others' groups stay.

    Whether a process of another pid namespace is alive cannot be seen here.
    """
    from nbcontainer.linux.procfs import birth

    top, here = tmp_path / "cgroup", Path("/proc/self/ns/pid").stat().st_ino
    names = {"nbcontainer-1-0-1": False, "nbcontainer-99999999-5-1": False, f"nbcontainer-1-{birth(1)}-2": True}
    names |= {"nbcontainer-x-1-1": True, "system.slice": True, name_of(3): True, f"nbcontainer-1-0.{here}-1": False}
    names |= {f"nbcontainer-1-0.{here + 1}-1": True, "nbcontainer-99999999-5.7-1": True}
    for name in names:
        (top / name).mkdir()
    sweep(machine)
    assert {name: (top / name).exists() for name in names} == names
