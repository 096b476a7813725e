"""`--untrusted`: the safe settings, for code that you have not read, and the options that contradict them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.errors import UsageError
from nbcontainer.sandbox.cgroups.group import UNLIMITED
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.spec import Tmpfs

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMORY, PROCESSES, STORAGE, SECONDS = 1 << 30, 256, 256 << 20, 60.0
"""The limits, unless the run has its own: bytes, a number, bytes, seconds."""

SCRATCH = "/tmp"
"""The directory (container) that can be written. It is memory, and counts to the storage."""

_CONTRADICTIONS = {
    "here": "--here",
    "identity": "--identity",
    "publish": "-p",
    "cache_dirs": "--cache-dir",
    "userns": "--userns",
    "cap_add": "--cap-add",
}
"""The flags of options that give the run something of the host, by their keywords."""


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an untrusted run's options by keyword: those given, and the safe ones for the others.

    Raises `UsageError` for an option that contradicts them.
    """
    _check(values)
    given = dict(values)
    storage = given.setdefault("storage", STORAGE) or STORAGE
    tmpfs = given.get("tmpfs", ())
    if SCRATCH not in {one.target for one in (*tmpfs, *given.get("mounts", ()))}:
        tmpfs = (*tmpfs, Tmpfs(SCRATCH, storage))
    defaults = {"memory": MEMORY, "pids_limit": PROCESSES, "timeout": SECONDS}
    return {
        **given,
        **{name: value for name, value in defaults.items() if given.get(name) is None},
        "storage": storage,
        "tmpfs": tmpfs,
        "network": Network.NONE,
        "read_only": True,
        "cap_drop": ("ALL",),
    }


def _check(values: Mapping[str, Any]) -> None:
    for keyword, flag in _CONTRADICTIONS.items():
        if values.get(keyword):
            raise contradiction(flag)
    if values.get("network", Network.NONE) != Network.NONE:
        raise contradiction(f"--network {values['network']}")
    if values.get("volumes"):
        raise contradiction("-v")
    if any(not isinstance(one, Tmpfs) for one in values.get("mounts", ())):
        raise contradiction("--mount with a volume")
    if values.get("pids_limit") == UNLIMITED:
        raise contradiction("--pids-limit -1")
    if values.get("memory_swap") == UNLIMITED:
        raise contradiction("--memory-swap -1")


def contradiction(flag: str) -> UsageError:
    """Return the error for an option that an untrusted run cannot have."""
    return UsageError(f"--untrusted cannot be combined with {flag}", hint=f"remove {flag}, or --untrusted")
