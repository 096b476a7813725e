"""Builds the compiled init into a platform wheel, where a C compiler is available; else the wheel is for any machine.

NBCONTAINER_WHEEL chooses: `any` leaves it out; `x86_64` or `aarch64` must have it. CC is the compiler, with arguments:
for another machine, `CC="python -m ziglang cc -target aarch64-linux-musl"` needs no compiler of the system.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TAG = "py3-none-manylinux2014_{0}.musllinux_1_1_{0}"
"""The program depends on nothing of the host but the kernel."""


class CompiledInit(BuildHookInterface):
    """Adds the program to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the program; raise what prevents that only if it must be there."""
        wanted = os.environ.get("NBCONTAINER_WHEEL", "")
        if version == "editable" or wanted == "any":
            return
        sys.path.insert(0, self.root)
        from nbcontainer.sandbox.helper import building, program

        machine = wanted or program.machine()
        try:
            content = building.compiled(self._compiler(program, machine))
        except program.Unavailable:
            if wanted:
                raise
            return
        made = Path(self.directory) / program.name(machine)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(content)
        self._made = made
        build_data["force_include"][str(made)] = f"nbcontainer/sandbox/helper/{made.name}"
        build_data["tag"] = _TAG.format(machine)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the program from the directory of wheels."""
        if (made := getattr(self, "_made", None)) is not None:
            made.unlink()

    def _compiler(self, program: Any, machine: str) -> list[str]:
        given = shlex.split(os.environ.get("CC", ""))
        if machine not in program.MACHINES:
            raise program.Unavailable(f"it is not available for {machine}")
        if not given and machine != program.machine():
            raise program.Unavailable(f"set CC to a compiler for {machine}")
        if not given and shutil.which("cc") is None:
            raise program.Unavailable("no C compiler is available")
        return given or ["cc"]
