"""Authentication challenges: the WWW-Authenticate header of a 401 (RFC 9110, and distribution's token spec)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SCHEME = re.compile(r"\s*([A-Za-z]+)(?=[\s,]|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?')
_LIMIT = 8 << 10  # bytes of one header


@dataclass(frozen=True)
class Challenge:
    """One way to authenticate: `scheme` is `bearer` or `basic`, in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        """The URL that issues tokens; a text for people if the scheme is basic."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """The registry's name at the realm."""
        return self.parameters.get("service", "")


def parse(header: str) -> list[Challenge]:
    """Return the challenges of a header; unreadable ones are left out."""
    found: list[Challenge] = []
    rest = header[:_LIMIT]
    while (scheme := _SCHEME.match(rest)) is not None:
        rest = rest[scheme.end() :]
        parameters = {}
        while (parameter := _PARAMETER.match(rest)) is not None:
            quoted, bare = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            rest = rest[parameter.end() :]
        found.append(Challenge(scheme[1].lower(), parameters))
        rest = rest.lstrip(" ,\t")
    return found


def choose(header: str) -> Challenge | None:
    """Return the challenge to answer: bearer if there is one, else basic, else None."""
    challenges = {challenge.scheme: challenge for challenge in reversed(parse(header))}
    return challenges.get("bearer") or challenges.get("basic")
