"""The option table: the one place that describes the options of a run.

The parser of `%%container`, `%container run` and `nbcontainer run`, `--help`, the keywords of `nbcontainer.run`, the
defaults of `%config ContainerMagics`, the data for completion and docs/reference-options.md are made from it.

A new option is a row here, a field of one of the values that `nbcontainer.containers.options.RunOptions` consists of,
and the code that uses the field. Its keyword is in `ContainerKeywords`, or in `RunKeywords` if the option chooses or
makes the container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from nbcontainer.commands.grammar import ValueKind
from nbcontainer.commands.options import limits
from nbcontainer.commands.options.addresses import parse_address, parse_host
from nbcontainer.commands.options.mount_option import parse_mount
from nbcontainer.commands.options.ports import parse_port
from nbcontainer.commands.options.process_options import parse_group, parse_hostname, parse_stop_signal
from nbcontainer.commands.options.run_option import RunOption
from nbcontainer.commands.options.variables import parse_env_file, parse_variable
from nbcontainer.commands.options.volumes import parse_cache, parse_tmpfs, parse_volume
from nbcontainer.commands.options.word_values import cache_value, here_value, label_value, oom_score_value, pull_value


class ContainerKeywords(TypedDict, total=False):
    """The options of a run in a container that there is: those of `Container.run` and `Container.start`."""

    volumes: Iterable[str] | Mapping[str, str] | Mapping[Path, str]
    here: str | bool
    identity: bool
    mounts: Iterable[str]
    cache_dirs: Iterable[str] | Mapping[str, str]
    tmpfs: Iterable[str]
    env: Iterable[str] | Mapping[str, str | None]
    env_file: Iterable[str]
    workdir: str
    user: str
    group_add: Iterable[str]
    entrypoint: str
    hostname: str
    stop_signal: str
    timeout: float | str | None
    network: str
    publish: Iterable[str]
    add_host: Iterable[str] | Mapping[str, str]
    dns: Iterable[str]
    memory: str
    memory_swap: str
    cpus: float | str | None
    pids_limit: int | str | None
    ulimits: Iterable[str] | Mapping[str, str | int]
    shm_size: str
    storage: str
    oom_score_adj: int | str | None
    read_only: bool
    untrusted: bool
    cap_add: Iterable[str]
    cap_drop: Iterable[str]
    security_opt: Iterable[str]
    userns: str
    init: bool
    cache: str | bool
    toolbox: bool
    explain: bool


class RunKeywords(ContainerKeywords, total=False):
    """The options of `nbcontainer.run`. These choose the image and the container, and make it."""

    name: str
    labels: Iterable[str] | Mapping[str, str | None]
    remove: bool
    platform: str
    pull: str


RUN_OPTIONS: tuple[RunOption, ...] = (
    RunOption(
        flags=("-v", "--volume"),
        value="SRC:DST[:ro|:cow]",
        help="mount a host directory or file, or a named volume; without SRC, an anonymous volume; cow keeps changes "
        "to a directory in a layer until `apply`",
        field="mounts",
        parse=parse_volume,
        repeated=True,
        join=":",
        keyword="volumes",
        kind=ValueKind.VOLUME,
        setting="Volumes of every cell, as SRC:DST[:ro].",
    ),
    RunOption(
        flags=("--here",),
        value="rw|ro|cow",
        help="show the notebook's directory at the same path and start there; rw without a value, cow as for -v",
        alone="rw",
        field="here",
        parse=here_value,
        kind=ValueKind.CHOICE,
        choices=("rw", "ro", "cow"),
    ),
    RunOption(
        flags=("--identity",),
        help="give git in the container your name and e-mail address, and nothing else of your home directory",
        field="identity",
    ),
    RunOption(
        flags=("--mount",),
        value="KEY=VALUE,...",
        help="mount with type=bind, volume or tmpfs, source=, target=, readonly, and other keys of Docker",
        field="mounts",
        parse=parse_mount,
        repeated=True,
        keyword="mounts",
    ),
    RunOption(
        flags=("--cache-dir",),
        value="NAME:DST",
        help="keep a directory, such as pip's or apt's cache, outside layers, shared by all containers with that NAME",
        field="mounts",
        parse=parse_cache,
        repeated=True,
        join=":",
        keyword="cache_dirs",
    ),
    RunOption(
        flags=("--tmpfs",),
        value="DST[:size=N]",
        help="mount memory as a directory; also mode=, uid=, gid=, nr_inodes=, ro, noexec and others of mount(8)",
        field="mounts",
        parse=parse_tmpfs,
        repeated=True,
    ),
    RunOption(
        flags=("--name",),
        value="NAME",
        help="run in the named container; create it if it does not exist",
        field="name",
        kind=ValueKind.CONTAINER,
    ),
    RunOption(
        flags=("-l", "--label"),
        value="NAME[=VALUE]",
        help="label the container; its commits get the label too",
        field="labels",
        parse=label_value,
        repeated=True,
        join="=",
        items=(str, type(None)),
        keyword="labels",
    ),
    RunOption(flags=("--rm",), help="remove the container when the run has ended", field="remove", keyword="remove"),
    RunOption(
        flags=("-e", "--env"),
        value="NAME[=VALUE]",
        help="set a variable; NAME alone passes the notebook's value, or removes the variable if the notebook has none",
        field="env",
        parse=parse_variable,
        repeated=True,
        join="=",
        items=(str, type(None)),
        kind=ValueKind.VARIABLE,
    ),
    RunOption(
        flags=("--env-file",),
        value="FILE",
        help="set variables from a file of NAME=VALUE lines",
        field="env",
        parse=parse_env_file,
        repeated=True,
        kind=ValueKind.PATH,
    ),
    RunOption(
        flags=("-w", "--workdir"),
        value="DIR",
        help="working directory; created if it does not exist",
        field="workdir",
        kind=ValueKind.CONTAINER_PATH,
    ),
    RunOption(flags=("-u", "--user"), value="USER[:GROUP]", help="user, by name or number in the image", field="user"),
    RunOption(
        flags=("--group-add",),
        value="GROUP",
        help="add the user to a group, by name or number in the image",
        field="groups",
        parse=parse_group,
        repeated=True,
    ),
    RunOption(
        flags=("--entrypoint",),
        value="WORD",
        help="replace the image's entrypoint and drop its default command; empty for no entrypoint",
        field="entrypoint",
    ),
    RunOption(
        flags=("-h", "--hostname"),
        value="NAME",
        help="host name of the container",
        field="hostname",
        parse=parse_hostname,
    ),
    RunOption(
        flags=("--stop-signal",),
        value="SIGNAL",
        help="the signal by which `stop` asks the program to end, in place of the image's",
        field="stop_signal",
        parse=parse_stop_signal,
    ),
    RunOption(
        flags=("--timeout",),
        value="SECONDS",
        help="end everything after this time, as in 90, 5m or 1h",
        field="timeout",
        parse=limits.parse_seconds,
        number=limits.seconds,
        setting="Time limit of a cell in seconds, 0 for none; --timeout overrides it.",
        default=0.0,
    ),
    RunOption(
        flags=("--net", "--network"),
        value="none|host|private|container:NAME",
        help="none (default): only lo; host: the host's network; private: its own, with access to other machines; "
        "container:NAME: the network of a running container of this notebook",
        field="network",
        kind=ValueKind.CHOICE,
        choices=("none", "host", "private"),
        setting="The network of cells without --network: none, host or private.",
        default="none",
    ),
    RunOption(
        flags=("-p", "--publish"),
        value="[IP:]HOST:PORT[/udp]",
        help="with --network private: publish a port on the host, at 127.0.0.1 by default",
        field="ports",
        parse=parse_port,
        repeated=True,
    ),
    RunOption(
        flags=("--add-host",),
        value="NAME:IP",
        help="add a name to the container's /etc/hosts",
        field="hosts",
        parse=parse_host,
        repeated=True,
        join="=",
    ),
    RunOption(
        flags=("--dns",),
        value="IP",
        help="ask this name server, in place of the network's own",
        field="dns",
        parse=parse_address,
        repeated=True,
    ),
    RunOption(
        flags=("-m", "--memory"),
        value="SIZE",
        help="memory limit of all processes together, as in 512m; the run ends if they reach it",
        field="cgroup_limits",
        parse=limits.parse_memory,
    ),
    RunOption(
        flags=("--memory-swap",),
        value="SIZE",
        help="limit of memory and swap together, -1 for no limit; by default -m allows no swap",
        field="cgroup_limits",
        parse=limits.parse_memory_swap,
    ),
    RunOption(
        flags=("--cpus",),
        value="NUMBER",
        help="limit of processors, as in 1.5",
        field="cgroup_limits",
        parse=limits.parse_cpus,
        number=limits.cpus,
    ),
    RunOption(
        flags=("--pids-limit",),
        value="NUMBER",
        help="limit of processes at a time, -1 for no limit",
        field="cgroup_limits",
        parse=limits.parse_pids,
        number=limits.pids,
    ),
    RunOption(
        flags=("--ulimit",),
        value="NAME=SOFT[:HARD]",
        help="a limit of each process, as in nofile=4096",
        field="ulimits",
        parse=limits.parse_ulimit,
        repeated=True,
        join="=",
        items=(str, int),
        keyword="ulimits",
    ),
    RunOption(
        flags=("--shm-size",),
        value="SIZE",
        help="size of /dev/shm, 64m by default",
        field="shm_size",
        parse=limits.shm_size,
    ),
    RunOption(
        flags=("--storage",),
        value="SIZE",
        help="limit of the data that the run writes outside volumes; it is in memory until the run ends",
        field="storage",
        parse=limits.storage,
    ),
    RunOption(
        flags=("--oom-score-adj",),
        value="NUMBER",
        help="if the host's memory is used up, the kernel ends these processes earlier (to 1000) or later (to -1000)",
        field="oom_score_adj",
        parse=oom_score_value,
        number=oom_score_value,
    ),
    RunOption(flags=("--read-only",), help="make the root file system read-only", field="read_only"),
    RunOption(
        flags=("--untrusted",),
        help="safe settings for code that you have not read: no network, no volumes, a read-only image, inert output, "
        "and limits of memory, processes, storage and time",
        field="untrusted",
    ),
    RunOption(
        flags=("--cap-add",),
        value="NAME",
        help="add a capability for root in the container, ALL for every one (capabilities(7))",
        field="capabilities",
        repeated=True,
    ),
    RunOption(
        flags=("--cap-drop",),
        value="NAME",
        help="drop a capability, ALL for every one",
        field="capabilities",
        repeated=True,
    ),
    RunOption(
        flags=("--security-opt",),
        value="NAME=VALUE",
        help="no-new-privileges=false lets setuid programs work: sudo and su",
        field="new_privileges",
        repeated=True,
    ),
    RunOption(
        flags=("--userns",),
        value="host",
        help="no user namespace (root only)",
        field="userns",
        kind=ValueKind.CHOICE,
        choices=("host",),
    ),
    RunOption(
        flags=("--init",),
        help="accepted, as in Docker: an init always reaps processes and forwards signals",
        field="",
    ),
    RunOption(
        flags=("--cache",),
        value="on|always|off",
        help="replay the stored output and state of an identical cell instead of running it; always: also with a "
        "network, a writable volume or the image host",
        alone="on",
        field="cache",
        parse=cache_value,
        kind=ValueKind.CHOICE,
        choices=("on", "always", "off"),
        setting="Whether cells are cached without --cache: empty, on, always or off.",
    ),
    RunOption(
        flags=("--toolbox",),
        help="show the programs of busybox in /dev/nbcontainer/toolbox, after the image's own on PATH, and run a shell "
        "if there is no command; the image and the container's layers do not change",
        field="toolbox",
    ),
    RunOption(
        flags=("--explain",),
        help="show what was done for the run: each step, its system calls, its purpose and its time",
        field="explain",
    ),
    RunOption(
        flags=("--platform",),
        value="OS/ARCH[/VARIANT]",
        help="choose this platform if an image has several, as in linux/arm64",
        field="platform",
    ),
    RunOption(
        flags=("--pull",),
        value="always|missing|never",
        help="ask the registry each time, only if the store lacks the image (default), or never",
        field="pull",
        parse=pull_value,
        kind=ValueKind.CHOICE,
        choices=("always", "missing", "never"),
    ),
)

_EXEC_TIMEOUT = "end the command after this time, as in 90, 5m or 1h; the container continues"

EXEC_OPTIONS = tuple(
    replace(option, help=_EXEC_TIMEOUT) if option.name == "timeout" else option
    for option in RUN_OPTIONS
    if option.name in ("env", "env-file", "user", "workdir", "timeout")
)
"""The options of a run that `exec` has, in a terminal and in a notebook."""


def options_without(*names: str, short_help: bool = True) -> tuple[RunOption, ...]:
    """Return the options of a run but for these, for another verb; if `short_help`, `-h` is help there."""
    kept = tuple(option for option in RUN_OPTIONS if option.name not in names)
    if not short_help:
        return kept
    return tuple(replace(option, flags=tuple(flag for flag in option.flags if flag != "-h")) for option in kept)
