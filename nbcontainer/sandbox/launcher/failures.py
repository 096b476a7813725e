"""From what init says of a failed step to the error a person reads."""

from __future__ import annotations

import os
from typing import Any

from nbcontainer.errors import LauncherError, SetupFailed
from nbcontainer.sandbox.diagnosis import Machine, map_advice, namespace_advice
from nbcontainer.sandbox.plan import step_class
from nbcontainer.sandbox.steps.base import advice_for

_WORDS = {
    "CloneInit": "make namespaces",
    "NewSessionKeyring": "make a session keyring",
    "SlaveMounts": "set the propagation of mounts",
    "StoreAsHost": "map the owners of the store's files",
    "MountStage": "mount the stage",
    "MountProc": "mount /proc",
    "MountSys": "mount /sys",
    "MountDev": "mount /dev",
    "BindDevice": "bind a device",
    "MountDevDirectory": "mount a part of /dev",
    "ReadOnlyPaths": "make a part of /proc read-only",
    "MaskPaths": "hide a part of /proc or /sys",
    "RaiseLoopback": "set the loopback interface up",
    "AddAddress": "give the container an IPv6 address",
    "DropBounding": "cut the bounding set of capabilities",
    "ShowHost": "show this machine's files",
    "MountOverlay": "mount the overlay",
    "BindRoot": "bind the root",
    "AttachStaged": "attach a mount",
    "SetHostname": "set the host name",
    "ReserveScript": "reserve a file for the cell's body",
    "WriteAptConfig": "write settings for apt",
    "WriteScript": "write the cell's body",
    "OpenTerminal": "open a terminal",
    "MakeControlDirectory": "make the directory that the notebook and the program talk through",
    "BindResolver": "bind the host's resolv.conf",
    "MakeResolver": "make the container's resolv.conf",
    "BindVolume": "mount the volume",
    "MountTmpfs": "mount a tmpfs",
    "MakeWorkdir": "enter the working directory",
    "ReadOnlyRoot": "make the root read-only",
    "ImportModule": "load the module",
    "PivotRoot": "switch the root",
    "HardenInit": "close init to the container",
    "NewSession": "begin a session",
    "SetLimits": "set the limits of its processes",
    "ConnectStreams": "connect the streams",
    "CloseDescriptors": "close the descriptors",
    "SetUser": "become the user",
    "DropCapabilities": "drop the capabilities",
    "NoNewPrivileges": "forbid new privileges",
    "InstallSeccomp": "install the filter of system calls",
    "Execute": "run",
    "CallFunction": "call a function of this package",
}
"""What each class of step was about to do, after `cannot`."""


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
    what = _WORDS.get(name, f"apply {name}")
    message = f"cannot {what}" + (f" at {path}" if path and name != "Execute" else f" {path}" if path else "")
    try:
        hint = advice_for(step_class(name), code, machine)
    except KeyError:
        hint = ""
    reason = error.rpartition(": ")[2] if code and os.strerror(code) in error else error
    return SetupFailed(f"{message}: {reason}", step=name, errno=code, path=path, hint=hint)


def _in_one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)
