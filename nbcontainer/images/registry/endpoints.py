"""The registry of an image name: the one in the name, or those in registries.conf (containers-registries.conf(5))."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import RegistryError
from nbcontainer.oci.reference import HUB
from nbcontainer.store import user_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.oci.reference import Reference

_HUB_HOST = "registry-1.docker.io"
_LOCATION = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::\d+)?(?:/[a-z0-9._-]+)*/?")


@dataclass(frozen=True)
class Endpoint:
    """A registry's host (with its port), the repository's path there, and whether TLS can be missing or unverified."""

    host: str
    path: str
    insecure: bool = False

    @property
    def address(self) -> str:
        """The host to connect to: that of docker.io has another name."""
        return _HUB_HOST if self.host == HUB else self.host


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine."""
    name = re.sub(r":\d+$", "", host).strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def configuration_files() -> list[Path]:
    """Return the existing files of registries.conf: the user's or the system's, then the drop-in files."""
    if chosen := os.environ.get("CONTAINERS_REGISTRIES_CONF"):
        return [Path(chosen)]
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers"
    system = Path("/etc/containers")
    main = [path for path in (home / "registries.conf", system / "registries.conf") if path.exists()][:1]
    return main + [path for top in (system, home) for path in sorted((top / "registries.conf.d").glob("*.conf"))]


def endpoints(wanted: Reference, files: Iterable[Path] | None = None, *, push: bool = False) -> tuple[Endpoint, ...]:
    """Return where to look for an image: the mirrors of its registry, then the registry; for a push only the latter.

    Raises `RegistryError` for a blocked registry, or an unreadable file.
    """
    own = Endpoint(wanted.host, wanted.path, insecure=is_loopback(wanted.host))
    rule = _rule_for(wanted.name, configuration_files() if files is None else files)
    if rule is None:
        return (own,)
    if rule.get("blocked") is True:
        raise RegistryError(f"registry {wanted.host} is blocked", hint="change that in registries.conf")
    prefix = _prefix(rule)
    rest = "" if prefix.startswith("*.") else wanted.name[len(prefix) :]
    found = []
    if not push:
        mirrors = rule.get("mirror")
        for mirror in mirrors if isinstance(mirrors, list) else ():
            if isinstance(mirror, dict) and isinstance(mirror.get("location"), str):
                found.append(_endpoint(mirror["location"], rest, insecure=mirror.get("insecure") is True))
    location = rule.get("location")
    insecure = rule.get("insecure") is True
    if isinstance(location, str) and location and not prefix.startswith("*."):
        found.append(_endpoint(location, rest, insecure=insecure))
    else:
        found.append(Endpoint(wanted.host, wanted.path, insecure=insecure or own.insecure))
    return tuple(found)


def _endpoint(location: str, rest: str, *, insecure: bool) -> Endpoint:
    if not _LOCATION.fullmatch(location):
        raise RegistryError(f"registries.conf: invalid location {location!r} of a registry")
    host, _, path = f"{location.rstrip('/')}{rest}".partition("/")
    return Endpoint(host, path, insecure=insecure or is_loopback(host))


def _rule_for(name: str, files: Iterable[Path]) -> dict[str, Any] | None:
    """Return the rule with the longest prefix that consists of whole parts of `name`, or None.

    Of several rules with one prefix the last one counts (containers-registries.conf.d(5)).
    """
    rules = {_prefix(rule): rule for path in files for rule in _rules(path)}
    prefix = max((prefix for prefix in rules if _fits(prefix, name)), key=len, default="")
    return rules.get(prefix)


def _rules(path: Path) -> list[dict[str, Any]]:
    try:
        found = tomllib.loads(user_files.read_settings(path).decode()).get("registry", [])
    except RecursionError:
        raise RegistryError(f"cannot read {path}: it is nested too deeply", hint="repair the file") from None
    except (OSError, ValueError) as error:
        raise RegistryError(f"cannot read {path}: {error}", hint="repair the file") from None
    return [rule for rule in found if isinstance(rule, dict) and _prefix(rule)] if isinstance(found, list) else []


def _prefix(rule: dict[str, Any]) -> str:
    return str(rule.get("prefix") or rule.get("location") or "").rstrip("/")


def _fits(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):
        return name.partition("/")[0].endswith(prefix[1:])
    return name == prefix or name.startswith(f"{prefix}/")
