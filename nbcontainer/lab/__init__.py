"""A laboratory for the steps that make a container: apply them by hand, one by one, and look at the result.

>>> from nbcontainer import lab
>>> made = lab.sh("mkdir -p lower upper work merged; echo from the image > lower/file")
>>> lab.mount_overlay("lower", "upper", "work", "merged")
>>> lab.sh("cat merged/file; echo changed > merged/file; cat lower/file upper/file")
from the image
from the image
changed

Everything happens in a process in namespaces of its own, whose root is a tree that imitates a host, with planted
secrets in /home/alice/secret.txt. Paths are those in the laboratory; a relative path begins in its directory,
`lab.dir`. Nothing of this machine can be reached from there, and everything ends with the notebook, or with
`lab.reset()`.

`lab.run(without="PivotRoot")` runs the real plan of a container against that host, without one of its steps, and
`lab.attacks` are small programs that try what the steps prevent.

>>> lab.run("cat /home/alice/secret.txt", without="PivotRoot")
[without PivotRoot; exit status 0]
the-secret-of-the-host
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.engine import default_engine
from nbcontainer.errors import LaboratoryError
from nbcontainer.lab.agent import DIRECTORY
from nbcontainer.lab.attacks import ATTACKS, Attack
from nbcontainer.lab.exercises import Checked
from nbcontainer.lab.exercises import check as check_exercise
from nbcontainer.lab.laboratory import Laboratory, Shown, Trial
from nbcontainer.sandbox.steps.base import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.drawing.mount_tree import MountTree

__all__ = [
    "LaboratoryError",
    "attacks",
    "bind",
    "cd",
    "check",
    "dir",
    "draw",
    "mount",
    "mount_overlay",
    "mounts",
    "pivot_root",
    "plan",
    "propagation",
    "reset",
    "run",
    "sh",
    "umount",
]

dir = DIRECTORY  # noqa: A001 - the interface's name
"""The laboratory's own directory: a path in the laboratory, in memory."""

attacks = ATTACKS
"""Attacks by their names, for `run`: `lab.run(lab.attacks["read the host's files"], without="PivotRoot")`."""

_current: list[Laboratory] = []


def laboratory() -> Laboratory:
    """Return the laboratory of this process, on its default store."""
    engine = default_engine()
    if not _current or _current[0].engine is not engine:
        for old in _current:
            old.close()
        _current[:] = [Laboratory(engine)]
    return _current[0]


@atexit.register
def _close() -> None:
    for one in _current:
        one.close()


def mount_overlay(
    lower: str | Sequence[str], upper: str | None = None, work: str | None = None, merged: str = "merged"
) -> None:
    """Mount layers as one tree at `merged`: `lower` are read-only, the topmost first, and changes go to `upper`.

    Without `upper` the tree is read-only. Raises `LaboratoryError` (overlayfs.rst in the kernel's documentation).
    """
    if (upper is None) != (work is None):
        hint = "pass both, two directories of one file system; or none, for a tree that is read-only"
        raise LaboratoryError("upper and work belong together", call="mount_overlay", hint=hint)
    lowers = [lower] if isinstance(lower, str) else list(lower)
    paths = [*lowers, *(path for path in (upper, work) if path is not None), merged]
    laboratory().ask("mount_overlay", *paths, lower=lowers, upper=upper, work=work, merged=merged)


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = False) -> None:
    """Show a directory or file at a second place, as volumes do (MS_BIND, mount(2)). Raises `LaboratoryError`."""
    laboratory().ask("bind", source, target, source=source, target=target, read_only=read_only, recursive=recursive)


def mount(fstype: str, target: str, options: str | None = None) -> None:
    """Mount a file system that needs no device, as tmpfs or proc (mount(2)). Raises `LaboratoryError`."""
    laboratory().ask("mount", target, fstype=fstype, target=target, options=options)


def propagation(target: str, kind: str, *, recursive: bool = True) -> None:
    """Make a mount `private`, `shared` or `slave` (mount_namespaces(7)). Raises `LaboratoryError`."""
    if kind not in ("private", "shared", "slave"):
        hint = "write private, shared or slave"
        raise LaboratoryError(f"unknown propagation {kind!r}", call="propagation", hint=hint)
    laboratory().ask("propagation", target, target=target, kind=kind, recursive=recursive)


def umount(target: str, *, lazy: bool = False) -> None:
    """Unmount; with `lazy`, once nothing uses it any more (MNT_DETACH, umount(2)). Raises `LaboratoryError`."""
    laboratory().ask("umount", target, target=target, lazy=lazy)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root, and move the old one to `put_old`, below it (pivot_root(2)).

    Commands need a /bin/sh in the new root. Raises `LaboratoryError`, which names the condition that does not hold.
    """
    laboratory().ask("pivot_root", new_root, put_old, new_root=new_root, put_old=put_old)


def cd(path: str) -> str:
    """Change the working directory of the laboratory's process, and return it. Raises `LaboratoryError`."""
    return str(laboratory().ask("chdir", path, path=path))


def sh(script: str, *, timeout: float = 60.0) -> Shown:
    """Run a script by the laboratory's /bin/sh, as its root; return its output with its errors.

    After `timeout` seconds it is killed. Raises `LaboratoryError` if the shell is missing.
    """
    answer = laboratory().ask("sh", "/bin/sh", script=script, timeout=timeout)
    return Shown(str(answer["output"]), int(answer["status"]))


def check(name: str, answer: Any = None, *, language: str = "en") -> Checked:
    """Return whether an exercise of the course is done, or `answer` is right, with what is wrong and why.

    `language` is `en` or `zh`. Raises `LaboratoryError` for an unknown exercise.
    """
    return check_exercise(name, answer, language, sh)


def mounts(below: str = "") -> MountTree:
    """Return the mounts that the laboratory sees, or those at and below a path, as a drawing."""
    return laboratory().mounts(below)


def draw() -> MountTree:
    """Return a drawing of the mounts in the laboratory's own directory."""
    return laboratory().mounts(DIRECTORY)


def reset() -> None:
    """End the laboratory. The next call starts a new one: no mount, file or process of the old one is left."""
    laboratory().reset()


def plan(script: str = "true", **options: Any) -> Plan:
    """Return the plan of a container of busybox in the laboratory, for `run`. The options are those of a run."""
    return laboratory().plan(script, **options)


def run(
    what: str | Attack | Plan = "true",
    *,
    without: str | Sequence[str] = (),
    script: str = "true",
    timeout: float = 30.0,
    **options: Any,
) -> Trial:
    """Run the real plan of a container in the laboratory, without some of its steps.

    `what` is a script, an attack, or a plan that `plan` returned, whose program then runs `script`. `without` are names
    of steps, as `%container explain` shows them. The host that a missing step lets the program reach is the laboratory.
    Options about this machine, such as volumes, are refused. Raises `LaboratoryError` for these, and for a name that is
    not in the plan.
    """
    names = (without,) if isinstance(without, str) else tuple(without)
    if isinstance(what, Attack):
        options, script = {"user": what.user, **options}, what.script
    elif isinstance(what, str):
        script = what
    one = laboratory()
    steps = (
        what if isinstance(what, Plan) else one.plan(script, **{key: value for key, value in options.items() if value})
    )
    return one.run(steps, script, names, timeout)
