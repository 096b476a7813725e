"""`--change`: Dockerfile instructions that change an image's configuration (docker commit --change).

The instructions are those of `docker commit`. Variables are replaced as in a Dockerfile: in all of them but CMD,
ENTRYPOINT and ONBUILD, by the values that the image's environment has before the instruction.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.oci import health, instruction_words, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nbcontainer.oci.documents import ImageConfig

_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_PAIR = re.compile(r"""(?:[^\s=\\'"$]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")*=""")


def apply_all(config: ImageConfig, instructions: Iterable[str]) -> ImageConfig:
    """Return `config` after instructions. Raises `UsageError`.

    ENTRYPOINT removes the image's CMD, and keeps one that these instructions set.
    """
    command: tuple[str, ...] | None = None
    for instruction in instructions:
        config = apply(config, instruction)
        name = _name(instruction)
        if name == "CMD":
            command = config.cmd
        elif name == "ENTRYPOINT" and command is not None:
            config = replace(config, cmd=command)
    return config


def apply(config: ImageConfig, instruction: str) -> ImageConfig:
    """Return `config` after one instruction, as in `CMD ["python3"]` or `ENV A=1 B=2`. Raises `UsageError`."""
    name, rest = _name(instruction), instruction.strip()[len(_name(instruction)) :]
    change = _INSTRUCTIONS.get(name)
    if change is None:
        raise UsageError(f"unknown instruction in --change {instruction!r}", hint=_advice(name))
    if not rest.strip():
        raise UsageError(f"missing value in --change {instruction!r}", hint=f"write a value after {name}")
    if "\0" in rest:
        raise UsageError(f"--change {instruction!r} contains a NUL character", hint="remove it")
    return change(config, rest.strip())


def _name(instruction: str) -> str:
    return (instruction.split(None, 1) or [""])[0].upper()


def _advice(name: str) -> str:
    known = f"use one of {', '.join(_INSTRUCTIONS)}"
    return f"{known}; for {name}, commit a container whose cell did it" if name in ("RUN", "COPY", "ADD") else known


def _environment(config: ImageConfig) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in config.env)


def _command(text: str, config: ImageConfig) -> tuple[str, ...]:
    """Return a command: from a JSON list (exec form), or a line for the image's shell (Dockerfile reference)."""
    if not health.is_exec_form(text):
        return (*(config.shell or ("/bin/sh", "-c")), text)
    return _list(text, '["sh", "-c", "ls"]')


def _list(text: str, example: str) -> tuple[str, ...]:
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"invalid JSON list {text!r}: {error}", hint=f"write it as in {example}") from None
    if not all(isinstance(word, str) for word in words):
        raise UsageError(f"invalid list {text!r}: expected only strings", hint=f"write it as in {example}")
    return tuple(words)


def _pairs(text: str, config: ImageConfig) -> dict[str, str]:
    env = _environment(config)
    if _PAIR.match(text):
        words = instruction_words.words(text, env)
        pairs = dict(word.partition("=")[::2] for word in words if "=" in word)
    else:
        name, *rest = text.split(None, 1)  # the old form: one name and the rest of the line
        pairs = {instruction_words.value(name, env): instruction_words.value(rest[0], env)} if rest else {}
        words = [text]
    if len(pairs) < len({word.partition("=")[0] for word in words}) or "" in pairs:
        raise UsageError(
            f"invalid list {text!r}: expected NAME=value", hint="write NAME=value, in quotes if the value has spaces"
        )
    return pairs


def _env(config: ImageConfig, text: str) -> ImageConfig:
    env = _environment(config) | _pairs(text, config)
    return replace(config, env=tuple(f"{name}={value}" for name, value in env.items()))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    path = posixpath.join("/", config.working_dir, instruction_words.value(text, _environment(config)))
    return replace(config, working_dir="/" + posixpath.normpath(path).lstrip("/"))


def _user(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, user=instruction_words.value(text, _environment(config)))


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    words = instruction_words.words(text, _environment(config))
    ports = {port: {} for word in words for port in _ports(word)}  # type: dict[str, dict[str, str]]
    known = dict(config.other.get("ExposedPorts") or {})
    return replace(config, other={**config.other, "ExposedPorts": known | ports})


def _ports(word: str) -> list[str]:
    """Return the ports of `8080`, `53/udp` or `8000-8003/tcp`, each with its protocol. Raises `UsageError`."""
    found = _PORTS.fullmatch(word.lower())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if found is None or not 0 < first <= last < 1 << 16:
        hint = "write a number from 1 to 65535, as in 8080, 53/udp or 8000-8003"
        raise UsageError(f"invalid port in EXPOSE {word if '/' in word else f'{word}/tcp'}", hint=hint)
    return [f"{port}/{found[3] or 'tcp'}" for port in range(first, last + 1)]


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    if text.startswith("["):
        paths = list(_list(text, '["/data"]'))
    else:
        paths = instruction_words.words(text, _environment(config))
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f"the path {path!r} in VOLUME {text} is not absolute", hint="start it with /, as in /data")
    known = dict(config.other.get("Volumes") or {})
    return replace(config, other={**config.other, "Volumes": known | {path: {} for path in paths}})


def _on_build(config: ImageConfig, text: str) -> ImageConfig:
    if _name(text) in ("ONBUILD", "FROM", "MAINTAINER"):
        raise UsageError(f"ONBUILD cannot be followed by {_name(text)}", hint="write another instruction after ONBUILD")
    known = config.other.get("OnBuild") or []
    return replace(config, other={**config.other, "OnBuild": [*known, text]})


def _stop_signal(config: ImageConfig, text: str) -> ImageConfig:
    word = instruction_words.value(text, _environment(config))
    if signals.number(word) is None:
        raise UsageError(f"unknown signal {word!r} in STOPSIGNAL", hint="write a name or a number, as in SIGINT")
    return replace(config, other={**config.other, "StopSignal": word})


def _health_check(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, other={**config.other, "Healthcheck": health.with_check(config, text)})


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": lambda config, text: replace(config, cmd=_command(text, config)),
    "ENTRYPOINT": lambda config, text: replace(config, entrypoint=_command(text, config), cmd=()),
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health_check,
    "LABEL": lambda config, text: replace(config, labels={**config.labels, **_pairs(text, config)}),
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
