"""The words of `-p/--publish`: Docker's grammar, one line for what is wrong with them."""

from __future__ import annotations

import re

import pytest

from nbcontainer.commands.options.ports import parse_port
from nbcontainer.containers.options import RunOptions, check_options
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.spec import Port


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", Port("127.0.0.1", 8080, 80, "tcp")),
        ("8080:80/tcp", Port("127.0.0.1", 8080, 80, "tcp")),
        ("53:5353/udp", Port("127.0.0.1", 53, 5353, "udp")),
        ("0.0.0.0:1:65535", Port("0.0.0.0", 1, 65535, "tcp")),
        ("192.0.2.7:8080:80/udp", Port("192.0.2.7", 8080, 80, "udp")),
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
        ("80:", "nothing is no port"),
        ("0:80", "0 is no port from 1 to 65535"),
        ("80:0", "0 is no port"),
        ("80:65536", "65536 is no port"),
        ("99999:80", "99999 is no port"),
        ("web:80", "web is no port"),
        ("-1:80", "-1 is no port"),
        ("+1:80", "+1 is no port"),
        (" 1:80", " 1 is no port"),
        ("٨٠:80", "٨٠ is no port"),
        ("80-90:80-90", "80-90 is no port"),
        ("80:80/sctp", "sctp is neither tcp nor udp"),
        ("80:80/", "nothing is neither tcp nor udp"),
        ("80:80/TCP", "TCP is neither"),
        ("localhost:8080:80", "localhost is no IPv4 address"),
        ("1.2.3:8080:80", "1.2.3 is no IPv4 address"),
        ("1.2.3.256:8080:80", "1.2.3.256 is no IPv4 address"),
        (":8080:80", "nothing is no IPv4 address"),
        ("[::1]:8080:80", "ports are published at IPv4 addresses alone"),
        ("::1:8080:80", "::1 is no IPv4 address"),
        ("1:2:3:4", "1:2 is no IPv4 address"),
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
        ("none", "--publish with --network none: nothing leads into the container; add --network private"),
        ("host", "--publish with --network host: its ports are the host's already; leave --publish out"),
    ],
)
def test_ports_are_a_private_networks(network: str, why: str) -> None:
    """With another network there is nothing to publish, and it says why."""
    with pytest.raises(UsageError, match=re.escape(why)):
        check_options(RunOptions(network=network, ports=(WEB,)))
    check_options(RunOptions(network=network))
    check_options(RunOptions(network="private", ports=(WEB,)))


def test_a_port_of_the_hosts_is_named_once() -> None:
    """Twice it could only lead to one place; by another protocol it is another port."""
    with pytest.raises(UsageError, match="--publish names port 8080/tcp twice"):
        check_options(RunOptions(network="private", ports=(WEB, Port("0.0.0.0", 8080, 81))))
    check_options(RunOptions(network="private", ports=(WEB, Port("127.0.0.1", 8080, 80, "udp"))))


def test_root_without_a_user_namespace_has_no_private_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What carries it would be root on the host."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UsageError, match="--network private needs a user namespace; leave out --userns=host"):
        check_options(RunOptions(network="private", userns="host"))


def test_an_unknown_network_is_told_of_the_known_ones() -> None:
    """All three."""
    with pytest.raises(UsageError, match="--network bridge is not known; choose one of none, host, private"):
        check_options(RunOptions(network="bridge"))
