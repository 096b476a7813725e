"""`--cap-add` and `--cap-drop`: what root in a container has, and never more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.linux.process import CAPABILITIES, capability_mask
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine

SETS = "sed -n 's/^Cap\\(Prm\\|Eff\\|Bnd\\|Inh\\|Amb\\):\\t//p' /proc/self/status"
LAST = 1 << len(CAPABILITIES)


def sets(engine: Engine, **options: object) -> dict[str, int]:
    """A cell's own sets, by the kernel's names for them, as masks of the capabilities that this package knows."""
    result = nbcontainer.run("busybox", script=SETS, engine=engine, **options)  # type: ignore[arg-type]
    inheritable, permitted, effective, bounding, ambient = (int(line, 16) % LAST for line in result.text.split())
    assert (inheritable, ambient) == (0, 0)
    assert permitted == effective
    return {"has": effective, "can gain": bounding}


@pytest.mark.parametrize(
    ("add", "drop", "kept"),
    [
        ((), (), set(DEFAULT_CAPABILITIES)),
        ((), ("CHOWN", "cap_kill"), set(DEFAULT_CAPABILITIES) - {"CHOWN", "KILL"}),
        ((), ("ALL",), set()),
        (("CAP_SYS_PTRACE", "NET_RAW"), (), {*DEFAULT_CAPABILITIES, "SYS_PTRACE", "NET_RAW"}),
        (("net_admin",), ("ALL",), {"NET_ADMIN"}),
        (("ALL",), ("SYS_ADMIN",), set(CAPABILITIES) - {"SYS_ADMIN"}),
    ],
    ids=["the usual", "fewer", "none", "more", "one", "all but one"],
)
def test_root_has_what_was_chosen(engine: Engine, add: tuple[str, ...], drop: tuple[str, ...], kept: set[str]) -> None:
    """The cell has the chosen set, and no program of it, setuid or not, can gain another."""
    found = sets(engine, cap_add=add, cap_drop=drop)
    wanted = capability_mask(tuple(kept))
    assert found["has"] == wanted
    assert found["can gain"] == wanted


def test_what_was_dropped_is_refused(engine: Engine) -> None:
    """Without the capability the call fails; with it, it works, and what is not root's never had it."""
    script = "touch /file; chown 33 /file 2>/dev/null && echo done; true"
    owners = nbcontainer.run("busybox", script="touch /f && chown 33 /f", engine=engine, check=False).outcome.ok
    without = nbcontainer.run("busybox", script=script, engine=engine, cap_drop=["CHOWN"]).text
    assert without == ""
    assert (nbcontainer.run("busybox", script=script, engine=engine).text == "done\n") == owners


def test_a_network_of_its_own_can_be_administered(engine: Engine) -> None:
    """NET_ADMIN is over the container's own network: an address there changes nothing of the host's."""
    script = "ip addr add 10.9.8.7/32 dev lo && ip addr show lo"
    assert "10.9.8.7" in nbcontainer.run("busybox", script=script, engine=engine, cap_add=["NET_ADMIN"]).text
    assert not nbcontainer.run("busybox", script=script, engine=engine, check=False).outcome.ok


@pytest.mark.parametrize("drop", [("KILL",), ("ALL",)])
def test_init_ends_what_it_may_not_kill(engine: Engine, drop: tuple[str, ...]) -> None:
    """A cell that gave up KILL and left processes behind ends like any other, with all of them."""
    result = nbcontainer.run(
        "busybox", script="setsid sleep 1000 & echo over", engine=engine, cap_drop=drop, timeout=20
    )
    assert (result.text, result.outcome.ok) == ("over\n", True)


def test_init_stays_closed(engine: Engine) -> None:
    """With every capability there is in its user namespace, a cell looks into its init no more than without."""
    script = "for f in exe cwd root fd/3 environ mem; do head -c 1 /proc/1/$f >/dev/null 2>&1 && echo $f; done; true"
    assert nbcontainer.run("busybox", script=script, engine=engine, cap_add=["ALL"]).text == ""


def test_the_machine_stays_closed(engine: Engine) -> None:
    """What only root of the machine may do stays refused to root of a container with every capability."""
    script = (
        "echo 1 >/proc/sys/kernel/panic && echo panic; echo h >/proc/sysrq-trigger && echo sysrq; "
        "mknod /dev/kmsg2 c 1 11 && head -c 1 /dev/kmsg2 && echo kmsg; date -s 2001-01-01 2>&1 | "
        "grep -q 'Operation not permitted' || echo clock; "
        "hwclock -w && echo hwclock; mount -t ext4 /dev/vda /mnt && echo disk; dmesg -c && echo log; true"
    )
    assert nbcontainer.run("busybox", script=script, engine=engine, cap_add=["ALL"]).text == ""
