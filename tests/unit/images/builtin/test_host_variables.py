"""Which variables of the notebook a container of `host` has in a private network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.images.builtin.host_variables import network_variables

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://proxy.example.org:3128", False),
        ("proxy:3128", False),
        ("http://user:p%40ss@10.0.0.1:3128/", False),
        ("http://[::1]:3128", True),
        ("http://127.0.0.1:3128", True),
        ("127.1.2.3:3128", True),
        ("localhost:3128", True),
        ("http://LOCALHOST", True),
        ("http://proxy.localhost:1", True),
        ("http://[:3128", False),
        ("socks5h://localhost.example.org", False),
    ],
)
def test_a_proxy_on_the_loopback_is_recognized(tmp_path: Path, address: str, *, here: bool) -> None:
    """A private network does not reach it, so the variable is left out; any other address is passed as it is."""
    found = network_variables(tmp_path, {"http_proxy": address, "no_proxy": "internal"})
    assert found.loopback == (("http_proxy",) if here else ())
    assert found.proxies == ({} if here else {"http_proxy": address, "no_proxy": "internal"})


def test_certificates_below_the_store_or_closed_to_others_are_hidden(tmp_path: Path) -> None:
    """So is a link to them, and a file that does not exist; a file that all users can read is shown."""
    store, other = tmp_path / "store", tmp_path / "other"
    store.mkdir()
    (store / "ca.pem").write_text("")
    other.write_text("")
    other.chmod(0o644)
    (tmp_path / "link").symlink_to(store / "ca.pem")
    (tmp_path / "closed").write_text("")
    (tmp_path / "closed").chmod(0o600)
    names = {
        "SSL_CERT_FILE": other,
        "SSL_CERT_DIR": store,
        "REQUESTS_CA_BUNDLE": tmp_path / "link",
        "CURL_CA_BUNDLE": tmp_path / "closed",
        "NODE_EXTRA_CA_CERTS": tmp_path / "missing",
    }
    found = network_variables(store, {name: str(path) for name, path in names.items()})
    assert found.bundles == {name: str(path) for name, path in names.items()}
    assert set(found.hidden) == names.keys() - {"SSL_CERT_FILE"}


def test_other_variables_stay_outside(tmp_path: Path) -> None:
    """Nothing else of the environment is passed, and no exceptions from proxies without a proxy."""
    found = network_variables(tmp_path, {"TOKEN": "x", "no_proxy": "x", "https_proxy": ""})
    assert (found.proxies, found.bundles) == ({}, {})
