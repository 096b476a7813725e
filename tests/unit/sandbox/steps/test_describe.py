"""What steps say about themselves: one line in plain words, for any arguments of the right types."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import pytest

from nbcontainer.sandbox.defaults import DEFAULT_LIMITS
from nbcontainer.sandbox.networking import Network, Networking
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.spec import ControlDirectory, HostLower, Mounts, Overlay, Program, Spec, Tmpfs, Volume, Work
from nbcontainer.sandbox.steps.base import Step
from nbcontainer.sandbox.steps.network import AddAddress
from nbcontainer.sandbox.steps.overlay import GiveRoot, MountOverlay
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rights.rlimits import SetLimits
from nbcontainer.sandbox.steps.volumes import BindVolume, MountTmpfs
from nbcontainer.sandbox.userns.idmap import host_map, single_map

EVERY_STEP = sorted(name for name, step in Step.by_name.items() if step.__module__.startswith("nbcontainer."))

ODD = "a\nb'\x1b[2J"


_VALUES: dict[Any, list[Any]] = {
    str: [ODD, "", "name"],
    int: [-1, 0, 1 << 40],
    bool: [True, False],
    type(None): [None],
}


def values_of(kind: Any) -> list[Any]:
    """Return values of a field's type: odd ones, and the smallest."""
    if typing.get_origin(kind) is tuple:
        parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
        whole = [values_of(part) for part in parts]
        if Ellipsis in typing.get_args(kind):
            return [(), (whole[0][0], whole[0][-1])]
        return [tuple(options[0] for options in whole), tuple(options[-1] for options in whole)]
    if typing.get_args(kind):
        return [value for part in typing.get_args(kind) for value in values_of(part)]
    return _VALUES[kind]


@pytest.mark.parametrize("name", EVERY_STEP)
def test_a_step_describes_any_arguments_in_one_line(name: str) -> None:
    """No value of a field's type raises, breaks the line, or reaches a terminal."""
    step = Step.by_name[name]
    # The types of fields are built in ones; those of class variables are not there at run time.
    fields = {field.name: values_of(eval(str(field.type))) for field in dataclasses.fields(step)}  # type: ignore[arg-type]
    for index in range(max((len(values) for values in fields.values()), default=1)):
        arguments = {field: values[index % len(values)] for field, values in fields.items()}
        for given in (arguments, json.loads(json.dumps(arguments))):
            text = step.describe(given)
            assert text.isprintable(), text
            assert text[0].islower(), text


ROOT = Overlay(("a/diff", "b/diff"), "up", "work", host=HostLower("/", around=True))
PROGRAM = Program(("/bin/sh", "-c", "echo hi"), ("TOKEN=secret",), "/work", "alice", terminal=True)
SPECS = [
    (
        ROOT,
        Spec(
            PROGRAM,
            mounts=Mounts((Volume("/data", "/x", read_only=True),), (Tmpfs("/t", 1 << 20),), read_only=True),
            networking=Networking(Network.PRIVATE),
            resolver="nameserver 10.0.2.3\n",
            script=3,
            control_directory=ControlDirectory((("rc", 0o644, "x"),), ("in",), (("shown", 0o777),)),
        ),
    ),
    (ROOT, Spec(PROGRAM, networking=Networking(Network.HOST))),
    (Overlay(("a/diff",)), Spec(Work("module", "function", '{"key": "secret"}'))),
]


@pytest.mark.parametrize(("root", "spec"), SPECS)
@pytest.mark.parametrize("ids", [host_map(), single_map(1000, 1000)])
def test_every_step_of_a_plan_describes_itself(root: Overlay, spec: Spec, ids: Any) -> None:
    """A description needs only what `inspect` shows, and reveals no value of the environment."""
    for step in PlanTemplate(spec, ids).on(root):
        text = step.describe(step.shown())
        assert text.isprintable(), text
        assert "secret" not in text


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (BindVolume("/data", "/x", True, True), "mount the volume '/data' at '/x', read-only"),
        (BindVolume("/data", "/x", True, False), "mount the volume '/data' at '/x', writable"),
        (MountTmpfs("/t", 64 << 20), "mount a tmpfs of at most 64 MiB at '/t'"),
        (MountOverlay(("a", "b"), "up", "work"), "mount 2 layers at '/', with a writable layer on top"),
        (GiveRoot("a/diff", "u"), "give the root directory the owner that it has in layer 'a/diff'"),
        (MountOverlay(("a",)), "mount 1 layer at '/', read-only"),
        (Execute(("sh", "a b"), ("A=b",), "/"), "run 'sh a b' in '/'"),
        (AddAddress("eth0", "fd00::100", "fd00::2"), "'eth0' the IPv6 address 'fd00::100' and the gateway 'fd00::2'"),
        (SetLimits((DEFAULT_LIMITS[3],)), "limit each process: nofile 1024 (at most 524288)"),
    ],
)
def test_a_description_names_the_arguments(step: Step, text: str) -> None:
    """What is mounted, run or limited is in the line."""
    assert text in step.describe(step.shown())
