"""Variables that containers of the image `host` have, since programs of this machine expect them."""

from __future__ import annotations

import os

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


def host_variables(user: str, *, private_network: bool) -> tuple[str, ...]:
    """Return the variables of a container of the image `host` that nothing else sets, as NAME=value.

    LANG is the notebook's. USER is `user`, the user in the container, if that is a name; root if it is empty. With a
    private network, the notebook's proxies and the places of its certificates are there, too.
    """
    user = user.partition(":")[0] or "root"
    found = [f"LANG={os.environ.get('LC_ALL') or os.environ.get('LANG') or 'C.UTF-8'}"]
    if not user.isdecimal():
        found.append(f"USER={user}")
    if private_network:
        found += [f"{name}={os.environ[name]}" for name in network_variables()]
    return tuple(item for item in found if "\0" not in item)


def network_variables() -> list[str]:
    """Return the names of the notebook's variables that programs need to reach the network."""
    names = [*_PROXIES, *(name.upper() for name in _PROXIES), *_BUNDLES]
    return [name for name in names if os.environ.get(name)]
