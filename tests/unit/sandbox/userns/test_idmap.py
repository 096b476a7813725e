"""Which map of ids a user's containers get, on machines that are made of the test's own files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.process import capability_mask
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.userns.idmap import (
    COUNT,
    ROOT_BASE,
    IdMap,
    MapKind,
    Range,
    choose,
    granted,
    host_map,
    root_map,
    single_map,
)

if TYPE_CHECKING:
    from pathlib import Path

FIRST = (0, ROOT_BASE, COUNT)
REST = (COUNT, ROOT_BASE + COUNT, 0x1000_0000 - COUNT)
MIDDLE = (0x1000_0000, 0x9000_0000, 0x6FFF_FFFF)
TOP = (0xF000_0000, 0x8000_0000, 0x0FFF_FFFF)

WHOLE = "         0          0 4294967295\n"
UID, GID = 54321, 54322
"""A user whom no machine's /etc/passwd knows: its name is its number."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose user UID has a range, with newuidmap and newgidmap on PATH."""
    for name in ("proc/self", "etc", "bin"):
        (tmp_path / name).mkdir(parents=True)
    for tool in ("newuidmap", "newgidmap"):
        (tmp_path / "bin" / tool).touch()
        (tmp_path / "bin" / tool).chmod(0o4755)
    (tmp_path / "etc/subuid").write_text(f"{UID}:200000:65536\n")
    (tmp_path / "etc/subgid").write_text(f"{UID}:300000:65536\n")
    (tmp_path / "proc/self/uid_map").write_text(WHOLE)
    (tmp_path / "proc/self/gid_map").write_text(WHOLE)
    (tmp_path / "proc/self/setgroups").write_text("allow\n")
    (tmp_path / "proc/self/status").write_text("NoNewPrivs:\t0\nCapEff:\t000001ffffffffff\n")
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("the temporary directory is mounted nosuid")
    return Machine(tmp_path / "proc", tmp_path / "etc", {"PATH": str(tmp_path / "bin")}, UID, GID)


def root_of(machine: Machine) -> Machine:
    return Machine(machine.proc, machine.etc, machine.environ, 0, 0)


def test_a_user_with_a_range_is_root_and_has_the_range_above(machine: Machine) -> None:
    """Root in the container is the user; the ids above are the granted range's; newuidmap writes the map."""
    chosen = choose(machine)
    assert chosen == IdMap(
        MapKind.RANGE,
        (Range(0, UID, 1), Range(1, 200000, 65536)),
        (Range(0, GID, 1), Range(1, 300000, 65536)),
        tool=True,
    )
    assert (chosen.root_uid, chosen.root_gid, chosen.setgroups) == (UID, GID, True)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("etc/subuid", ""),
        ("etc/subgid", f"{UID + 1}:1:65536\n"),
        ("proc/self/status", "NoNewPrivs:\t1\n"),
        ("proc/self/uid_map", f"0 {UID} 1\n"),
    ],
    ids=["no uids", "no gids", "no_new_privs", "in a small user namespace"],
)
def test_a_user_without_the_means_has_one_id(machine: Machine, file: str, text: str) -> None:
    """Without a range, or without what it takes to map it, nobody but the user exists in a container."""
    (machine.proc.parent / file).write_text(text)
    chosen = choose(machine)
    assert chosen == single_map(UID, GID)
    assert (chosen.root_uid, chosen.root_gid, chosen.setgroups, chosen.tool) == (UID, GID, False, False)


@pytest.mark.parametrize("tool", ["newuidmap", "newgidmap"])
def test_a_user_without_the_tool_has_one_id(machine: Machine, tool: str) -> None:
    """Only newuidmap and newgidmap may write a range for a plain user; one that is not setuid may not."""
    path = machine.proc.parent / "bin" / tool
    path.chmod(0o755)
    assert choose(machine).kind == MapKind.SINGLE
    path.unlink()
    assert choose(machine).kind == MapKind.SINGLE


def test_a_range_larger_than_needed_is_cut(machine: Machine) -> None:
    """A map has as many ids as images use, however large the grant."""
    (machine.etc / "subuid").write_text(f"{UID}:200000:1000000\n")
    assert choose(machine).uids[1] == Range(1, 200000, COUNT)


def test_a_small_range_is_used_whole(machine: Machine) -> None:
    """A grant of fewer ids than usual is still a range."""
    (machine.etc / "subuid").write_text(f"{UID}:200000:1000\n")
    assert choose(machine).uids[1] == Range(1, 200000, 1000)


def test_roots_containers_have_a_range_that_owns_nothing(machine: Machine) -> None:
    """Root of the host gets a high range, so that no id of a container's is one of the host's."""
    chosen = choose(root_of(machine))
    assert chosen.kind == MapKind.RANGE
    assert chosen.uids == chosen.gids
    assert min(range_.outside for range_ in chosen.uids) == ROOT_BASE
    assert (chosen.root_uid, chosen.root_gid, chosen.setgroups, chosen.tool) == (ROOT_BASE, ROOT_BASE, True, False)


@pytest.mark.parametrize(
    ("uids", "gids", "expected"),
    [
        (WHOLE, WHOLE, (FIRST, REST, MIDDLE, TOP)),
        (f"0 0 {0x8000_0000}\n", WHOLE, (FIRST, REST)),
        ("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n", ((0, 0, 1), (1, 1, 65536))),
        ("0 100000 65536\n", WHOLE, ((0, 0, 65536),)),
        (f"0 0 {ROOT_BASE + COUNT}\n", WHOLE, ((0, ROOT_BASE, COUNT),)),
        (f"0 0 {ROOT_BASE + COUNT - 1}\n", WHOLE, ((0, 0, ROOT_BASE + COUNT - 1),)),
    ],
    ids=["the host", "ids of 31 bits", "rootless podman", "one of the two", "just enough", "one too few"],
)
def test_root_of_a_user_namespace_gives_its_own_ids(
    uids: str, gids: str, expected: tuple[tuple[int, int, int], ...]
) -> None:
    """Where the high range does not exist, the ids that do are mapped one to one."""
    assert root_map(uids, gids).uids == tuple(Range(*numbers) for numbers in expected)
    assert root_map(uids, gids).kind == MapKind.RANGE


def test_a_root_that_may_map_nothing_has_one_id(machine: Machine) -> None:
    """Root without CAP_SETUID, or alone in its user namespace, has no range to give."""
    (machine.proc / "self/status").write_text(f"CapEff:\t{capability_mask(('SYS_ADMIN',)):016x}\n")
    assert choose(root_of(machine)) == single_map(0, 0)


def test_a_root_that_is_alone_has_one_id(machine: Machine) -> None:
    """In a user namespace of one id (unshare -r) there is nothing to map but that."""
    for name in ("uid_map", "gid_map"):
        (machine.proc / "self" / name).write_text("0 1000 1\n")
    assert choose(root_of(machine)) == single_map(0, 0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{UID}:100:200\n", (100, 200)),
        (f"# a comment\n\nroot:1:2\n{UID}:100:200\n", (100, 200)),
        (f"{UID}:100:200\n{UID}:1000:500\n{UID}:5000:10\n", (1000, 500)),
        (f"  {UID}:100:200  \n", (100, 200)),
        (f"{UID}:100:0\n", None),
        (f"{UID}:abc:200\n{UID}:100\n{UID}\n:::\n", None),
        (f"{UID}:-5:200\n", None),
        ("other:100:200\n", None),
        ("", None),
    ],
    ids=["one", "among others", "largest of three", "spaces", "none of it", "damaged", "negative", "others", "empty"],
)
def test_what_a_file_grants(tmp_path: Path, text: str, found: tuple[int, int] | None) -> None:
    """The largest range of a user's counts; lines that are none are passed over."""
    (tmp_path / "subuid").write_text(text)
    assert granted(tmp_path / "subuid", UID) == found


def test_a_grant_by_name(tmp_path: Path) -> None:
    """A line may have the user's name or number."""
    (tmp_path / "subuid").write_text("root:100:200\n")
    assert granted(tmp_path / "subuid", 0) == (100, 200)


def test_no_file_grants_nothing(tmp_path: Path) -> None:
    """A machine without subuid(5) has no ranges."""
    assert granted(tmp_path / "none", UID) is None


@pytest.mark.parametrize(
    ("ids", "known", "unknown"),
    [
        (single_map(1000, 1000), 0, 1),
        (root_map(WHOLE, WHOLE), 1000660000, 0x7FFF_FFFF),
        (root_map(WHOLE, WHOLE), 2**32 - 2, 0x8000_0000),
        (IdMap(MapKind.RANGE, gids=(Range(0, 1, 1), Range(5, 9, 2))), 6, 7),
    ],
)
def test_which_groups_a_container_has(ids: IdMap, known: int, unknown: int) -> None:
    """A group inside the map exists in the container, one beyond it does not."""
    assert ids.maps(known)
    assert not ids.maps(unknown)


def test_without_a_user_namespace_every_id_is_the_hosts() -> None:
    """`--userns=host`: all groups exist, groups can be set, root is root."""
    ids = host_map()
    assert (ids.kind, ids.root_uid, ids.root_gid, ids.setgroups, ids.maps(123456)) == (MapKind.HOST, 0, 0, True, True)


def test_without_a_user_namespace_the_store_has_the_owners_of_the_other_containers() -> None:
    """What `--userns=host` shows of a layer belongs to the ids that a container in a user namespace would show."""
    assert host_map(WHOLE, WHOLE).store == root_map(WHOLE, WHOLE).uids
    assert host_map().store == root_map(WHOLE, WHOLE).uids[:1]
