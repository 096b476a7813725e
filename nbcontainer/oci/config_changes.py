"""`--change`: Dockerfile instructions that change an image's configuration (docker commit --change)."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.oci.documents import ImageConfig


def apply(config: ImageConfig, instruction: str) -> ImageConfig:
    """Return `config` after one instruction, as in `CMD ["python3"]` or `ENV A=1 B=2`. Raises `UsageError`."""
    name, _, rest = instruction.strip().partition(" ")
    change = _INSTRUCTIONS.get(name.upper())
    if change is None:
        raise UsageError(
            f"unknown instruction in --change {instruction!r}", hint=f"use one of {', '.join(_INSTRUCTIONS)}"
        )
    if not rest.strip():
        raise UsageError(f"missing value in --change {instruction!r}", hint=f"write a value after {name.upper()}")
    return change(config, rest.strip())


def _command(text: str, config: ImageConfig) -> tuple[str, ...]:
    """Return a command: from a JSON list (exec form), or a line for the image's shell (Dockerfile reference)."""
    if not text.startswith("["):
        return (*(config.shell or ("/bin/sh", "-c")), text)
    try:
        words = json.loads(text)
    except ValueError as error:
        raise UsageError(f"invalid JSON list {text!r}: {error}", hint='write it as in ["sh", "-c", "ls"]') from None
    if not all(isinstance(word, str) for word in words):
        raise UsageError(f"invalid list {text!r}: expected only strings", hint='write it as in ["sh", "-c", "ls"]')
    return tuple(words)


def _pairs(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"cannot parse {text!r}: {error}", hint="check its quotes") from None
    if "=" not in words[0]:
        name, space, value = text.partition(" ")  # the old form: one name and the rest of the line
        pairs = {name: value.strip()} if space else {}
        words = [text]
    else:
        pairs = dict(word.partition("=")[::2] for word in words if "=" in word)
    if len(pairs) != len(words) or "" in pairs:
        raise UsageError(
            f"invalid list {text!r}: expected NAME=value", hint="write NAME=value, in quotes if the value has spaces"
        )
    return pairs


def _env(config: ImageConfig, text: str) -> ImageConfig:
    env = dict(item.partition("=")[::2] for item in config.env) | _pairs(text)
    return replace(config, env=tuple(f"{name}={value}" for name, value in env.items()))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    base = config.working_dir.rstrip("/")
    return replace(config, working_dir=text if text.startswith("/") else f"{base}/{text}")


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    ports: dict[str, dict[str, str]] = {port if "/" in port else f"{port}/tcp": {} for port in text.split()}
    for port in ports:
        if not port.partition("/")[0].isdigit():
            raise UsageError(f"invalid port in EXPOSE {port}", hint="write a number, as in 8080 or 53/udp")
    known = dict(config.other.get("ExposedPorts") or {})
    return replace(config, other={**config.other, "ExposedPorts": known | ports})


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": lambda config, text: replace(config, cmd=_command(text, config)),
    "ENTRYPOINT": lambda config, text: replace(config, entrypoint=_command(text, config), cmd=()),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": lambda config, text: replace(config, labels={**config.labels, **_pairs(text)}),
    "USER": lambda config, text: replace(config, user=text),
    "WORKDIR": _workdir,
}
