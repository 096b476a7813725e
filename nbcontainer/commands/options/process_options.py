"""`--hostname`, `--group-add` and `--stop-signal`: from text to checked values."""

from __future__ import annotations

import re
import signal

from nbcontainer.containers.options import STOPPING
from nbcontainer.errors import UsageError
from nbcontainer.oci import signals

_HOSTNAME = re.compile(r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9_])?")


def parse_hostname(text: str) -> str:
    """Return a host name, empty for the container's own. Raises `UsageError`."""
    if text and not _HOSTNAME.fullmatch(text):
        hint = "use up to 64 letters, digits, '-' and '.', as in -h box.example.org"
        raise UsageError(f"invalid host name {text!r} for --hostname", hint=hint)
    return text


def parse_group(text: str) -> str:
    """Return a group's name or number. Raises `UsageError`."""
    if text == "keep-groups":
        raise UsageError(
            "unsupported group 'keep-groups': a container never has the notebook's groups", hint="name one"
        )
    if not text or any(character in text for character in ":,\0\n"):
        raise UsageError(f"invalid group {text!r} for --group-add", hint="write a name or a number, as in audio or 44")
    return text


def parse_stop_signal(text: str) -> int:
    """Return the number of a signal that init forwards. Raises `UsageError`."""
    number = signals.number(text)
    if number is None:
        raise UsageError(f"unknown signal {text!r} for --stop-signal", hint="write a name or a number, as in SIGINT")
    if number not in STOPPING:
        hint = f"choose one of {', '.join(signal.Signals(one).name for one in STOPPING)}"
        raise UsageError(f"unsupported signal '{text}' for --stop-signal: init does not forward it", hint=hint)
    return number
