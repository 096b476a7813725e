"""`-p/--publish`: from arguments to a port of the host that leads to one of the container."""

from __future__ import annotations

import re

from nbcontainer.errors import UsageError
from nbcontainer.sandbox.networking import Port

LOOPBACK = "127.0.0.1"
"""The address of a port that is published without one: only the host itself reaches it."""

_HINT = "write [IP:]HOST:PORT[/tcp|udp], as in 8080:80 or 0.0.0.0:8080:80"


def parse_port(text: str) -> Port:
    """Return the port `8080:80`, `0.0.0.0:8080:80/tcp` or `5353:53/udp`: Docker's grammar. Raises `UsageError`."""
    words, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in ("tcp", "udp"):
        raise UsageError(f"--publish {text}: unknown protocol '{protocol}'", hint=_HINT)
    host, _, rest = words.rpartition(":")
    if not host or "." in host.rpartition(":")[2]:
        raise UsageError(f"--publish {text}: one of the two ports is missing", hint=_HINT)
    address, colon, host = host.rpartition(":")
    return Port(
        _address(text, address) if colon else LOOPBACK,
        _number(text, host),
        _number(text, rest),
        protocol.lower() or "tcp",
    )


def _address(text: str, word: str) -> str:
    import ipaddress

    try:
        found = ipaddress.ip_address(word.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise UsageError(f"--publish {text}: invalid IPv4 address '{word}'", hint=_HINT) from None
    if found.version != 4 or "[" in word:
        why = "ports are published at IPv4 addresses only"
        raise UsageError(f"--publish {text}: {why}", hint="write an IPv4 address, or none")
    return str(found)


def _number(text: str, word: str) -> int:
    """Return a port number."""
    if re.fullmatch(r"[0-9]+-[0-9]+", word):
        hint = "write one --publish for each port"
        raise UsageError(f"--publish {text}: '{word}' is a range, and a port is expected", hint=hint)
    if not (word.isascii() and word.isdecimal() and len(word) <= 5 and 0 < int(word) < 1 << 16):
        raise UsageError(f"--publish {text}: invalid port '{word}' (1 to 65535)", hint=_HINT)
    return int(word)
