"""The options of a run, apart from where it runs: the same for a cell, a terminal and Python.

`RunOptions` consists of values that check themselves as they are made. Those of the sandbox travel on as they are.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import stat
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.oci import signals
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.cgroups.group import GroupLimits
from nbcontainer.sandbox.defaults import DEFAULT_LIMITS, PROCESSES
from nbcontainer.sandbox.networking import Network, Networking
from nbcontainer.sandbox.spec import DEFAULT_PATH, FORWARDED, Mounts, Privileges, Userns
from nbcontainer.sandbox.steps.devices import SCRIPT
from nbcontainer.store import user_files, writable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nbcontainer.linux.paths import Link
    from nbcontainer.oci.documents import ImageConfig
    from nbcontainer.sandbox.defaults import Limit
    from nbcontainer.store.layout import Store


@dataclass(frozen=True)
class ProcessOptions:
    """What a run changes in the image's own process: `env` are NAME=value strings, `workdir` is a container path.

    A NAME without a value in `env` removes the image's variable. `groups` are groups beside the user's own, by name or
    number. `stop_signal` asks the program to end, 0 for the image's.

    `entrypoint` replaces the image's one, and its default command; empty for none, None to keep both. `links` are those
    that the paths of files of variables led through. `unset_env` are NAME=value strings for names that neither the
    image nor `env` sets. `git_config` is the text of git's system configuration, empty for the image's own.
    `terminal` and `terminal_input` are those of `nbcontainer.sandbox.spec.Program`. `last_path` are directories that
    come last in PATH.
    """

    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    terminal: bool = False
    entrypoint: str | None = None
    groups: tuple[str, ...] = ()
    stop_signal: int = 0
    links: tuple[Link, ...] = ()
    unset_env: tuple[str, ...] = ()
    git_config: str = ""
    terminal_input: bool = False
    last_path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for item in self.env:
            _check_variable(item)
        if "\0" in self.workdir:
            raise UsageError("the working directory contains a NUL character", hint="remove it")
        if self.workdir and not self.workdir.startswith("/"):
            hint = "write an absolute path, as in /srv"
            raise UsageError(f"the working directory '{self.workdir}' is not absolute", hint=hint)


@dataclass(frozen=True)
class Resources:
    """The limits of a run.

    `cgroup_limits` are those of all its processes together, `ulimits` those of each process. `shm_size` are the bytes
    of /dev/shm, None for the default. `storage` are the bytes that the run may write outside volumes, None for no
    limit.
    """

    cgroup_limits: GroupLimits = GroupLimits()
    ulimits: tuple[Limit, ...] = ()
    shm_size: int | None = None
    storage: int | None = None

    @cached_property
    def process_limits(self) -> tuple[Limit, ...]:
        """The limits of each process: the defaults, and in their place those of the run."""
        if not self.ulimits and self.cgroup_limits.pids is None:
            return DEFAULT_LIMITS
        asked = {limit.name: limit for limit in self.ulimits}
        kept = [limit for limit in DEFAULT_LIMITS if limit.name not in asked]
        if self.cgroup_limits.pids is not None:  # it takes the place of the default one
            kept = [limit for limit in kept if limit.name != PROCESSES]
        return (*kept, *asked.values())


@dataclass(frozen=True)
class ImageSelection:
    """How the image is found: `platform` and `pull` are those of `nbcontainer.images.library.find`."""

    platform: str = ""
    pull: str = "missing"


@dataclass(frozen=True)
class Identity:
    """A name and an e-mail address; empty for one that is not set."""

    name: str = ""
    email: str = ""

    def as_git_config(self) -> str:
        """Return the text of a configuration file for git, with /etc/gitconfig of the container included."""
        lines = ["[include]", "\tpath = /etc/gitconfig", "[user]"]
        lines += [f"\t{key} = {_quoted(value)}" for key, value in vars(self).items() if value]
        return "\n".join((*lines, ""))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True)
class StandardInput:
    """What a run reads: `data`, or the content of the host's file at `path`."""

    data: bytes = b""
    path: Path | None = None

    def open(self, store: Store | None) -> int:
        """Return a descriptor of it, which the caller closes. Without a store, a file's links are not checked.

        Raises `UsageError`, `LinkRefused`, and `OSError` for what this process lacks.
        """
        if self.path is None:
            return protocol.memory_file("stdin", self.data)
        try:
            found, links = user_files.open_file(self.path)
        except (OSError, ValueError, ImageError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            detail = error.message if isinstance(error, ImageError) else getattr(error, "strerror", None) or error
            hint = "write the path of a file, as in --stdin @answers.txt, or @@ for an @ in a text"
            raise UsageError(f"cannot read --stdin @{self.path}: {detail}", hint=hint) from None
        try:
            if stat.S_ISDIR(os.fstat(found).st_mode):
                raise UsageError(f"cannot read --stdin @{self.path}: it is a directory", hint="name a file")
            if store is not None:
                writable.check(store, links)
        except BaseException:
            os.close(found)
            raise
        return found


CACHE_MODES = ("", "on", "always", "off")
"""Whether a run is cached: not, if its result depends on what the key has alone, in any case, or not at all."""


@dataclass(frozen=True)
class RunOptions:
    """The options of one run.

    `hostname` is empty for the container's own name, `timeout` is in seconds. `labels` are names and values, for a
    container that the run creates. `here` shows the notebook's directory, `rw`, `ro` or `cow`; empty if it does not.
    `identity` gives git the user's name and e-mail address. `explain` notes what is done for the run.
    `untrusted` is for code that was not read: the other values are the safe ones then. `toolbox` adds the tools of the
    image `busybox` (`nbcontainer.containers.cells.surroundings.with_toolbox`). `cache` is one of `CACHE_MODES`.
    """

    selection: ImageSelection = ImageSelection()
    process: ProcessOptions = ProcessOptions()
    mounts: Mounts = Mounts()
    networking: Networking = Networking()
    privileges: Privileges = Privileges()
    resources: Resources = Resources()
    hostname: str = ""
    timeout: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    here: str = ""
    identity: Identity | None = None
    explain: bool = False
    untrusted: bool = False
    toolbox: bool = False
    cache: str = ""

    def __post_init__(self) -> None:
        if self.here not in ("", "ro", "rw", "cow"):
            hint = "write --here, --here=rw, --here=ro or --here=cow"
            raise UsageError(f"invalid value {self.here!r} for --here", hint=hint)
        if self.cache not in CACHE_MODES:
            raise UsageError(f"invalid value {self.cache!r} for --cache", hint="write --cache or --cache=always")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"invalid time limit {self.timeout:g} for --timeout", hint="write seconds above 0")
        if not self.privileges.userns:
            if self.networking.joined and self.privileges.unusual:
                problem = (
                    f"--cap-add cannot be used with --network {self.networking.network}: the capabilities are over a"
                )
                hint = "start that container with --cap-add and run the command with `%container exec`"
                raise UsageError(f"{problem} user namespace of the container's own", hint=hint)
            return
        if self.networking.network == Network.PRIVATE:
            raise UsageError("--network private requires a user namespace", hint=_OWN_USERNS)
        if self.resources.storage is not None:
            raise UsageError("--storage requires a user namespace", hint=_OWN_USERNS)
        if self.mounts.named:
            raise UsageError("named volumes require a user namespace", hint=f"{_OWN_USERNS}, or mount a path")

    @property
    def host_userns(self) -> bool:
        """Whether the container has no user namespace of its own."""
        return self.privileges.userns == Userns.HOST


_OWN_USERNS = "remove --userns=host"

STOPPING = (*FORWARDED, signal.SIGKILL)
"""The signals that can ask a program to end: init forwards them (signal(7))."""

_DEFAULT = RunOptions()
_VALUES: dict[str, Any] = {field.name: type(field.default) for field in dataclasses.fields(RunOptions)}
_VALUE_OF = {
    field.name: name
    for name, value in _VALUES.items()
    if dataclasses.is_dataclass(value)
    for field in dataclasses.fields(value)
}
"""By the name of a field of one of the values of RunOptions: the value that it is in."""


def run_options(fields: Mapping[str, Any]) -> RunOptions:
    """Return the options with these fields, by their own names: `{"user": "0", "network": Network.HOST}`.

    A field of `RunOptions` itself is named so too. Raises `UsageError` for a value that cannot be used, `TypeError` for
    a field that does not exist.
    """
    if not fields:
        return _DEFAULT
    values: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for field, value in fields.items():
        if (owner := _VALUE_OF.get(field)) is None:
            own[field] = value
        else:
            values.setdefault(owner, {})[field] = value
    return RunOptions(**own, **{name: _VALUES[name](**fields) for name, fields in values.items()})


def environment(config: ImageConfig, options: ProcessOptions) -> tuple[str, ...]:
    """Return the cell's whole environment: PATH, HOSTNAME, TERM, the image's and the run's, none of the notebook's.

    The sandbox sets HOSTNAME, which has no value here (`sandbox.spec.Program`), and HOME, which comes from the
    image's /etc/passwd if neither names it (`sandbox.steps.program.Execute`). Raises `UsageError`.
    """
    env = {
        "PATH": f"PATH={DEFAULT_PATH}",
        "HOSTNAME": "HOSTNAME",
        "TERM": "TERM=xterm-256color" if options.terminal else "TERM=dumb",
    }
    for item in config.env:
        _check_variable(item)
    for item in config.env:
        name, equals, _ = item.partition("=")
        if equals:
            env[name] = item
    for item in options.env:
        name, equals, _ = item.partition("=")
        if equals:
            env[name] = item
        else:
            env.pop(name, None)
    for item in options.unset_env:
        env.setdefault(item.partition("=")[0], item)
    if options.last_path:
        env["PATH"] = ":".join((env.get("PATH", f"PATH={DEFAULT_PATH}"), *options.last_path))
    return tuple(env.values())


def _check_variable(item: str) -> None:
    if not item or item[0] == "=" or "\0" in item:
        raise UsageError(f"invalid environment variable {item!r}", hint="write NAME=value")


def command_line(
    config: ImageConfig,
    command: tuple[str, ...],
    *,
    script: str | None,
    arguments: tuple[str, ...] = (),
    entrypoint: str | None = None,
    interpreter: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the program and its arguments.

    With a script: the `interpreter` on it, or else the script itself if it begins with `#!`, or else the image's shell
    (or /bin/sh) on it, and its `arguments`. Without:
    the image's entrypoint and the command, or the image's own command if there is none. With an `entrypoint`, that
    one (none if it is empty) and the command. Raises `UsageError`.
    """
    if script is not None:
        if entrypoint:
            raise UsageError("--entrypoint requires a command", hint="write the command after the image")
        if "\0" in script:
            raise UsageError("the cell contains a NUL character", hint="remove it, or write printf '\\0'")
        _check_arguments(arguments)
        if script.startswith("#!") and not interpreter:
            return (SCRIPT, *arguments)
        shell = tuple(word for word in config.shell if word != "-c") or ("/bin/sh",)
        return (*(interpreter or shell), SCRIPT, *arguments)
    if entrypoint is None:
        argv = (*config.entrypoint, *(command or config.cmd))
    else:
        argv = (*((entrypoint,) if entrypoint else ()), *command)
    if not argv:
        raise UsageError("the image has no default command", hint="write a command after the image")
    _check_arguments(argv)
    return argv


def _check_arguments(arguments: tuple[str, ...]) -> None:
    if any("\0" in argument for argument in arguments):
        raise UsageError("an argument contains a NUL character", hint="remove it")
    try:
        " ".join(arguments).encode()
    except UnicodeEncodeError:
        hint = "pass them by --stdin or in a file"
        raise UsageError("the arguments have characters that are not Unicode", hint=hint) from None


def stop_signal(config: ImageConfig) -> int:
    """Return the signal that asks the image's program to end: its StopSignal, by name or number, else SIGTERM.

    A signal that init does not forward (a realtime one, for example: signal(7)) is replaced by SIGTERM.
    """
    number = signals.number(str(config.other.get("StopSignal", "")))
    return number if number in STOPPING else signal.SIGTERM
