"""From what init says of a failed step to the error a person reads."""

from __future__ import annotations

import os
from typing import Any

from nbcontainer.errors import LauncherError, SetupFailed
from nbcontainer.sandbox.diagnosis import Machine, map_advice, namespace_advice
from nbcontainer.sandbox.steps.base import Step, advice_for


def launcher_failed(failed: dict[str, Any], machine: Machine | None = None) -> LauncherError:
    """The error for the launcher's report `{failed, errno, map}` that it cannot start; `map` says what was refused."""
    hint = ""
    if "errno" in failed:
        advise = map_advice if failed.get("map") else namespace_advice
        hint = advise(machine or Machine(), int(failed["errno"]))
    return LauncherError(f"cannot start the container launcher: {failed['failed']}", hint=hint)


def setup_failed(failed: dict[str, Any], machine: Machine | None = None) -> SetupFailed:
    """The error for init's report `{step, errno, error, path}`; nothing of it is trusted but as text.

    `machine` is the one it happened on, this one by default.
    """
    name, code = str(failed.get("step", "")), int(failed.get("errno") or 0)
    error, path = str(failed.get("error", "")), _in_one_line(str(failed.get("path", "")))
    step = Step.by_name.get(name)
    what = f"apply {name}" if step is None or not step.phrase else step.phrase
    message = f"cannot {what}" + (f" at {path}" if path and name != "Execute" else f" {path}" if path else "")
    hint = "" if step is None else advice_for(step, code, machine)
    reason = error.rpartition(": ")[2] if code and os.strerror(code) in error else error
    return SetupFailed(f"{message}: {reason}", step=name, errno=code, path=path, hint=hint)


def _in_one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)
