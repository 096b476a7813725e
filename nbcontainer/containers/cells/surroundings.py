"""What a run takes of this machine beside its volumes.

That is the notebook's directory, the user's identity for git, and in the image `host` with a private network the
notebook's proxies and certificates. An untrusted run takes the limits that this machine can enforce.

The options of a run only say that it takes them. They are looked up when the run begins.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.mounts import notebook_directory
from nbcontainer.errors import DirectoryRefused
from nbcontainer.images.builtin.host_variables import network_variables
from nbcontainer.linux.paths import resolve
from nbcontainer.oci.reference import HOST
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.cgroups.group import GroupLimits
from nbcontainer.sandbox.defaults import PROCESSES, Limit
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.spec import CopyOnWrite, Volume
from nbcontainer.sandbox.steps.exchange.toolbox import TOOLBOX
from nbcontainer.sandbox.steps.program import GIT_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.options import Identity, RunOptions
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.images.library import Images
    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store


PASSED = "this cell has the notebook's "
"""The begin of the notice that names variables of the notebook."""

STAYED = "stayed outside, with "
"""In a notice: variables of the notebook that the container does not have, and why."""

_BUNDLE_LIMIT = 4 << 20  # bytes; the certificates of all known authorities are 200 kB


def surrounded(workspace: Workspace, request: Request, image: Image, streams: Streams) -> Request:
    """Return the request with what its options take of this machine. Notices go to `streams`.

    Raises `UsageError`, and for `--toolbox` what `Images.find` raises.
    """
    options, store = request.options, workspace.store
    connected = image.name == HOST and options.networking.network == Network.PRIVATE
    if options.toolbox:
        request = with_toolbox(workspace.images, request, image)
        options = request.options
    if not options.here and options.identity is None and not connected and not options.untrusted:
        return request
    if options.here:
        options = with_directory(store, options, streams)
    if options.identity is not None:
        options = with_identity(options, options.identity, streams)
    if connected:
        options = with_network(store, options, streams)
    if options.untrusted:
        options = with_limits(options, streams)
    return replace(request, options=options)


_PICK = 'for shell in {shells}; do "$shell" -c : 2>/dev/null && exec "$shell" "$@"; done; exec {toolbox}/bin/sh "$@"'
"""Runs the first shell of the image that works, else busybox's."""

_TOOLS = tuple(f"{TOOLBOX}/{name}" for name in ("bin", "sbin", "usr/bin", "usr/sbin"))


def shell_of(*shells: str) -> tuple[str, ...]:
    """Return the command for the first of these shells (container paths) that works, else for the toolbox's."""
    return (f"{TOOLBOX}/bin/sh", "-c", _PICK.format(shells=" ".join(shells), toolbox=TOOLBOX), "sh")


def with_toolbox(images: Images, request: Request, image: Image) -> Request:
    """Return a request with the programs of the image `busybox` (`--toolbox`). Raises what `Images.find` raises.

    They come last in PATH. Without a command or a script, the request runs a shell; a script runs in the image's shell,
    or in busybox's if that one does not work. The image's entrypoint is not used, unless the request has one.
    """
    options = request.options
    layers = tuple(f"{layer}/diff" for layer in images.lowers(images.find("busybox"))[::-1])
    process = replace(options.process, last_path=_TOOLS)
    if request.script is None or request.command:
        if process.entrypoint is None:
            process = replace(process, entrypoint="")
        if not request.command and not process.entrypoint:
            request = replace(request, command=shell_of("/bin/bash", "/bin/sh"))
    elif not (request.interpreter or request.script.startswith("#!") or image.config.shell):
        request = replace(request, interpreter=shell_of("/bin/sh"))
    return replace(request, options=replace(options, process=process, mounts=replace(options.mounts, tools=layers)))


_ADDRESSES = 4
"""How many times its memory limit an untrusted process may reserve: programs reserve more than they use."""


def with_limits(options: RunOptions, streams: Streams) -> RunOptions:
    """Return an untrusted run's options with limits that this host enforces, and a home directory that can be written.

    Without control groups, the limits are those of each process (setrlimit(2)). A notice says so.
    """
    resources, process = options.resources, options.process
    process = replace(process, unset_env=(*process.unset_env, "HOME=/tmp"))
    together = resources.cgroup_limits
    machine = Machine()
    groups = hierarchy.look(machine)
    if not groups.parents(together.controllers, hierarchy.can_make_group):
        memory, pids = together.memory or 0, together.pids or 0
        asked = (Limit("data", memory, memory), Limit("as", _ADDRESSES * memory, _ADDRESSES * memory))
        limits = (*asked, Limit(PROCESSES, pids, pids), *resources.ulimits)
        resources = replace(resources, cgroup_limits=GroupLimits(), ulimits=limits)
        advice = hierarchy.advice(machine, groups, groups.usable(hierarchy.can_make_group))
        streams.notify(f"the limit of memory is that of each process, without control groups; {advice}")
    return replace(options, resources=resources, process=process)


def with_network(store: Store, options: RunOptions, streams: Streams) -> RunOptions:
    """Return options with the notebook's proxies and certificates, as far as the container can use them.

    A file of certificates that `host` does not show is mounted read-only. A variable of the same name in the options
    comes first.
    """
    own = {item.partition("=")[0] for item in options.process.env}
    found = network_variables(store.path)
    variables, lacking = dict(found.proxies), []
    volumes: list[Volume] = []
    for name in sorted(found.bundles.keys() - own):
        path = found.bundles[name]
        volume = _certificates(path) if name in found.hidden else None
        if volume is None and name in found.hidden:
            lacking.append(name)
            continue
        variables[name] = path
        if volume is not None and volume.target not in {one.target for one in (*options.mounts.volumes, *volumes)}:
            volumes.append(volume)
    passed = {name: value for name, value in variables.items() if name not in own and "\0" not in value}
    for text in _about_network(passed, tuple(name for name in found.loopback if name not in own), lacking):
        streams.notify(text)
    process, mounts = options.process, options.mounts
    unset = (*process.unset_env, *(f"{name}={value}" for name, value in passed.items()))
    return replace(
        options,
        process=replace(process, unset_env=unset),
        mounts=replace(mounts, volumes=(*mounts.volumes, *volumes)),
    )


def _about_network(passed: Iterable[str], loopback: Sequence[str], lacking: Sequence[str]) -> Iterator[str]:
    """Yield one line if variables are passed on or left out: which, and why."""
    parts = [f"{PASSED}{_listed(passed)}"] if passed else []
    if loopback:
        parts.append(
            f"{_listed(loopback)} {STAYED}an address on the host's loopback, which only `--network host` reaches"
        )
    if lacking:
        parts.append(
            f"{_listed(lacking)} {STAYED}a path that the image host does not show: copy the file of "
            "certificates to a directory that all users can read"
        )
    if parts:
        yield "; ".join(parts)


def _listed(names: Iterable[str]) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} and {last}" if first else last


def _certificates(path: str) -> Volume | None:
    """Return the read-only volume of a file of certificates at its path (host); None if it is anything else.

    A file with a private key is not shown.
    """
    if not path.startswith("/"):
        return None
    try:
        with resolve(path) as place:
            if not stat.S_ISREG(place.mode):
                return None
            with os.fdopen(place.open(os.O_RDONLY), "rb") as file:
                data = file.read(_BUNDLE_LIMIT + 1)
            node = place.node
            if len(data) > _BUNDLE_LIMIT or b"-----BEGIN CERT" not in data or b"PRIVATE KEY" in data:
                return None
            return Volume(
                node.path,
                os.path.normpath(path),
                directory=False,
                read_only=True,
                device=node.device,
                inode=node.inode,
                links=place.links,
                born=node.born,
            )
    except OSError:
        return None


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
            volume = replace(volume, cow=CopyOnWrite()) if options.here == "cow" else volume
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
