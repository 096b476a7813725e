"""Turns the reports of init and the launcher about failures into errors."""

from __future__ import annotations

import os
from typing import Any

from nbcontainer.errors import LauncherError, SetupFailed
from nbcontainer.sandbox.diagnosis import NESTED, Machine, map_advice, namespace_advice
from nbcontainer.sandbox.steps.base import Step, advice_for
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rootfs import MakeWorkdir

_NO_ADMIN = "remove --userns=host, or give the notebook the capability SYS_ADMIN"


def launcher_failed(failed: dict[str, Any], machine: Machine | None = None) -> LauncherError:
    """Return the error for the launcher's report `{failed, errno, map, kind}`.

    `map` is true if the id map was refused, `kind` is that of the map.
    """
    hint = ""
    machine = machine or Machine()
    if failed.get("kind") == "host" and not machine.capable("SYS_ADMIN"):
        hint = NESTED if machine.nested else _NO_ADMIN
    elif "errno" in failed:
        advise = map_advice if failed.get("map") else namespace_advice
        hint = advise(machine, int(failed["errno"]))
    return LauncherError(f"cannot start the container launcher: {failed['failed']}", hint=hint)


def setup_failed(failed: dict[str, Any], machine: Machine | None = None) -> SetupFailed:
    """Return the error for init's report `{step, errno, error, path}`; its values are used only as text and numbers.

    With `about`, the message and the hint are those of this other step, of whose subject the report is.
    `machine` is the one on which the step failed, this one by default.
    """
    name, code = str(failed.get("step", "")), int(failed.get("errno") or 0)
    error, path = str(failed.get("error", "")), _in_one_line(str(failed.get("path", "")))
    step = Step.by_name.get(str(failed.get("about", name)))
    what = step.phrase if step is not None and step.phrase else f"apply {name}"
    at = "" if step in (Execute, MakeWorkdir) else "at "
    message = f"cannot {what}" + (f" {at}{path}" if path else "")
    hint = "" if step is None else advice_for(step, code, machine)
    _, known, rest = error.rpartition(os.strerror(code)) if code else ("", "", error)
    return SetupFailed(f"{message}: {known}{rest}", step=name, errno=code, path=path, hint=hint)


def _in_one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)
