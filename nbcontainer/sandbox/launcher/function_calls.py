"""Calling a function of this package in a sandbox, and its answer as JSON values."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import NbcontainerError
from nbcontainer.sandbox.step_failure import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.steps.program import CallFunction


def answer(call: CallFunction, files: Sequence[int], progress: Callable[[int], None]) -> dict[str, Any]:
    """Return what a function returns, or the error that it raises. Its module has been loaded before."""
    function = getattr(sys.modules[call.module], call.function)
    try:
        return {"result": function(files, progress, **json.loads(call.arguments))}
    except NbcontainerError as error:
        return {"raised": type(error).__name__, "message": error.message, "hint": error.hint}
    except OSError as error:
        return {"errno": error.errno or 0, "error": error.strerror or str(error), "path": path_of(error)}
    except Exception as error:  # else the notebook could only say that there was no answer
        problem = " ".join(f"{call.function} failed: {type(error).__name__}: {error}".split())
        hint = "free some memory, or raise -m" if isinstance(error, MemoryError) else "please report it as a bug"
        return {"raised": "SandboxError", "message": problem, "hint": hint}
