"""`--untrusted`: what it sets, and what contradicts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.option_fields import fields_of_keywords
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.networking import Network
from nbcontainer.sandbox.spec import Tmpfs

if TYPE_CHECKING:
    from nbcontainer.containers.options import RunOptions


def options(*words: str) -> RunOptions:
    """The options of a run with `--untrusted` and these."""
    return request_of(parse(RUN, ["--untrusted", *words, "busybox"])).options


def test_it_sets_all_that_it_promises() -> None:
    """No network, no capability, a root that is read-only, and each limit."""
    found = options()
    assert found.untrusted
    assert found.networking.network == Network.NONE
    assert found.privileges.capabilities == ()
    assert (found.mounts.read_only, found.mounts.image_volumes) == (True, False)
    assert found.mounts.tmpfs == (Tmpfs("/tmp", 256 << 20),)
    limits = found.resources.cgroup_limits
    assert (limits.memory, limits.pids, limits.swap) == (1 << 30, 256, None)
    assert (found.resources.storage, found.timeout) == (256 << 20, 60.0)


def test_a_limit_of_the_users_takes_the_place_of_its_own() -> None:
    """More or less of each, and a /tmp of one's own."""
    found = options("-m", "2g", "--pids-limit", "9", "--storage", "1m", "--timeout", "5m", "--tmpfs", "/tmp:size=7m")
    limits = found.resources.cgroup_limits
    assert (limits.memory, limits.pids, found.resources.storage, found.timeout) == (2 << 30, 9, 1 << 20, 300.0)
    assert found.mounts.tmpfs == (Tmpfs("/tmp", 7 << 20),)


@pytest.mark.parametrize(
    "words",
    [
        ("-v", "/etc:/x"),
        ("-v", "data:/x"),
        ("-v", "/x"),
        ("--mount", "type=bind,source=/etc,target=/x"),
        ("--mount", "type=volume,target=/x"),
        ("--cache-dir", "pip:/x"),
        ("--here",),
        ("--here=ro",),
        ("--identity",),
        ("--network", "host"),
        ("--network", "private"),
        ("-p", "8000:80"),
        ("--userns", "host"),
        ("--cap-add", "NET_RAW"),
        ("--pids-limit", "-1"),
        ("-m", "1g", "--memory-swap", "-1"),
    ],
)
def test_an_option_that_contradicts_it_is_one_error(words: tuple[str, ...]) -> None:
    """The line names the option, and what to remove."""
    with pytest.raises(UsageError) as raised:
        options(*words)
    assert str(raised.value).startswith("--untrusted cannot be combined with -")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "words", [("--network", "none"), ("--mount", "type=tmpfs,target=/x"), ("--tmpfs", "/x"), ("-e", "A=1")]
)
def test_other_options_stay(words: tuple[str, ...]) -> None:
    """What gives the run nothing of the host is no contradiction."""
    assert options(*words).untrusted


def test_python_has_it() -> None:
    """A keyword, with the same errors."""
    assert fields_of_keywords({"untrusted": True})["untrusted"]
    assert not fields_of_keywords({"untrusted": False}).get("read_only")
    with pytest.raises(UsageError, match="cannot be combined with -v"):
        fields_of_keywords({"untrusted": True, "volumes": {"/etc": "/x"}})
