"""What a run takes of this machine beside its volumes: the notebook's directory, and the user's identity for git.

The options of a run only say that it takes them. They are looked up when the run begins.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.mounts import notebook_directory
from nbcontainer.errors import DirectoryRefused
from nbcontainer.sandbox.steps.program import GIT_CONFIG

if TYPE_CHECKING:
    from nbcontainer.containers.cell import Request, Streams
    from nbcontainer.containers.options import Identity, RunOptions
    from nbcontainer.store.layout import Store


def surrounded(store: Store, request: Request, streams: Streams) -> Request:
    """Return the request with what its options take of this machine. Notices go to `streams`. Raises `UsageError`."""
    options = request.options
    if not options.here and options.identity is None:
        return request
    if options.here:
        options = with_directory(store, options, streams)
    if options.identity is not None:
        options = with_identity(options, options.identity, streams)
    return replace(request, options=options)


GIT_SYSTEM = f"GIT_CONFIG_SYSTEM={GIT_CONFIG}"
"""The variable that names git's system configuration (git 2.32)."""


def with_identity(options: RunOptions, identity: Identity, streams: Streams) -> RunOptions:
    """Return options that give git in the container the user's name and e-mail address."""
    if not (identity.name or identity.email):
        streams.notify("git has no identity here: `git config --global user.name NAME`, and user.email")
        return options
    process = options.process
    unset = (*process.unset_env, GIT_SYSTEM)
    return replace(options, process=replace(process, unset_env=unset, git_config=identity.as_git_config()))


def with_directory(store: Store, options: RunOptions, streams: Streams, directory: str = ".") -> RunOptions:
    """Return options that mount the notebook's `directory` (host) at the same path, and start there.

    A volume of the user's at that path takes its place. If the directory is refused, the run starts without it.
    """
    try:
        path, mounts = _plain(directory), options.mounts
        if not any(volume.target == path for volume in mounts.volumes):
            volume = notebook_directory(store, directory, read_only=options.here == "ro")
            path, mounts = volume.target, replace(mounts, volumes=(volume, *mounts.volumes))
    except DirectoryRefused as error:
        streams.notify(f"the notebook's directory is not shown: {error.notice}")
        return replace(options, here="")
    process = options.process
    started = process if process.workdir else replace(process, workdir=path)
    return replace(options, here="", mounts=mounts, process=started)


def _plain(directory: str) -> str:
    """Return the absolute path without links; empty if the directory does not exist."""
    try:
        return os.path.realpath(directory)
    except OSError:  # the working directory was removed
        return ""
