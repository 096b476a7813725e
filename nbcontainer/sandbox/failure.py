"""From what init says of a failed step to the error a person reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import SetupFailed
from nbcontainer.sandbox.plan import step_class
from nbcontainer.sandbox.steps import advice_for

if TYPE_CHECKING:
    from nbcontainer.sandbox.machine import Machine

_WORDS = {
    "CloneInit": "make namespaces",
    "NewSessionKeyring": "make a session keyring",
    "SlaveMounts": "set the propagation of mounts",
    "MountStage": "mount the stage",
    "MountOverlay": "mount the overlay",
    "BindRoot": "bind the root",
    "BindVolume": "mount the volume",
    "MountTmpfs": "mount a tmpfs",
    "MountProc": "mount /proc",
    "MountSys": "mount /sys",
    "MountDev": "mount /dev",
    "BindDevice": "bind a device",
    "MountDevDirectory": "mount a part of /dev",
    "RaiseLoopback": "set the loopback interface up",
    "AttachStaged": "attach a mount",
    "PivotRoot": "switch the root",
    "SetUser": "become the user",
    "SetLimits": "set the limits of its processes",
    "InstallSeccomp": "install the filter of system calls",
    "Execute": "run",
    "WriteScript": "write the cell's body",
    "MakeWorkdir": "enter the working directory",
}


def setup_failed(failed: dict[str, Any], machine: Machine | None = None) -> SetupFailed:
    """The error for init's report `{step, errno, error, path}`; nothing of it is trusted but as text.

    `machine` is the one it happened on, this one by default.
    """
    name, code = str(failed.get("step", "")), int(failed.get("errno") or 0)
    error, path = str(failed.get("error", "")), str(failed.get("path", ""))
    what = _WORDS.get(name, f"apply {name}")
    message = f"cannot {what}" + (f" at {path}" if path and name != "Execute" else f" {path}" if path else "")
    try:
        hint = advice_for(step_class(name), code, machine)
    except KeyError:
        hint = ""
    reason = error.rpartition(": ")[2] if code and os.strerror(code) in error else error
    return SetupFailed(f"{message}: {reason}", step=name, errno=code, path=path, hint=hint)
