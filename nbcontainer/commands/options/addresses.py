"""The values of `--dns` and `--add-host`: IP addresses, and names with one."""

from __future__ import annotations

import re

from nbcontainer.errors import UsageError

_NAME = re.compile(r"[!-\"$-~]+")
"""A name in /etc/hosts: what can be printed, without spaces, and without the character that begins a comment."""

_SCOPE = re.compile(r"[A-Za-z0-9_.-]*")
"""The interface of a link-local address."""


def parse_address(text: str, option: str = "--dns") -> str:
    """Return an IP address in its usual form. Raises `UsageError`."""
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
        if not _SCOPE.fullmatch(getattr(address, "scope_id", None) or ""):
            raise ValueError("invalid name of an interface")
        return str(address)
    except ValueError:
        raise UsageError(f"invalid IP address {text!r} for {option}", hint="write one, as in 9.9.9.9") from None


def parse_host(text: str) -> tuple[str, str]:
    """Return the name and the address of NAME:IP. Raises `UsageError`."""
    name, sign, address = text.partition("=" if "=" in text else ":")
    if not sign or not _NAME.fullmatch(name):
        raise UsageError(f"invalid host {text!r} for --add-host", hint="write NAME:IP, as in db:10.0.0.7")
    if address == "host-gateway":
        raise UsageError("--add-host cannot use host-gateway: the host is out of reach", hint="write an IP address")
    return name, parse_address(address.removeprefix("[").removesuffix("]"), "--add-host")
