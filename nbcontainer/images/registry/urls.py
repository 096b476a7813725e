"""URLs that a registry sends: in a Location header, or as the realm of a challenge."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from nbcontainer.errors import RegistryError

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def parse(url: str) -> SplitResult:
    """Return the parts of a URL. Raises `RegistryError` for half an IPv6 address, or a port that is not a number."""
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.port
    except ValueError:
        raise _invalid(url) from None
    return parts


def split(url: str) -> SplitResult:
    """Return the parts of a URL for HTTP. Raises `RegistryError` for any other text."""
    parts = parse(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid(url)
    return parts


def _invalid(url: str) -> RegistryError:
    return RegistryError(f"the registry sent the invalid URL {url[:200]!r}")


def join(base: str, reference: str) -> str:
    """Return the URL of a Location header in a response to `base` (RFC 3986, 5.2). Raises `RegistryError`."""
    try:
        joined = urljoin(base, reference)
    except ValueError:
        raise _invalid(reference) from None
    split(joined)
    return joined
