"""From the words of a run to a request, option by option."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.options.limits import parse_seconds
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.options import RunOptions, run_options
from nbcontainer.errors import ContainerError, NbcontainerError, UsageError
from nbcontainer.sandbox.cgroups.group import UNLIMITED, GroupLimits
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES, DEFAULT_LIMITS, Limit
from nbcontainer.sandbox.networking import Port
from nbcontainer.sandbox.spec import NamedVolume, Tmpfs, Volume
from tests.running import open_descriptors

if TYPE_CHECKING:
    from pathlib import Path


FEWER_AND_ONE = tuple(sorted({*DEFAULT_CAPABILITIES, "NET_RAW"} - {"KILL"}))


def request(*words: str, **keywords: Any) -> Request:
    return request_of(parse(RUN, words), **keywords)


EVERYWHERE = Port("0.0.0.0", 53, 5353, "udp")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--tmpfs", "/tmp:size=64m"], {"tmpfs": (Tmpfs("/tmp", 64 << 20),)}),
        (["--tmpfs", "/a", "--tmpfs", "/b"], {"tmpfs": (Tmpfs("/a"), Tmpfs("/b"))}),
        (["--here"], {"here": "rw"}),
        (["--here=ro"], {"here": "ro"}),
        (["-e", "A=1", "--env=B=x=y"], {"env": ("A=1", "B=x=y")}),
        (["-e", "A="], {"env": ("A=",)}),
        (["-w", "/srv"], {"workdir": "/srv"}),
        (["--workdir=/srv"], {"workdir": "/srv"}),
        (["-u", "daemon:staff"], {"user": "daemon:staff"}),
        (["--user", "33"], {"user": "33"}),
        (["--group-add", "audio", "--group-add=44"], {"groups": ("audio", "44")}),
        (["--stop-signal", "int"], {"stop_signal": 2}),
        (["--net", "host"], {"network": "host"}),
        (["-l", "a=b"], {"labels": (("a", "b"),)}),
        (["--mount", "type=tmpfs,target=/x"], {"tmpfs": (Tmpfs("/x"),)}),
        (["-v", "data:/x"], {"named": (NamedVolume("data", "/x"),)}),
        (
            ["--cache-dir", "pip:/x"],
            {"named": (NamedVolume("cache-pip", "/x", copy=False, labels=(("nbcontainer.cache", "pip"),)),)},
        ),
        (["--hostname", "box"], {"hostname": "box"}),
        (["-h", "box"], {"hostname": "box"}),
        (["--timeout", "1.5"], {"timeout": 1.5}),
        (["--network", "host"], {"network": "host"}),
        (["--network=private", "-p", "8080:80"], {"network": "private", "ports": (Port("127.0.0.1", 8080, 80),)}),
        (
            ["-p8080:80", "--network", "private", "--publish=0.0.0.0:53:5353/udp"],
            {"network": "private", "ports": (Port("127.0.0.1", 8080, 80), EVERYWHERE)},
        ),
        (["--read-only"], {"read_only": True}),
        (["--userns=host"], {"userns": "host"}),
        (["--security-opt", "no-new-privileges=false"], {"new_privileges": True}),
        (["--security-opt", "no-new-privileges:false"], {"new_privileges": True}),
        (["--security-opt", "no-new-privileges"], {"new_privileges": False}),
        (["--security-opt", "no-new-privileges=false", "--security-opt=no-new-privileges"], {"new_privileges": False}),
        (["--security-opt", "label=disable"], {"new_privileges": False}),
        (["--init"], {}),
        (["--explain"], {"explain": True}),
        (["--entrypoint", "cat"], {"entrypoint": "cat"}),
        (["--entrypoint="], {"entrypoint": ""}),
        (["--label", "a=b=c", "--label", "d"], {"labels": (("a", "b=c"), ("d", ""))}),
        (["--dns", "9.9.9.9", "--dns=2620:fe::0:fe"], {"dns": ("9.9.9.9", "2620:fe::fe")}),
        (
            ["--add-host", "db:10.0.0.7", "--add-host=db=10.0.0.8", "--add-host", "six:fd00::7", "--add-host=b:[::1]"],
            {"hosts": (("db", "10.0.0.7"), ("db", "10.0.0.8"), ("six", "fd00::7"), ("b", "::1"))},
        ),
        (["--platform", "linux/arm64"], {"platform": "linux/arm64"}),
        (["--pull", "never"], {"pull": "never"}),
        (["--cap-drop", "ALL"], {"capabilities": ()}),
        (["--cap-drop", "all", "--cap-add", "CAP_CHOWN"], {"capabilities": ("CHOWN",)}),
        (["--cap-add", "net_raw", "--cap-drop", "KILL"], {"capabilities": FEWER_AND_ONE}),
        (["-m", "64m"], {"cgroup_limits": GroupLimits(memory=64 << 20)}),
        (["-m64m", "--memory-swap", "1g"], {"cgroup_limits": GroupLimits(64 << 20, (1 << 30) - (64 << 20))}),
        (["-m", "1g", "--memory-swap=-1"], {"cgroup_limits": GroupLimits(1 << 30, UNLIMITED)}),
        (["--cpus", "1.5"], {"cgroup_limits": GroupLimits(cpus=1.5)}),
        (["--pids-limit", "100"], {"cgroup_limits": GroupLimits(pids=100)}),
        (["--pids-limit", "-1"], {"cgroup_limits": GroupLimits(pids=UNLIMITED)}),
        (["--ulimit", "nofile=10:20"], {"ulimits": (Limit("nofile", 10, 20),)}),
        (["--ulimit", "cpu=5", "--ulimit", "core=0"], {"ulimits": (Limit("cpu", 5, 5), Limit("core", 0, 0))}),
        (["--shm-size", "1m"], {"shm_size": 1 << 20}),
        (["--storage", "1g"], {"storage": 1 << 30}),
        (["--oom-score-adj", "500"], {"oom_score_adj": 500}),
        (["--oom-score-adj", "-1000"], {"oom_score_adj": -1000}),
        (["--oom-score-adj=+0"], {"oom_score_adj": 0}),
        (["--oom-score-adj="], {}),
    ],
)
def test_an_option_means_a_field(words: list[str], options: dict[str, Any]) -> None:
    """Each option sets its own field of the run and no other."""
    assert request("busybox", *words) == Request("busybox", options=run_options(options))


def test_every_option_is_tried_here() -> None:
    """No option is without a test: a new one fails here until it has a row."""
    tried = {
        "here",
        "identity",
        "explain",
        "cache",
        "toolbox",
        "tmpfs",
        "env",
        "workdir",
        "group-add",
        "stop-signal",
        "mount",
        "cache-dir",
        "user",
        "hostname",
        "timeout",
        "network",
        "publish",
        "read-only",
        "untrusted",
        "userns",
        "pull",
        "platform",
        "add-host",
        "dns",
        "label",
        "entrypoint",
        "init",
        "cap-add",
        "cap-drop",
        "security-opt",
        "memory",
        "memory-swap",
        "cpus",
        "pids-limit",
        "ulimit",
        "shm-size",
        "storage",
        "oom-score-adj",
    }
    assert {option.name for option in RUN_OPTIONS} == tried | {"volume", "name", "rm", "env-file"}


def test_what_is_asked_for_takes_the_place_of_the_usual() -> None:
    """A limit of each process that is asked for, and the one of processes where all together have one."""
    usual = {limit.name: limit for limit in DEFAULT_LIMITS}
    assert RunOptions().resources.process_limits == DEFAULT_LIMITS
    asked = {limit.name: limit for limit in request("busybox", "--ulimit", "nofile=7").options.resources.process_limits}
    assert asked == usual | {"nofile": Limit("nofile", 7, 7)}
    for pids in ("100", "-1"):
        left = request("busybox", "--pids-limit", pids).options.resources.process_limits
        assert {limit.name for limit in left} == usual.keys() - {"nproc"}


def test_the_rest_of_the_words_are_the_run() -> None:
    """IMAGE, --name, --rm and COMMAND are the request's own; a body is its script."""
    assert request("-t", "busybox", "--name", "dev", "--rm", "ls", "-l", script="x") == Request(
        "busybox", "dev", ("ls", "-l"), "x", remove=True, options=run_options({"terminal": True})
    )
    assert request() == Request()


def test_volumes_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative source, one through `~` and one through a link all name the same directory of the host."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path.resolve() / "data"
    place.mkdir()
    (tmp_path / "link").symlink_to("data")
    facts = place.stat()
    for source in ("./data", "~/data", "./link", str(place)):
        (found,) = request("busybox", "-v", f"{source}:/d:ro").options.mounts.volumes
        assert replace(found, links=()) == Volume(str(place), "/d", True, True, facts.st_dev, facts.st_ino)
        assert [link.path for link in found.links] == ([f"{place.parent}/link"] if source == "./link" else [])


def test_a_variable_without_a_value_is_the_notebooks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-e NAME` passes on what the notebook has; where it has none, the image's variable is removed, as with Docker."""
    monkeypatch.setenv("NBC_HERE", "a b")
    monkeypatch.delenv("NBC_GONE", raising=False)
    assert request("busybox", "-e", "NBC_HERE", "-e", "NBC_GONE").options.process.env == (
        "NBC_HERE=a b",
        "NBC_GONE",
    )


def test_env_files_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of variables has comments, blank lines and names to pass on, and options come after it and win."""
    monkeypatch.setenv("NBC_HERE", "mine")
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\n  B=two words \nNBC_HERE\nC=#kept\n", encoding="utf-8")
    env = request("busybox", "-e", "A=2", "--env-file", str(file)).options.process.env
    assert env == ("A=1", "B=two words ", "NBC_HERE=mine", "C=#kept", "A=2")


@pytest.mark.parametrize(
    ("data", "env"),
    [
        (b"A=1\nC= spaced \n", ("A=1", "C= spaced ")),
        (b"A=1\r\nB=2\r\n", ("A=1", "B=2")),
        (b"A=1\r", ("A=1",)),
        (b"\xef\xbb\xbfA=1", ("A=1",)),
        (b"A='q' \"r\"", ("A='q' \"r\"",)),
        (b" \t# comment\n\tA=1", ("A=1",)),
        (b"A=1 # kept\nB=", ("A=1 # kept", "B=")),
        (b"A=x\x0cy\xc2\x85z\xe2\x80\xa8", ("A=x\x0cy\x85z\u2028",)),
        (b"NBC_GONE\nA==", ("A==",)),
        (b"a.b-c=1", ("a.b-c=1",)),
        (b"", ()),
    ],
)
def test_a_line_of_an_env_file_is_read_as_docker_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, env: tuple[str, ...]
) -> None:
    """White space after a value, quotes and # belong to it; a mark of the byte order and carriage returns do not."""
    monkeypatch.delenv("NBC_GONE", raising=False)
    file = tmp_path / "env"
    file.write_bytes(data)
    assert request("busybox", "--env-file", str(file)).options.process.env == env


@pytest.mark.parametrize("line", ["=1", "export A=1", "A =1", "A\t=1", "A B", "A=\0"])
def test_a_line_of_an_env_file_that_is_no_variable(tmp_path: Path, line: str) -> None:
    """It is named with its number."""
    file = tmp_path / "env"
    file.write_text(f"OK=1\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot read --env-file: .*:2: invalid variable .*; write NAME=value"):
        request("busybox", "--env-file", str(file))


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("90", 90.0), ("1.5", 1.5), ("90s", 90.0), ("2m", 120.0), ("1h", 3600.0), (".5m", 30.0), ("1e2", 100)],
)
def test_time_limits_have_units(text: str, value: float | None) -> None:
    """Seconds, or a number of seconds, minutes or hours."""
    assert parse_seconds(text) == value


@pytest.mark.parametrize(
    "text", ["0", "-1", "x", "1d", "s", "inf", "nan", "1 2", "1_0x", "5ms", "1m30s", "1_0", "\u0663", " 7"]
)
def test_what_is_no_time_limit(text: str) -> None:
    """Nothing, negative, endless and words are refused with the forms that are known."""
    with pytest.raises(UsageError) as raised:
        parse_seconds(text)
    assert str(raised.value) == f"invalid time limit '{text}' for --timeout; write seconds, or 90s, 5m, 1h"


@pytest.mark.parametrize("text", ["1000000001", "1e30", "300000h"])
def test_a_time_limit_has_a_limit(text: str) -> None:
    """The kernel and Python take no times without end."""
    with pytest.raises(UsageError) as raised:
        parse_seconds(text)
    assert str(raised.value) == f"invalid time limit '{text}' for --timeout; write 1000000000 or less, or leave it out"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--cap-add", "chow"], UsageError, "unknown capability 'chow' for --cap-add; did you mean CHOWN"),
        (["--cap-drop", "x"], UsageError, "unknown capability 'x' for --cap-drop; see capabilities(7)"),
        (["--cap-drop", "KILL", "--cap-add", "kill"], UsageError, "KILL is both added and dropped"),
        (["-m", "x"], UsageError, "invalid size 'x'; write a number with b, k, m or g"),
        (["-m", "1m"], UsageError, "-m 1m is too small to start a container; write 6m or more"),
        (["--memory-swap", "1g"], UsageError, "--memory-swap is the sum of memory and swap; add -m"),
        (["-m", "2g", "--memory-swap", "1g"], UsageError, "--memory-swap 1073741824 is less than -m 2147483648"),
        (["--cpus", "0"], UsageError, "invalid number of processors '0' for --cpus; write 0.01 or more"),
        (["--cpus", "nan"], UsageError, "invalid number of processors 'nan' for --cpus"),
        (["--cpus", "1_0"], UsageError, "invalid number of processors '1_0' for --cpus"),
        (["--cpus", "\u0663"], UsageError, "invalid number of processors '\u0663' for --cpus"),
        (["--cpus", "two"], UsageError, "invalid number of processors 'two' for --cpus"),
        (
            ["--pids-limit", "-2"],
            UsageError,
            "invalid number of processes '-2' for --pids-limit; write a number",
        ),
        (["--pids-limit", "1"], UsageError, "--pids-limit 1 is too small to start a container; write 2 or more"),
        (["--pids-limit", "\u0663"], UsageError, "invalid number of processes '\u0663' for --pids-limit"),
        (["--pids-limit", "many"], UsageError, "invalid number of processes 'many' for --pids-limit"),
        *(
            (
                ["--oom-score-adj", text],
                UsageError,
                f"invalid value '{text}' for --oom-score-adj; write a number from -1000 to 1000",
            )
            for text in ("1001", "-1001", "high", "1.5", "1_0", " 7", "-", "9" * 5000)
        ),
        (["--ulimit", "nofile"], UsageError, "invalid limit 'nofile' for --ulimit; write --ulimit NAME=SOFT[:HARD]"),
        (["--ulimit", "files=1"], UsageError, "invalid limit 'files=1' for --ulimit"),
        (["--ulimit", "nofile=x"], UsageError, "invalid number in --ulimit nofile=x"),
        (["--ulimit", "nofile=\u0663"], UsageError, "invalid number in --ulimit nofile=\u0663"),
        (["--ulimit", "nofile=2:1"], UsageError, "--ulimit nofile=2:1: the soft limit is above the hard limit"),
        (
            ["--ulimit", "nofile=99999999999"],
            UsageError,
            "--ulimit nofile=99999999999 is above this notebook's own limit of",
        ),
        (["--storage", "9k"], UsageError, "--storage 9k is too small to start a container; write 1m or more"),
        (["--shm-size", "0"], UsageError, "--shm-size must be greater than 0; write a size, as in 256m"),
        (["-v", "data"], UsageError, "invalid volume 'data': expected SRC:DST[:ro]; write -v SRC:DST"),
        (["-v", ":/x"], UsageError, "invalid volume ':/x'"),
        (["-v", "/tmp:"], UsageError, "invalid volume '/tmp:'"),
        (["-v", "/tmp:/x:ro:z"], UsageError, "invalid volume '/tmp:/x:ro:z'"),
        (["-v", "/tmp:/x:rx"], UsageError, "unknown mount option 'rx' in '/tmp:/x:rx'; write ro or rw"),
        (["-v", "/no/such:/x"], ContainerError, "the volume's source '/no/such' does not exist; `mkdir -p /no/such`"),
        (["-v", "/etc/passwd/x:/x"], ContainerError, "cannot use the volume's source '/etc/passwd/x': Not a "),
        (["-v", "/tmp\0:/x"], UsageError, "invalid path '/tmp\\x00'"),
        (["-v", "/tmp:/x\0"], UsageError, "the target of -v contains a NUL character"),
        (["-v", "~nobody-at-all/x:/x"], UsageError, "no such user: 'nobody-at-all'"),
        (["-v", "/tmp:x"], UsageError, "the target 'x' of -v is not absolute; start it with /"),
        (["-v", "/tmp:/"], UsageError, "the target of -v is /; mount below it"),
        (["-v", "/tmp:/x/../.."], UsageError, "the target of -v is /"),
        (["-v", "/tmp:/proc/1/attr"], UsageError, "cannot mount -v at '/proc/1/attr': the container needs its own"),
        (["-v", "/tmp:/x/../sys"], UsageError, "cannot mount -v at '/sys': the container needs its own /sys"),
        (["-v", "/tmp://dev/shm"], UsageError, "cannot mount -v at '/dev/shm': the container needs its own /dev"),
        (["--tmpfs", "x"], UsageError, "the target 'x' of --tmpfs is not absolute"),
        (["--tmpfs", "/x:size=much"], UsageError, "invalid size 'much'; write a number with b, k, m or g"),
        (["--tmpfs", "/x:nosuch=1"], UsageError, "unknown option 'nosuch=1' of --tmpfs"),
        (["-h", "a b"], UsageError, "invalid host name 'a b' for --hostname; use up to 64 letters"),
        (["-h", "-x"], UsageError, "invalid host name '-x'"),
        (["-h", "x" * 65], UsageError, "invalid host name 'xxx"),
        (["--hostname=a\nb"], UsageError, "invalid host name 'a\\nb'"),
        (["--group-add", ""], UsageError, "invalid group '' for --group-add; write a name or a number"),
        (["--group-add", "keep-groups"], UsageError, "unsupported group 'keep-groups'"),
        (["--stop-signal", "SIGNONE"], UsageError, "unknown signal 'SIGNONE' for --stop-signal"),
        (["--stop-signal", "SIGRTMIN+3"], UsageError, "unsupported signal 'SIGRTMIN+3' for --stop-signal: init does"),
        (["--label", "=1"], UsageError, "invalid label '=1'; write NAME=value, or NAME"),
        (["--dns", "one"], UsageError, "invalid IP address 'one' for --dns; write one, as in 9.9.9.9"),
        (["--add-host", "db"], UsageError, "invalid host 'db' for --add-host; write NAME:IP"),
        (["--add-host", ":::1"], UsageError, "invalid host ':::1' for --add-host; write NAME:IP"),
        (["--add-host", "a b:1.1.1.1"], UsageError, "invalid host 'a b:1.1.1.1' for --add-host"),
        (["--add-host", "a:fe80::1%x\n6.6.6.6 b"], UsageError, "invalid IP address"),
        (["--add-host", "a\x1b:1.1.1.1"], UsageError, "invalid host"),
        (["--add-host", "\udcff:1.1.1.1"], UsageError, "invalid host"),
        (["--dns", "fe80::1%x y"], UsageError, "invalid IP address"),
        (["--add-host", "a\n:1.1.1.1"], UsageError, "invalid host 'a\\n:1.1.1.1' for --add-host"),
        (["--add-host", "db:10.0.0"], UsageError, "invalid IP address '10.0.0' for --add-host; write one"),
        (["--add-host", "db:host-gateway"], UsageError, "--add-host cannot use host-gateway: the host is out of reach"),
        (["-e", "=1"], UsageError, "invalid environment variable '=1'; write NAME=value"),
        (["-e", ""], UsageError, "invalid environment variable ''"),
        (["--env-file", "/no/such"], UsageError, "cannot read --env-file '/no/such': No such file or directory; write"),
        (["--env-file", ""], UsageError, "invalid path ''; write one"),
        (["--env-file", "/"], UsageError, "cannot read --env-file '/': Is a directory; write the path of a text file"),
        (["--timeout", "soon"], UsageError, "invalid time limit 'soon' for --timeout"),
    ],
)
def test_bad_values_are_refused(words: list[str], error: type[NbcontainerError], message: str) -> None:
    """What cannot be meant is refused before anything starts, in one line with the next step."""
    with pytest.raises(error) as raised:
        request("busybox", *words)
    assert str(raised.value).startswith(message)
    assert raised.value.hint
    assert "\n" not in str(raised.value)


def test_no_descriptor_of_an_env_file_stays_open(tmp_path: Path) -> None:
    """What cannot be read is closed, too: a directory, which can be opened."""
    (tmp_path / "env").write_text("A=1\n")
    before = open_descriptors()
    request("busybox", "--env-file", f"{tmp_path}/env")
    with pytest.raises(UsageError, match="Is a directory"):
        request("busybox", "--env-file", str(tmp_path))
    assert open_descriptors() == before


def test_an_env_file_that_is_no_text(tmp_path: Path) -> None:
    """A file of bytes that are no text is refused, and named."""
    file = tmp_path / "env"
    file.write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(UsageError, match="cannot read --env-file"):
        request("busybox", "--env-file", os.fspath(file))
