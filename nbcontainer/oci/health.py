"""The health check of an image: the field Healthcheck of its configuration, and the instruction HEALTHCHECK.

OCI has no such field; it is Docker's (moby, image/spec). Times there are in nanoseconds, and 0 is the default.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from nbcontainer.oci.documents import ImageConfig

_BILLION = 10**9
_LEAST, _MOST = 10**6, 10**7 * _BILLION
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ns|us|ms|s|m|h)", re.ASCII)
_SHELL_TEST = re.compile(r"\[\[?\s")
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": _BILLION, "m": 60 * _BILLION, "h": 3600 * _BILLION}
_TIMES = {
    "--interval": "Interval",
    "--timeout": "Timeout",
    "--start-period": "StartPeriod",
    "--start-interval": "StartInterval",
}


@dataclass(frozen=True)
class HealthCheck:
    """A command that tests whether a container works. Times are in seconds.

    It runs each `interval`, and each `start_interval` in the `start_period`, whose failures do not count. It fails
    after `timeout`. The container is unhealthy after `retries` failures one after the other.
    """

    command: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


def check_of(config: ImageConfig) -> HealthCheck | None:
    """Return the check of an image; None if it has none, or one that is not valid: the image is not trusted."""
    values = config.other.get("Healthcheck")
    if not isinstance(values, dict):
        return None
    test = values.get("Test")
    if not isinstance(test, list) or not test or not all(isinstance(word, str) and "\0" not in word for word in test):
        return None
    kind, *words = test
    if kind == "CMD-SHELL" and len(words) == 1:
        words = [*(config.shell or ("/bin/sh", "-c")), words[0]]
    elif kind != "CMD" or not words:
        return None
    default = HealthCheck(())
    retries = values.get("Retries")
    return HealthCheck(
        tuple(words),
        _seconds(values, "Interval", default.interval),
        _seconds(values, "Timeout", default.timeout),
        _seconds(values, "StartPeriod", default.start_period),
        _seconds(values, "StartInterval", default.start_interval),
        retries if type(retries) is int and 0 < retries < _BILLION else default.retries,
    )


def _seconds(values: dict[str, Any], name: str, default: float) -> float:
    number = values.get(name)
    return number / _BILLION if type(number) is int and _LEAST <= number <= _MOST else default


def with_check(config: ImageConfig, text: str) -> dict[str, Any]:
    """Return the field Healthcheck after HEALTHCHECK with this text. Raises `UsageError`."""
    if text.strip().upper() == "NONE":
        return {"Test": ["NONE"]}
    values: dict[str, Any] = {}
    head, rest = _first_word(text)
    while head.startswith("--"):
        name, _, value = head.partition("=")
        values[_TIMES.get(name, "Retries")] = _retries(value) if name == "--retries" else _nanoseconds(name, value)
        head, rest = _first_word(rest)
    if head.upper() != "CMD" or not rest.strip():
        hint = "write HEALTHCHECK [--interval=30s] CMD COMMAND, or HEALTHCHECK NONE"
        raise UsageError(f"invalid HEALTHCHECK {text!r}", hint=hint)
    return {"Test": _test(rest.strip()), **values}


def _first_word(text: str) -> tuple[str, str]:
    """Return the first word of a text, and the rest."""
    head, *rest = text.split(maxsplit=1) or [""]
    return head, rest[0] if rest else ""


def is_exec_form(text: str) -> bool:
    """Return whether a command is a JSON list, or has a mistake in one. `[ -e /x ] || exit 1` is for the shell."""
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return text.startswith("[") and _SHELL_TEST.match(text) is None


def _test(text: str) -> list[str]:
    if not is_exec_form(text):
        return ["CMD-SHELL", text]
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise UsageError(f"invalid JSON list {text!r} in HEALTHCHECK", hint='write it as in CMD ["ls", "/ready"]')
    return ["CMD", *words]


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"invalid number {text!r} for --retries in HEALTHCHECK", hint="write it as in --retries=3")
    return int(text)


def _nanoseconds(name: str, text: str) -> int:
    if name not in _TIMES:
        hint = f"use one of {', '.join(_TIMES)}, --retries"
        raise UsageError(f"unknown option {name!r} in HEALTHCHECK", hint=hint)
    if (found := nanoseconds(text)) is None:
        raise UsageError(f"invalid time {text!r} for {name} in HEALTHCHECK", hint="write it as in 30s or 1m30s")
    if 0 < found < _LEAST:
        raise UsageError(f"invalid time {text!r} for {name} in HEALTHCHECK", hint="write 1ms or more")
    return min(_MOST, found)


def nanoseconds(text: str) -> int | None:
    """Return a duration as Go writes it, as in `1m30s` or `500ms`, in nanoseconds; None for anything else."""
    parts = [(float(number), unit) for number, unit in _DURATION.findall(text)]
    if not parts or "".join(found[0] for found in _DURATION.finditer(text)) != text:
        return None
    return round(sum(number * _UNITS[unit] for number, unit in parts))
