"""The options of a failed cell that its record has for `debug`."""

from __future__ import annotations

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.commands.options.untrusted import STORAGE
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers.history.cell_options import KNOWN, options_of, parsed, to_json

VALUE = "a record has the values that it makes: of volume, tmpfs or env"
DEBUG = "debug decides it: which container, which image, and what becomes of them"
LIMIT = "a limit, which the shell does not see until it reaches it"
RIGHT = "a right, which the user gives to debug again"
SHELL = "debug runs its own program"

NOT_REPLAYED = {
    "mount": VALUE,
    "cache-dir": VALUE,
    "here": VALUE,
    "env-file": VALUE,
    "name": DEBUG,
    "label": DEBUG,
    "rm": DEBUG,
    "platform": DEBUG,
    "pull": DEBUG,
    "toolbox": DEBUG,
    "cache": DEBUG,
    "explain": DEBUG,
    "memory": LIMIT,
    "memory-swap": LIMIT,
    "cpus": LIMIT,
    "pids-limit": LIMIT,
    "ulimit": LIMIT,
    "shm-size": LIMIT,
    "storage": LIMIT,
    "oom-score-adj": LIMIT,
    "timeout": LIMIT,
    "cap-add": RIGHT,
    "cap-drop": RIGHT,
    "security-opt": RIGHT,
    "userns": RIGHT,
    "publish": RIGHT,
    "identity": RIGHT,
    "entrypoint": SHELL,
    "stop-signal": SHELL,
    "init": "it changes nothing",
}
"""By the options that a record does not have: the reason."""


ROWS: list[tuple[str, str, tuple[str, ...]]] = [
    ("-e A=1 -e B=2", "env", ("A", "B")),
    ("--tmpfs /mem", "tmpfs", ("/mem",)),
    ("-v data:/data", "volume", ("data:/data:ro,nocopy",)),
    ("-u 1000", "user", ("1000",)),
    ("-w /srv", "workdir", ("/srv",)),
    ("--group-add audio", "group-add", ("audio",)),
    ("-h box", "hostname", ("box",)),
    ("--network private", "network", ("private",)),
    ("--add-host db:10.0.0.7 --add-host v6:[::1]", "add-host", ("db=10.0.0.7", "v6=::1")),
    ("--dns 9.9.9.9", "dns", ("9.9.9.9",)),
    ("--read-only", "read-only", ("",)),
]
"""Options of a cell, and what its record has: a name with its values."""


def test_each_option_is_replayed_or_has_a_reason() -> None:
    """An option that changes what the shell of `debug` sees is in the record of a failed cell."""
    names = {option.name for option in RUN_OPTIONS}
    new = sorted(names - KNOWN - set(NOT_REPLAYED))
    assert not new, (
        "if the shell of debug sees the effect (user, directory, names, mounts, network), add these to KNOWN in "
        f"cell_options.py, or else to NOT_REPLAYED with a reason: {', '.join(new)}"
    )
    assert names == KNOWN | set(NOT_REPLAYED)
    assert not KNOWN & set(NOT_REPLAYED)


def test_an_untrusted_cell_is_untrusted_in_debug() -> None:
    """Its record has the option, with those that it sets and that `debug` replays."""
    found = dict(options_of(request_of(parse(RUN, ["--untrusted", "busybox"])).options))
    assert found == {"untrusted": ("",), "read-only": ("",), "tmpfs": (f"/tmp:size={STORAGE}",)}


@pytest.mark.parametrize(("line", "name", "values"), ROWS)
def test_an_option_is_in_the_record(line: str, name: str, values: tuple[str, ...]) -> None:
    """It is written as a user writes it, and read again."""
    found = options_of(request_of(parse(RUN, [*line.split(), "busybox"])).options)
    assert dict(found) == {name: values}
    assert parsed(to_json(found)) == found


def test_each_known_option_is_tried() -> None:
    """The table of the test above has all names."""
    assert {name for _, name, _ in ROWS} | {"untrusted"} == KNOWN


def test_what_is_recorded_can_be_given_again() -> None:
    """`debug` parses the recorded values as those of its own options."""
    line = ["--add-host", "v6:[::1]", "--dns", "9.9.9.9", "-h", "box", "--group-add", "audio", "busybox"]
    found = options_of(request_of(parse(RUN, line)).options)
    words = [word for name, values in found for value in values for word in (f"--{name}", value)]
    assert options_of(request_of(parse(RUN, [*words, "busybox"])).options) == found
