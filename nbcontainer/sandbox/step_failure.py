"""What is said of a step that failed: the values that `nbcontainer.sandbox.launcher.failures` makes an error of."""

from __future__ import annotations

import os
from typing import Any


class FailedStep(Exception):
    """A step that failed, and what there is to say of it: by another process, or about another step's subject."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(failure["error"])
        self.failure = failure


def failure_in(step: object, error: Exception) -> dict[str, Any]:
    """Return what there is to say of a step that failed."""
    return failure_of(type(step).__name__, error)


def failure_of(step: str, error: Exception) -> dict[str, Any]:
    """Return what there is to say of a failure in the step of that name."""
    if isinstance(error, FailedStep):
        return error.failure
    if not isinstance(error, OSError):
        return {"step": step, "errno": 0, "error": str(error) or type(error).__name__, "path": ""}
    return {
        "step": step,
        "errno": error.errno or 0,
        "error": error.strerror or str(error),
        "path": path_of(error),
    }


def path_of(error: OSError) -> str:
    """Return the path that an error is about; empty if it has none."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
