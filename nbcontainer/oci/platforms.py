"""Platforms: which machine an image is for, with OCI's (Go's) names, and the choice among several."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
_ARM = ("v8", "v7", "v6", "v5")
_AMD64 = ("v4", "v3", "v2", "")
_SAME = {("amd64", "v1"): "", ("arm64", "v8"): "", ("arm64", "8"): "", **{("arm", text[1:]): text for text in _ARM}}
"""Variants that have another spelling (containerd, platforms: normalizeArch)."""


@dataclass(frozen=True)
class Platform:
    """An operating system, an architecture, and a variant of it (`v7` of arm)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def host() -> Platform:
    """Return this machine's platform."""
    machine = platform.machine()
    return Platform("linux", *_ARCHITECTURES.get(machine, (machine, "")))


def parse(text: str) -> Platform:
    """Return the platform of `--platform`: `linux/arm64`, `linux/arm/v7`, or `arm64` alone. Raises `UsageError`."""
    parts = text.lower().split("/")
    if len(parts) == 1 and parts != ["linux"]:
        parts = ["linux", *parts]
    if parts == ["linux"]:
        return host()
    if not 2 <= len(parts) <= 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise UsageError(f"invalid platform --platform {text}", hint="write one as in linux/arm64 or linux/arm/v7")
    if parts[0] != "linux":
        raise UsageError(f"unsupported platform --platform {text}: expected linux", hint="write one as in linux/arm64")
    architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    return Platform("linux", architecture, parts[2] if len(parts) == 3 else variant)


def rank(offered: Platform, wanted: Platform) -> int:
    """Return how well an image for `offered` suits `wanted`: 0 is exactly, more is worse, -1 is not at all."""
    offered, wanted = _normalized(offered), _normalized(wanted)
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return -1
    if offered.variant == wanted.variant:
        return 0
    # An older variant runs on a newer machine; amd64/v3 must be asked for.
    order = {"arm": _ARM, "amd64": _AMD64}.get(wanted.architecture, ())
    if offered.variant in order and wanted.variant in order:
        return max(order.index(offered.variant) - order.index(wanted.variant), -1)
    return 1 if not offered.variant and wanted.architecture != "arm64" else -1


def _normalized(platform: Platform) -> Platform:
    """Return a platform with OCI's names: `x86_64` is amd64, and `arm64/v8` is arm64."""
    architecture, variant = _ARCHITECTURES.get(platform.architecture.lower(), (platform.architecture.lower(), ""))
    variant = platform.variant.lower() or variant or ("v7" if architecture == "arm" else "")  # as containerd has it
    return Platform(platform.os.lower(), architecture, _SAME.get((architecture, variant), variant))


def choose(offered: Iterable[tuple[Platform, int]], wanted: Platform) -> int | None:
    """Return the key of the platform that suits `wanted` best, the first among equals; None if none does."""
    ranked = [(found, key) for platform, key in offered if (found := rank(platform, wanted)) >= 0]
    return min(ranked)[1] if ranked else None
