"""Variables that containers of the image `host` have, since programs of this machine expect them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nbcontainer.images.builtin.host_survey import surroundings
from nbcontainer.linux.process import library_path

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_LOOPBACK = ("localhost", "ip6-localhost", "::1")


def host_variables(user: str) -> tuple[str, ...]:
    """Return the variables of a container of the image `host` that nothing else sets, as NAME=value.

    LANG is the notebook's, and LD_LIBRARY_PATH, without which its Python may not start. USER is `user`, the user in the
    container, if that is a name; root if it is empty.
    """
    user = user.partition(":")[0] or "root"
    found = [f"LANG={os.environ.get('LC_ALL') or os.environ.get('LANG') or 'C.UTF-8'}"]
    if not user.isdecimal():
        found.append(f"USER={user}")
    found += [f"{name}={value}" for name, value in library_path().items()]
    return tuple(item for item in found if "\0" not in item)


@dataclass(frozen=True)
class NetworkVariables:
    """The notebook's variables that programs in a private network need, by name.

    `proxies` are addresses of proxies and exceptions from them, and `bundles` the paths of certificates. `hidden` are
    those of the bundles that the image `host` does not show. `loopback` are names of proxies on this machine's own
    loopback, which a private network does not reach: they are not among `proxies`.
    """

    proxies: dict[str, str]
    bundles: dict[str, str]
    hidden: tuple[str, ...]
    loopback: tuple[str, ...]


def network_variables(store: Path, environment: Mapping[str, str] = os.environ) -> NetworkVariables:
    """Return the variables for a private network of this environment. `store` is a directory that `host` hides."""
    proxies = _given((*_PROXIES, *(name.upper() for name in _PROXIES)), environment)
    loopback = tuple(name for name, address in proxies.items() if _is_loopback(address))
    exceptions = _given(("no_proxy", "NO_PROXY"), environment) if len(proxies) > len(loopback) else {}
    bundles = _given(_BUNDLES, environment)
    hides = _Hidden(store) if bundles else None
    return NetworkVariables(
        {name: value for name, value in (proxies | exceptions).items() if name not in loopback},
        bundles,
        tuple(name for name, path in bundles.items() if hides and hides(path)),
        loopback,
    )


def _given(names: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in names if environment.get(name)}


def _is_loopback(address: str) -> bool:
    """Return whether a proxy, as HOST:PORT or as a URL, is on the loopback. An invalid one is not."""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return False
    return host in _LOOPBACK or host.startswith("127.") or host.endswith(".localhost")


class _Hidden:
    """Says which paths (host) the image `host` does not show: below homes and the store, or closed to others."""

    def __init__(self, store: Path) -> None:
        outside = surroundings(store, whole=False)
        self._places = (*map(os.path.realpath, outside.homes), os.path.realpath(store))

    def __call__(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
            closed = not Path(real).stat().st_mode & stat.S_IROTH
        except OSError:
            return True
        return closed or any(f"{real}/".startswith(f"{place}/") for place in self._places)
