"""What the words of -v and --tmpfs mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume, size_in_bytes, target_path
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.sandbox.spec import MOUNTS_LIMIT, Mounts, Tmpfs, Volume
from tests.requirements import require_plain_user

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("64m", 64 << 20),
        (" 64M ", 64 << 20),
        ("1.5g", 3 << 29),
        ("2t", 2 << 40),
        ("0.5k", 512),
        ("999999999999999", 999999999999999),
    ],
)
def test_a_size_in_bytes(text: str, size: int) -> None:
    """Sizes are in powers of 1024, with Docker's units."""
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1x", "1 m", "64MiB", "1e3", "0x10", ".5g", "1.g", "½", "٣", "9" * 400 + "t", "nan", "inf"]
)
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused with an example, also a number too long to be one."""
    with pytest.raises(UsageError, match="as in 64m"):
        size_in_bytes(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/data", "/data"),
        ("/data/", "/data"),
        ("//data//x/.", "/data/x"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("/process", "/process"),
        ("/device/proc", "/device/proc"),
        ("/a b:c", "/a b:c"),
        ("/ü", "/ü"),
    ],
)
def test_a_target_is_made_plain(text: str, plain: str) -> None:
    """A target is an absolute path without detours; what only begins like /proc is allowed."""
    assert target_path(text, "-v") == plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data", "is not absolute; start it with /"),
        ("", "is not absolute"),
        ("./data", "is not absolute"),
        ("/", "is /; mount below it"),
        ("//", "is /"),
        ("/a/..", "is /"),
        ("/a\0b", "NUL"),
        ("/proc", "own /proc"),
        ("/proc/1/attr", "own /proc"),
        ("//proc", "own /proc"),
        ("/./proc/", "own /proc"),
        ("/a/../proc/self", "own /proc"),
        ("/sys", "own /sys"),
        ("/sys/fs/cgroup", "own /sys"),
        ("/dev", "own /dev"),
        ("/dev/shm", "own /dev"),
    ],
)
def test_a_target_that_is_refused(text: str, words: str) -> None:
    """Relative targets, the root, and what is the container's own are refused, whichever way they are written."""
    with pytest.raises(UsageError) as raised:
        target_path(text, "-v")
    assert words in str(raised.value)
    assert "-v" in str(raised.value)
    assert raised.value.hint


def test_a_directory(tmp_path: Path) -> None:
    """SRC:DST is a writable volume, with the source's identity for the launcher to check."""
    facts = tmp_path.stat()
    found = parse_volume(f"{tmp_path}:/data")
    assert found == Volume(str(tmp_path.resolve()), "/data", False, True, facts.st_dev, facts.st_ino)


@pytest.mark.parametrize(("mode", "read_only"), [(":ro", True), (":rw", False), ("", False)])
def test_a_file_and_its_mode(tmp_path: Path, mode: str, read_only: bool) -> None:
    """A file is a volume too, read-only with `:ro`."""
    (tmp_path / "file").touch()
    found = parse_volume(f"{tmp_path}/file:/etc/file{mode}")
    assert (found.directory, found.read_only, found.target) == (False, read_only, "/etc/file")


def test_a_source_is_resolved_when_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, `~` and relative paths are the notebook's at that moment: what is mounted is what they led to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = str((tmp_path / "real").resolve())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("real", "./link", "link/../link", "~/link", f"{tmp_path}/link"):
        assert parse_volume(f"{source}:/d").source == real


@pytest.mark.parametrize(
    "text",
    ["", "/a", ":", "/a:", ":/b", "::", "/a:/b:", "/a:/b:ro:ro", "/a:/b:rx", "/a:/b:RO", "/a:/b:ro,z", "\0:/b"],
)
def test_what_is_no_volume(text: str) -> None:
    """Words of another form are refused with the form, before anything is looked at."""
    with pytest.raises(UsageError) as raised:
        parse_volume(text)
    assert raised.value.hint


@pytest.mark.parametrize("name", ["none", "none/deeper", "file/below", "dangling"])
def test_a_source_that_is_not_there(tmp_path: Path, name: str) -> None:
    """A missing source is not made, as Docker would as root: the error says how to make it."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ContainerError, match="does not exist; `mkdir -p"):
        parse_volume(f"{tmp_path}/{name}:/data")


def test_a_relative_source_that_is_not_there_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who means one of Docker's named volumes learns which directory was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContainerError) as raised:
        parse_volume("mydata:/data")
    assert f"{tmp_path.resolve()}/mydata' does not exist" in str(raised.value)


def test_a_source_that_may_not_be_looked_at(tmp_path: Path) -> None:
    """A source in a closed directory is an error about permissions."""
    require_plain_user()
    (tmp_path / "closed").mkdir(0o000)
    with pytest.raises(ContainerError, match="Permission denied"):
        parse_volume(f"{tmp_path}/closed/x:/data")


def test_a_link_in_a_circle_is_an_error_of_ours(tmp_path: Path) -> None:
    """A source that resolves to nothing is no traceback."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ContainerError):
        parse_volume(f"{tmp_path}/loop:/data")


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """A file's name is bytes: those that are no UTF-8 come through."""
    path = os.path.join(os.fsencode(tmp_path.resolve()), b"caf\xe9")  # noqa: PTH118 - bytes
    os.mkdir(path)  # noqa: PTH102
    assert os.fsencode(parse_volume(f"{os.fsdecode(path)}:/data").source) == path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/t", Tmpfs("/t")),
        ("/t/", Tmpfs("/t")),
        ("/t:size=64m", Tmpfs("/t", 64 << 20)),
        ("/t:", Tmpfs("/t")),
        ("/t:size=1k,size=2k", Tmpfs("/t", 2048)),
    ],
)
def test_a_tmpfs(text: str, found: Tmpfs) -> None:
    """DST and DST:size=N are memory, the kernel's default or N bytes of it."""
    assert parse_tmpfs(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "t", "/", "/proc/x", "/dev/shm", "/t:mode=1", "/t:size", "/t:size=x", "/t:size=0", "/t:size=0.1", "/t:noexec"],
)
def test_what_is_no_tmpfs(text: str) -> None:
    """Other options, sizes that are none, and targets that are refused, each with a hint; no size means no limit."""
    with pytest.raises(UsageError) as raised:
        parse_tmpfs(text)
    assert raised.value.hint


def test_each_target_once() -> None:
    """Two mounts on one target are refused, be they volumes or memory; a mount below another is not."""
    Mounts((Volume("/a", "/x"), Volume("/a", "/x/y")), (Tmpfs("/z"),))
    cases: list[tuple[tuple[Volume, ...], tuple[Tmpfs, ...]]] = [
        ((Volume("/a", "/x"), Volume("/b", "/x")), ()),
        ((Volume("/a", "/x"),), (Tmpfs("/x"),)),
        ((), (Tmpfs("/x"), Tmpfs("/x"))),
    ]
    for volumes, memories in cases:
        with pytest.raises(UsageError, match="two mounts have the target /x"):
            Mounts(volumes, memories)


def test_not_more_mounts_than_descriptors_travel() -> None:
    """Each volume may be a descriptor on its way: more of them than a message takes are refused with another way."""
    Mounts(tuple(Volume("/a", f"/x{number}") for number in range(MOUNTS_LIMIT)))
    with pytest.raises(UsageError, match=r"too many volumes: 241 \(at most 240\); mount a directory above them"):
        Mounts(tuple(Volume("/a", f"/x{number}") for number in range(MOUNTS_LIMIT + 1)))
