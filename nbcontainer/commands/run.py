"""From the words of a run to a request: the options of `%%container`, `%container run` and `nbcontainer run`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.options.capabilities import chosen
from nbcontainer.commands.options.limits import LIMIT_OPTIONS, group_limits, parse_ulimit, shm_size, storage
from nbcontainer.commands.options.ports import parse_port
from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.containers.cell import Request
from nbcontainer.containers.options import RunOptions
from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images import library
from nbcontainer.oci.reference import host_path
from nbcontainer.store import user_files

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.commands.grammar import Words
    from nbcontainer.linux.paths import Link

RUN_OPTIONS = (
    Option(("-v", "--volume"), "SRC:DST[:ro]", "show a host directory or file in the container"),
    Option(("--tmpfs",), "DST[:size=N]", "memory as a directory"),
    Option(("--name",), "NAME", "go on in the named container, or make it"),
    Option(("--rm",), "", "remove the container at once when the run has ended"),
    Option(("-e", "--env"), "NAME[=VALUE]", "set a variable; without a value, the notebook's own"),
    Option(("--env-file",), "FILE", "variables from a file of NAME=VALUE lines"),
    Option(("-w", "--workdir"), "DIR", "working directory, made where it is missing"),
    Option(("-u", "--user"), "USER[:GROUP]", "user, by name or number in the image"),
    Option(("--hostname",), "NAME", "the container's host name"),
    Option(("--timeout",), "SECONDS", "end everything after so long"),
    Option(("--network",), "none|host|private", "none (the default) has only lo; host: the host's; private: a way out"),
    Option(("-p", "--publish"), "[IP:]HOST:PORT[/udp]", "with --network private: a port of the host's, at 127.0.0.1"),
    *LIMIT_OPTIONS,
    Option(("--read-only",), "", "the root refuses writes"),
    Option(("--cap-add",), "NAME", "a capability more for root in it, ALL for every one (capabilities(7))"),
    Option(("--cap-drop",), "NAME", "one less, ALL for every one"),
    Option(("--userns",), "host", "no user namespace, for root only"),
    Option(("--platform",), "OS/ARCH[/VARIANT]", "of an image for several, the one for that, as in linux/arm64"),
    Option(("--pull",), "always|missing|never", "ask the registry each time, if the store lacks the image, or never"),
)

RUN = Command(
    "run",
    "IMAGE [COMMAND [ARG...]]",
    "Runs a command in a fresh container, or in the one named by --name.",
    RUN_OPTIONS,
    most=1,
    tail=True,
)


def request_of(words: Words, *, script: str | None = None, terminal: bool = False) -> Request:
    """The request that parsed words make, with a cell's body or without. Raises `UsageError`, `ContainerError`."""
    files = [_env_file(host_path(name)) for name in words.all("env-file")]
    return Request(
        image=words.operands[0] if words.operands else "",
        name=words.one("name"),
        command=tuple(words.tail),
        script=script,
        remove=words.has("rm"),
        options=RunOptions(
            volumes=tuple(parse_volume(text) for text in words.all("volume")),
            tmpfs=tuple(parse_tmpfs(text) for text in words.all("tmpfs")),
            env=_environment(words, [line for lines, _ in files for line in lines]),
            links=tuple(link for _, links in files for link in links),
            workdir=words.one("workdir"),
            user=words.one("user"),
            hostname=words.one("hostname"),
            network=words.one("network", "none"),
            ports=tuple(parse_port(text) for text in words.all("publish")),
            read_only=words.has("read-only"),
            timeout=seconds(words.one("timeout")),
            userns=words.one("userns"),
            terminal=terminal,
            platform=words.one("platform"),
            pull=words.one("pull", library.MISSING),
            capabilities=chosen(words.all("cap-add"), words.all("cap-drop")),
            cgroup_limits=group_limits(*map(words.one, ("memory", "memory-swap", "cpus", "pids-limit"))),
            ulimits=tuple(parse_ulimit(text) for text in words.all("ulimit")),
            shm_size=shm_size(words.one("shm-size")),
            storage=storage(words.one("storage")),
        ),
    )


def seconds(text: str) -> float | None:
    """`90`, `1.5s`, `2m` or `1h` in seconds, None for nothing. Raises `UsageError`."""
    if not text:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        found = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        found = -1.0
    if not 0 < found < float("inf"):
        raise UsageError(f"--timeout {text} is no time limit", hint="write seconds, or 90s, 5m, 1h")
    return found


def _environment(words: Words, found: list[str]) -> tuple[str, ...]:
    """NAME=value strings: those found in files first, then those of the options, which win."""
    env = []
    for item in (*found, *words.all("env")):
        name, equals, _ = item.partition("=")
        if not name:
            raise UsageError(
                f"{item!r} is no environment variable", hint="write NAME=value, or NAME for the notebook's"
            )
        if equals:
            env.append(item)
        elif name in os.environ:
            env.append(f"{name}={os.environ[name]}")
    return tuple(env)


def _env_file(path: Path) -> tuple[list[str], tuple[Link, ...]]:
    """The lines of a file of variables, and the links that its path led through."""
    try:
        fd, links = user_files.open_file(path)
        with os.fdopen(fd) as file:
            text = file.read()
    except ImageError as error:
        raise UsageError(f"--env-file: {error.message}", hint=error.hint) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read --env-file {path}: {error}", hint="give a text file of NAME=value lines"
        ) from None
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")], links
