"""What `inspect` says a cell was kept in is what the kernel says of the cell from inside, and what the cell cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.containers import lookup as containers
from nbcontainer.errors import UsageError
from nbcontainer.linux.process import capability_mask
from tests.running import DEADLINE

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine

FACTS = """
cat /proc/self/uid_map /proc/self/limits
sed -n 's/^\\(CapBnd\\|NoNewPrivs\\|Seccomp\\):.//p' /proc/self/status
hostname
"""


def steps(confinement: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [step for step in confinement["steps"] if step["step"] == name]


@pytest.mark.parametrize("anonymous", [True, False])
def test_what_is_on_is_what_the_kernel_says(engine: Engine, name: str, anonymous: bool) -> None:
    """Capabilities, limits, the filter, the ids: of the last cell, for anonymous containers and for named ones."""
    result = nbcontainer.run(
        "busybox",
        script=FACTS,
        engine=engine,
        name="" if anonymous else name,
        hostname="kept-in",
        cap_drop=["MKNOD"],
        ulimits={"nofile": "77:88"},
        env={"TOKEN": "secret"},
    )
    shown = result.container.as_dict() if anonymous else containers.get(engine, name).as_dict()
    confinement = shown["confinement"]
    lines = result.text.splitlines()
    uids = confinement["user_namespace"]["uids"]
    assert [int(line.split()[2]) for line in lines[: len(uids)]] == [one["count"] for one in uids]
    bounding, no_new_privs, seccomp, hostname = lines[-4:]
    kept = steps(confinement, "DropBounding")[-1]["keep"]
    assert "MKNOD" not in kept
    assert int(bounding, 16) == capability_mask(kept)
    assert no_new_privs == str(len(steps(confinement, "NoNewPrivileges")))
    assert seccomp == "2"
    assert len(steps(confinement, "InstallSeccomp")) == 1
    assert steps(confinement, "SetHostname")[0]["name"] == hostname == "kept-in"
    assert ["nofile", 77, 88] in [list(one) for one in steps(confinement, "SetLimits")[0]["limits"]]
    assert "TOKEN" in steps(confinement, "Execute")[0]["env"]
    assert "secret" not in json.dumps(shown)


def test_each_cell_has_its_outcome(engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ended it, times and memory: of every cell, in Python and in what is written down."""
    monkeypatch.setattr("nbcontainer.sandbox.supervisor.GRACE", DEADLINE)
    before = nbcontainer.run(
        "busybox", script="head -c 20m /dev/zero | tail -c 19m >/dev/null", engine=engine, name=name
    )
    after = nbcontainer.run(script="sleep 60", engine=engine, name=name, timeout=0.2, check=False)
    first, second = (cell["outcome"] for cell in containers.get(engine, name).as_dict()["cells"])
    assert [first, second] == [before.outcome.as_dict(), after.outcome.as_dict()]
    assert first["peak_memory"] > 19 << 20
    assert first["cpu_time"] > 0
    assert (second["reason"], second["exit_code"]) == ("timeout", 143)
    assert second["wall_time"] >= 0.2


def test_of_one_that_runs(engine: Engine, name: str) -> None:
    """While a cell runs, its confinement is there for every process of this user to see."""
    seen: list[dict[str, Any]] = []

    def look(_: bytes) -> None:
        seen.append(containers.get(engine, name).as_dict()["running"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nbcontainer.run("busybox", script="echo up; sleep 60", engine=engine, name=name, stdout=look)
    assert steps(seen[0]["confinement"], "NoNewPrivileges")


@pytest.mark.parametrize("anonymous", [True, False])
def test_labels_are_shown_and_are_those_of_a_commit(engine: Engine, name: str, anonymous: bool) -> None:
    """`inspect` shows a container's labels, and the image of a commit has them beside the base image's own."""
    labels = {"stage": "test", "empty": ""}
    kept = "" if anonymous else name
    container = nbcontainer.run("busybox", script="echo > /x", engine=engine, name=kept, labels=labels).container
    assert container.as_dict()["labels"] == labels
    assert containers.get(engine, container.name).as_dict()["labels"] == labels
    image = nbcontainer.commit(container, f"{name}:labelled", changes=["LABEL stage=changed"])
    assert image.config.labels == {**labels, "stage": "changed"}


def test_labels_are_for_a_new_container(engine: Engine, name: str) -> None:
    """A container that exists keeps its labels: others are refused, in one line."""
    nbcontainer.run("busybox", ["true"], engine=engine, name=name, labels=["a=b"])
    with pytest.raises(UsageError, match=f"container '{name}' exists, and keeps its labels; remove --label"):
        nbcontainer.run("busybox", ["true"], engine=engine, name=name, labels=["a=c"])
    nbcontainer.run("busybox", ["true"], engine=engine, name=name, labels=["a=b"])  # the same cell again
