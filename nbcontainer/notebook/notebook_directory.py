"""The notebook's directory in the container of a kernel: at the same path, and as the working directory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_core.paths import jupyter_runtime_dir

from nbcontainer.containers.mounts import notebook_directory
from nbcontainer.errors import DirectoryRefused, UsageError

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.sandbox.spec import Volume
    from nbcontainer.store.layout import Store

_SHOWN = ("ro", "rw")
_HIDDEN = ("", "none")


def with_notebooks(store: Store, request: Request, notebooks: str, directory: str = ".") -> tuple[Request, str]:
    """Return the request of a kernel that shows its notebook's `directory` (host), and a notice for the user.

    `notebooks` is a value of `--notebooks`, empty for none. If the directory is refused, the request stays as it is,
    and the notice gives the reason and what to do; else it is empty. Raises `UsageError` for an unknown value.
    """
    if notebooks not in (*_SHOWN, *_HIDDEN):
        raise UsageError(f"invalid value for `notebooks`: {notebooks!r}", hint="use rw, ro or none")
    if notebooks in _HIDDEN:
        return request, ""
    try:
        volume = notebook_directory(store, directory, read_only=notebooks == "ro")
        _check_runtime(volume)
    except DirectoryRefused as error:
        return request, f"the kernel runs without the notebook's directory: {error.notice}"
    options = request.options
    mounts, process = options.mounts, options.process
    if not any(one.target == volume.target for one in mounts.volumes):  # the user's own volume
        mounts = replace(mounts, volumes=(volume, *mounts.volumes))
    process = process if process.workdir else replace(process, workdir=volume.target)
    return replace(request, options=replace(options, mounts=mounts, process=process)), ""


def _check_runtime(volume: Volume) -> None:
    """Raise `DirectoryRefused` if Jupyter's connection files are in the directory: their keys start code outside."""
    runtime = os.path.realpath(jupyter_runtime_dir())
    if Path(runtime).is_relative_to(volume.target):
        reason = f"the notebook's directory {volume.target} contains Jupyter's connection files ({runtime})"
        raise DirectoryRefused(reason, hint=f"move it to a subdirectory, or write -v {volume.target}:{volume.target}")
