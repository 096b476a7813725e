"""The words of `-p/--publish`: Docker's grammar, one line for what is wrong with them."""

from __future__ import annotations

import re

import pytest

from nbcontainer.commands.options.ports import parse_port
from nbcontainer.containers.options import run_options
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.networking import Port


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", Port("127.0.0.1", 8080, 80, "tcp")),
        ("8080:80/tcp", Port("127.0.0.1", 8080, 80, "tcp")),
        ("53:5353/udp", Port("127.0.0.1", 53, 5353, "udp")),
        ("0.0.0.0:1:65535", Port("0.0.0.0", 1, 65535, "tcp")),
        ("192.0.2.7:8080:80/udp", Port("192.0.2.7", 8080, 80, "udp")),
        ("80:80/TCP", Port("127.0.0.1", 80, 80, "tcp")),
    ],
)
def test_a_port_is_read(text: str, port: Port) -> None:
    """An address comes first, 127.0.0.1 where none does; then the host's port, the container's, the protocol."""
    assert parse_port(text) == port
    assert parse_port(str(port)) == port


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "one of the two ports is missing"),
        ("80", "one of the two ports is missing"),
        (":80", "one of the two ports is missing"),
        ("80:", "invalid port ''"),
        ("0:80", "invalid port '0' (1 to 65535)"),
        ("80:0", "invalid port '0'"),
        ("80:65536", "invalid port '65536'"),
        ("99999:80", "invalid port '99999'"),
        ("web:80", "invalid port 'web'"),
        ("-1:80", "invalid port '-1'"),
        ("+1:80", "invalid port '+1'"),
        (" 1:80", "invalid port ' 1'"),
        ("٨٠:80", "invalid port '٨٠'"),
        ("80-90:80-90", "'80-90' is a range, and a port is expected"),
        ("80:80-", "invalid port '80-'"),
        ("127.0.0.1:80", "one of the two ports is missing"),
        ("0.0.0.0:80/udp", "one of the two ports is missing"),
        ("80:80/sctp", "unknown protocol 'sctp'"),
        ("80:80/", "unknown protocol ''"),
        ("localhost:8080:80", "invalid IPv4 address 'localhost'"),
        ("1.2.3:8080:80", "invalid IPv4 address '1.2.3'"),
        ("1.2.3.256:8080:80", "invalid IPv4 address '1.2.3.256'"),
        (":8080:80", "invalid IPv4 address ''"),
        ("[::1]:8080:80", "ports are published at IPv4 addresses only"),
        ("::1:8080:80", "ports are published at IPv4 addresses only"),
        ("[127.0.0.1]:8080:80", "ports are published at IPv4 addresses only"),
        ("1:2:3:4", "invalid IPv4 address '1:2'"),
    ],
)
def test_what_is_no_port_is_named(text: str, why: str) -> None:
    """In one line, with the words that were given and what to write instead."""
    with pytest.raises(UsageError, match=re.escape(f"--publish {text}: {why}")) as raised:
        parse_port(text)
    assert raised.value.hint
    assert "\n" not in str(raised.value)


WEB = Port("127.0.0.1", 8080, 80)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (
            "none",
            "--publish cannot be used with --network none: ",
        ),
        (
            "host",
            "--publish cannot be used with --network host: ",
        ),
    ],
)
def test_ports_are_a_private_networks(network: str, why: str) -> None:
    """With another network there is nothing to publish, and it says why."""
    with pytest.raises(UsageError, match=re.escape(why)):
        run_options({"network": network, "ports": (WEB,)})
    run_options({"network": network})
    run_options({"network": "private", "ports": (WEB,)})


def test_a_port_of_the_hosts_is_named_once() -> None:
    """Twice it could only lead to one place; by another protocol it is another port."""
    with pytest.raises(UsageError, match="--publish names port 8080/tcp twice"):
        run_options({"network": "private", "ports": (WEB, Port("0.0.0.0", 8080, 81))})
    run_options({"network": "private", "ports": (WEB, Port("127.0.0.1", 8080, 80, "udp"))})


def test_root_without_a_user_namespace_has_no_private_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What carries it would be root on the host."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UsageError, match="--network private requires a user namespace; remove --userns=host"):
        run_options({"network": "private", "userns": "host"})


def test_an_unknown_network_is_told_of_the_known_ones() -> None:
    """All three."""
    with pytest.raises(UsageError, match="unknown network 'bridge' for --network; choose one of none, host, private"):
        run_options({"network": "bridge"})
