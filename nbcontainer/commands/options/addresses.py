"""The values of `--dns` and `--add-host`: IP addresses, and names with one."""

from __future__ import annotations

from nbcontainer.errors import UsageError


def parse_address(text: str, option: str = "--dns") -> str:
    """Return an IP address in its usual form. Raises `UsageError`."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UsageError(f"invalid IP address {text!r} for {option}", hint="write one, as in 9.9.9.9") from None


def parse_host(text: str) -> tuple[str, str]:
    """Return the name and the address of NAME:IP. Raises `UsageError`."""
    name, sign, address = text.partition("=" if "=" in text else ":")
    if not name or not sign or any(character.isspace() for character in name) or "#" in name:
        raise UsageError(f"invalid host {text!r} for --add-host", hint="write NAME:IP, as in db:10.0.0.7")
    if address == "host-gateway":
        raise UsageError("--add-host cannot use host-gateway: the host is out of reach", hint="write an IP address")
    return name, parse_address(address.removeprefix("[").removesuffix("]"), "--add-host")
