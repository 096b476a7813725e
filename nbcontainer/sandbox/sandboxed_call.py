"""Running a function of this package in a sandbox that sees one directory, or one view of layers, and nothing else."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from nbcontainer import errors
from nbcontainer.errors import NbcontainerError, SandboxError
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.spec import Spec, Work
from nbcontainer.sandbox.steps.program import CallFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Directory, Overlay
    from nbcontainer.sandbox.steps.base import Plan


def call(
    launcher: Launcher,
    function: Callable[..., Any],
    root: Directory | Overlay,
    files: Sequence[int] = (),
    *,
    progress: Callable[[int], None] | None = None,
    **arguments: Any,
) -> Any:
    """Run `function(files, progress, **arguments)` with `root` as its root directory; return what it returns.

    The function is one at the top of a module that the launcher has loaded ahead, its arguments and its result are
    JSON values, and the descriptors in `files` are all it has from outside. What it raises of this package's errors,
    or as `OSError`, is raised here. An exception here (an interrupt) ends it at once.
    """
    work = Work(function.__module__, function.__name__, json.dumps(arguments))
    steps = plan.PlanTemplate(Spec(work), launcher.idmap, launcher.proc).on(root)
    return perform(launcher, steps, files, progress=progress)


def perform(
    launcher: Launcher,
    steps: Plan,
    files: Sequence[int] = (),
    *,
    progress: Callable[[int], None] | None = None,
    before: Callable[[ContainerHandle], None] | None = None,
) -> Any:
    """Run a plan that ends in a `CallFunction`, and return what the function returns; see `call`.

    `before` is as in `Launcher.submit`.
    """
    last = steps.enter[-1]
    assert isinstance(last, CallFunction)
    with launcher.submit(steps, files, before=before) as running:
        try:
            _follow(running, progress)
        except BaseException:
            running.kill()
            running.wait()
            raise
        return answer_of(running, last.function)


def _follow(running: ContainerHandle, progress: Callable[[int], None] | None) -> None:
    seen = -1
    while running.read():
        if progress is not None and running.progress != seen:
            seen = running.progress
            progress(seen)
    running.wait()


def answer_of(running: ContainerHandle, name: str) -> Any:
    """Return what the function of that name returned in a sandbox that has ended. Raises what it raised."""
    if running.failed is not None:
        raise setup_failed(running.failed)
    answer = running.answer
    if answer is None:
        raise SandboxError(f"{name} ended without an answer", hint="it may have run out of memory: try again")
    if "result" in answer:
        return answer["result"]
    if "raised" in answer:
        raise _error_named(answer["raised"])(str(answer["message"]), hint=str(answer["hint"]))
    code = int(answer["errno"])
    raise OSError(code, str(answer["error"]) or os.strerror(code), str(answer["path"]) or None)


def _error_named(name: str) -> type[NbcontainerError]:
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, NbcontainerError):
        return found
    return NbcontainerError
