"""The exchange of one cell: what it holds of the files of `/in`, and for how long."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.options import run_options
from nbcontainer.errors import UsageError, ValueUnavailable
from nbcontainer.runs.value_exchange import connect
from nbcontainer.sandbox.spec import NamedVolume, Tmpfs
from nbcontainer.values import received
from nbcontainer.values.exchange import Exchange
from tests.running import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def sent(path: Path, **values: object) -> Exchange:
    """An exchange that has written its values to files in a directory."""
    exchange = Exchange(values, output=False)
    exchange.send([os.open(path / one.file, os.O_WRONLY | os.O_CREAT) for one in exchange.inputs])
    return exchange


def opened(path: Path) -> int:
    """How many descriptors of files in a directory this process has."""
    links = Path("/proc/self/fd").iterdir()
    return sum(link.is_symlink() and link.readlink().is_relative_to(path) for link in links)


def test_the_memory_of_a_cell_is_freed_after_it(tmp_path: Path) -> None:
    """One descriptor holds the memory until the task runs that `later` gets; the end of the exchange does not wait."""
    tasks: list[Callable[[], object]] = []
    exchange = sent(tmp_path, x="text", y=b"bytes")
    exchange.later = tasks.append
    exchange.close()
    exchange.close()
    assert (opened(tmp_path), len(tasks)) == (1, 1)
    tasks[0]()
    assert opened(tmp_path) == 0


def test_new_values_wait_for_the_memory_of_the_last_ones(tmp_path: Path) -> None:
    """Where no task has run yet, the next values are written when that memory is free."""
    first = sent(tmp_path, x="text")
    first.later = lambda _: None
    first.close()
    assert opened(tmp_path) == 1
    other = tmp_path / "other"
    other.mkdir()
    with sent(other, y="text"):
        assert opened(tmp_path) == opened(other) == 1
    assert opened(tmp_path) == 0


def test_without_a_background_the_memory_is_free_at_once(tmp_path: Path) -> None:
    """An exchange that has no `later` frees the memory when it is closed."""
    with sent(tmp_path, x="text"):
        assert opened(tmp_path) == 1
    assert opened(tmp_path) == 0


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Exchange]:
    """An exchange whose `/out` is a directory of this test."""
    with Exchange({}, output=True) as exchange:
        exchange.directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        yield exchange


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("x.txt", b"text", "text"),
        ("x.txt", b"", ""),
        ("x.json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("x.unknown", bytes(range(256)), bytes(range(256))),
        ("x.bin", b"b" * 300_000, b"b" * 300_000),
    ],
)
def test_a_copied_value_is_the_same(
    tmp_path: Path, output: Exchange, name: str, content: bytes, value: object, shared: bool
) -> None:
    """The value of a container that shares something is read from a copy."""
    (tmp_path / name).write_bytes(content)
    output.shared = shared
    assert output.get({"x": ""}) == {"x": value}


@pytest.mark.parametrize("shared", [True, False])
def test_a_copied_array_is_the_same(tmp_path: Path, output: Exchange, shared: bool) -> None:
    """NumPy reads it from a real file, in both cases."""
    array = np.arange(100_000, dtype=">i4").reshape(100, 1000)
    np.save(tmp_path / "x.npy", array)
    output.shared = shared
    found = output.get({"x": ""})["x"]
    assert found.dtype == array.dtype
    assert (found == array).all()


def test_a_copy_has_the_bytes_that_were_counted(tmp_path: Path) -> None:
    """What is added after the size was compared with the limit is not read, and a copy of a shorter file is shorter."""
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        for size, found in ((4, b"0123"), (10, b"0123456789"), (99, b"0123456789"), (0, b"")):
            with os.fdopen(received._copy(file.fileno(), size, "/out/file"), "rb") as made:
                assert made.read() == found
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with received.open_file(directory, "file", copied=True) as made:
            (tmp_path / "file").write_bytes(b"changed")
            assert made.read() == b"0123456789"
    finally:
        os.close(directory)


def test_a_copy_that_fails_leaves_no_descriptor(
    tmp_path: Path, output: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an error nor an interrupt does."""
    (tmp_path / "x.bin").write_bytes(b"data")
    before = open_descriptors()
    for error, seen in ((OSError(errno.ENOSPC, "full"), ValueUnavailable), (KeyboardInterrupt(), KeyboardInterrupt)):

        def fail(*_: object, error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr(os, "sendfile", fail)
        with pytest.raises(seen):
            output.get({"x": ""})
        assert open_descriptors() == before


@pytest.mark.parametrize(
    ("options", "shared"),
    [({}, False), ({"here": "rw"}, True), ({"network": "private"}, False), ({"network": "host"}, True)],
)
def test_who_shares_something_has_copied_values(options: dict[str, Any], shared: bool) -> None:
    """The notebook's directory is a volume, though it becomes one late."""
    with Exchange({}, output=True) as exchange:
        connect(exchange, run_options(options), Streams(print, print))
        assert exchange.shared is shared


def test_a_value_for_which_there_is_no_memory_is_an_error_of_a_line(
    output: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one without a codec."""
    (tmp_path / "x.unknown").touch()
    monkeypatch.setattr(received, "open_file", lambda *_, **__: io.BufferedReader(Full()))
    with pytest.raises(ValueUnavailable, match="not enough memory"):
        output.get({"x": ""})


class Full(io.RawIOBase):
    """A file that does not fit into the memory."""

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readall(self) -> bytes:
        """Fail."""
        raise MemoryError


@pytest.mark.parametrize("target", ["/in", "/out", "/in/data", "/out/a/b"])
@pytest.mark.parametrize("kind", ["volumes", "tmpfs", "named"])
def test_a_mount_in_the_place_of_values_is_refused(tmp_path: Path, kind: str, target: str) -> None:
    """It would be hidden, also below /in and /out: what the cell writes there would be lost."""
    one: dict[str, Any] = {
        "volumes": parse_volume(f"{tmp_path}:{target}"),
        "tmpfs": Tmpfs(target),
        "named": NamedVolume("data", target),
    }
    streams = Streams(lambda _: None, lambda _: None)
    with Exchange({}, output=True) as exchange:
        with pytest.raises(UsageError, match=f"no mount can be at {target};"):
            connect(exchange, run_options({kind: (one[kind],)}), streams)
        connect(exchange, run_options({"tmpfs": (Tmpfs("/output"),)}), streams)


@pytest.mark.parametrize(("name", "fits"), [("x" * 251, True), ("x" * 252, False), ("\u4e00" * 84, False)])
def test_a_name_that_is_too_long_for_a_file_is_refused(name: str, fits: bool) -> None:
    """With its suffix it has more than 255 bytes: no file can have it, so the error comes before the cell."""
    with contextlib.nullcontext() if fits else pytest.raises(UsageError, match="is too long for a file in /in"):
        Exchange({name: "text"}, output=False).close()


def test_a_directory_is_not_one_of_several_files(tmp_path: Path) -> None:
    """`--get x` reads the one file `/out/x.*` beside a directory `/out/x`; a directory alone is not a file."""
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    (tmp_path / "x.json").write_text("1")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert received.find(fd, "x") == "x.json"
        with pytest.raises(ValueUnavailable, match="it is not a regular file"):
            received.read(fd, received.find(fd, "y"))
    finally:
        os.close(fd)


def test_many_long_texts_are_not_all_variables() -> None:
    """A program that gets too many bytes of them cannot start: the first ones are variables, all are files."""
    with Exchange({f"v{number}": "\u20ac" * 4096 for number in range(180)}, output=False) as exchange:
        assert 0 < sum(len(text.encode()) for text in exchange.variables) <= 128 << 10
        assert exchange.variables[0].startswith("v0=")
        assert len(exchange.values.inputs) == 180


def test_the_files_that_were_hashed_are_those_that_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in memory, not in a directory for temporary files, and written once; a hit frees them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    value = ["first"]
    before = open_descriptors()
    with Exchange({"x": value, "y": "text", "z": np.arange(3)}, output=False) as exchange:
        digest = exchange.digest()
        assert digest == exchange.digest()
        value[0] = "second"
        exchange.send([os.open(tmp_path / one.file, os.O_WRONLY | os.O_CREAT) for one in exchange.inputs])
    assert (tmp_path / "x.json").read_text() == '["first"]'
    assert (tmp_path / "y.txt").read_text() == "text"
    assert np.load(tmp_path / "z.npy").tolist() == [0, 1, 2]
    with Exchange({"x": ["first"], "y": "text", "z": np.arange(3)}, output=False) as exchange:
        assert exchange.digest() == digest
    assert open_descriptors() == before
