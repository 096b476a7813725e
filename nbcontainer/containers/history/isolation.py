"""The isolation of a container's last cell, in a file of its own: no cell waits for it, and no other cell needs it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox.steps.proc import MountProc
from nbcontainer.store.atomic_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nbcontainer.containers.history.state import StateId
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.sandbox.steps.base import Plan
    from nbcontainer.sandbox.userns.idmap import IdMap
    from nbcontainer.store.layout import Store

ISOLATION = "isolation.json"


def describe_confinement(todo: Plan, options: RunOptions, idmap: IdMap) -> dict[str, Any]:
    """Return the isolation of a cell as JSON values: user namespace, /proc, network, limits, and steps.

    The steps are those of the plan that ran, each with its purpose. A step that is not listed was not done.
    """
    return {
        "user_namespace": asdict(idmap),
        "proc": next((step.level for step in todo if isinstance(step, MountProc)), ""),
        "network": options.networking.network,
        "ports": [asdict(port) for port in options.networking.ports],
        "limits": {**asdict(options.resources.cgroup_limits), "storage": options.resources.storage},
        "steps": [{"step": type(step).__name__, "why": step.why, **step.shown()} for step in todo],
    }


def save(store: Store, place: Path, state: StateId, confinement: Mapping[str, Any]) -> None:
    """Write the isolation of the cell that led to `state` to the container's directory `place`. Raises nothing.

    It is not needed to use the container, so it need not survive a crash of the machine.
    """
    data = json.dumps({"state": str(state), "confinement": confinement}).encode()
    with contextlib.suppress(OSError):
        replace_file(place / ISOLATION, store.path / "tmp" / store.unique(), data, sync=False)


def read(place: Path, state: StateId | None) -> dict[str, Any] | None:
    """Return the isolation of the cell that led to `state`; None if it is not known."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        values = json.loads((place / ISOLATION).read_bytes())
        if state is not None and values["state"] == str(state) and isinstance(values["confinement"], dict):
            return dict(values["confinement"])
    return None
