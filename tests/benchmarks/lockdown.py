"""What it costs a cell to be kept in: cells with `true`, with the lockdown's steps in their plans and without.

    python -m tests.benchmarks.lockdown [--rounds 200] [--pause 0.02]

A container is made ahead as a rule, so that most of it costs no cell anything; cells whose container is made when they
come are measured, too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.engine import Engine
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.steps.devices import MaskPaths, ReadOnlyPaths
from nbcontainer.sandbox.steps.namespaces import NewSession, NewSessionKeyring
from nbcontainer.sandbox.steps.rights.capabilities import DropBounding, DropCapabilities, HardenInit, NoNewPrivileges
from nbcontainer.sandbox.steps.rights.rlimits import SetLimits
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from tests.benchmarks.measuring import Subject, interleave, machine, report
from tests.running import run_script

if TYPE_CHECKING:
    from nbcontainer.containers.warm.warm_pool import WarmContainer
    from nbcontainer.sandbox.cgroups.group import GroupLimits
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Directory, Overlay
    from nbcontainer.sandbox.steps.base import Plan, Step

LOCKDOWN: tuple[type[Step], ...] = (
    NewSessionKeyring,
    MaskPaths,
    ReadOnlyPaths,
    SetLimits,
    HardenInit,
    NewSession,
    DropBounding,
    DropCapabilities,
    NoNewPrivileges,
    InstallSeccomp,
)


class _Without(Engine):
    """An engine that leaves steps out of its cells' plans."""

    left_out: tuple[type[Step], ...] = ()
    foresees = True

    def allocate(
        self,
        launcher: Launcher,
        lowers: tuple[str, ...],
        template: PlanTemplate,
        limits: GroupLimits,
        storage: int | None = None,
        *,
        afresh: bool = False,
    ) -> WarmContainer:
        """The same with less to do."""
        return super().allocate(launcher, lowers, self._less(template), limits, storage, afresh=afresh)

    def prewarm(self, lowers: tuple[str, ...], limits: GroupLimits, template: PlanTemplate) -> None:
        """The same with less to do, or nothing."""
        if self.foresees:
            super().prewarm(lowers, limits, self._less(template))

    def _less(self, template: PlanTemplate) -> PlanTemplate:
        return _Less(template.spec, template.idmap, template.proc, self.left_out)


@dataclasses.dataclass(frozen=True)
class _Less(PlanTemplate):
    """A template that leaves steps out."""

    left_out: tuple[type[Step], ...] = ()

    def on(self, root: Overlay | Directory, name: str = "") -> Plan:
        """The plan without them."""
        whole = super().on(root, name)
        parts: dict[str, Any] = {
            part: tuple(step for step in getattr(whole, part) if not isinstance(step, self.left_out))
            for part in ("prepare", "setup", "enter")
        }
        return dataclasses.replace(whole, **parts)


def main() -> None:
    """Prints a table of cells whose containers wait, and one of cells whose containers do not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds before each run (default: %(default)s)")
    options = parser.parse_args()
    print(machine())
    for foresees, which in ((True, "made ahead"), (False, "made when the cell comes")):
        with contextlib.ExitStack() as stack:
            subjects = [
                _subject(stack, "as it is", (), foresees=foresees),
                _subject(stack, "without the lockdown", LOCKDOWN, foresees=foresees),
                _subject(stack, "without the filter", (InstallSeccomp,), foresees=foresees),
                _subject(stack, "without masks", (MaskPaths, ReadOnlyPaths), foresees=foresees),
            ]
            print(f"\n`true` in a container that is {which}, {options.rounds} rounds, taking turns:\n")
            print(report(interleave(subjects, options.rounds, options.pause), "as it is", "as it is"))


def _subject(stack: contextlib.ExitStack, name: str, steps: tuple[type[Step], ...], *, foresees: bool) -> Subject:
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbcontainer-bench-")))
    engine = stack.enter_context(contextlib.closing(_Without(place / "store")))
    engine.left_out, engine.foresees = steps, foresees

    def run() -> None:
        assert run_script(engine, "true").outcome.ok

    return Subject(name, run, before=engine.background.wait)


if __name__ == "__main__":
    main()
