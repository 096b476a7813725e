"""openat2(2) in a directory of the test's own, and what file systems keep."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux import files
from nbcontainer.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    birth_time,
    data_grains,
    keeps_attributes,
    openat2,
)
from tests.requirements import require_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_the_same_content_has_the_same_grains_however_it_is_stored(tmp_path: Path) -> None:
    """Zeros that are written and holes are both left out, and the rest has its offset."""
    content = b"a" + bytes(5 << 20) + b"b" * (70 << 10)
    (tmp_path / "written").write_bytes(content)
    with (tmp_path / "holes").open("wb") as file:
        file.write(b"a")
        file.seek(1 + (5 << 20))
        file.write(b"b" * (70 << 10))
    found = []
    for name in ("written", "holes"):
        with (tmp_path / name).open("rb") as file:
            found.append([*data_grains(file.fileno(), len(content))])
    assert found[0] == found[1]
    assert [offset for offset, _ in found[0]] == [0, 5 << 20, (5 << 20) + (64 << 10)]
    rebuilt = bytearray(len(content))
    for offset, data in found[0]:
        rebuilt[offset : offset + len(data)] = data
    assert rebuilt == content


def test_a_file_without_data_and_one_that_shrank_have_no_grains_there(tmp_path: Path) -> None:
    """Neither a hole of terabytes nor bytes that are gone take time, or are an error."""
    with (tmp_path / "hole").open("wb+") as file:
        file.truncate(1 << 40)
        assert [*data_grains(file.fileno(), 1 << 40)] == []
        file.truncate(0)
        file.write(b"short")
        file.flush()
        assert [*data_grains(file.fileno(), 1 << 40)] == [(0, b"short")]


def test_a_file_has_a_time_of_birth_that_stays(tmp_path: Path) -> None:
    """The time is now, and no change of the file changes it; a file system that keeps none says 0."""
    before = time.time_ns()
    with (tmp_path / "file").open("w") as file:
        born = birth_time(file.fileno())
        file.write("text")
        file.flush()
        (tmp_path / "file").rename(tmp_path / "other")
        os.utime(tmp_path / "other", (0, 0))
        assert birth_time(file.fileno()) == born
    assert born == 0 or abs(born - before) < 10**9  # the kernel's clock ticks


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A directory with links that want out of it."""
    (tmp_path / "outside").write_text("outside")
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "outside").write_text("inside")
    (top / "up").symlink_to("../outside")
    (top / "far").symlink_to("../../../../../../../../outside")
    (top / "absolute").symlink_to("/outside")
    (top / "self").symlink_to("/proc/self/fd/0")
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(root: int, path: str | bytes, resolve: int) -> bytes:
    fd = openat2(root, path, os.O_RDONLY | os.O_CLOEXEC, resolve=resolve)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", ["outside", "/outside", "up", "far", "absolute", "../outside", "etc/../../outside"])
def test_nothing_leads_out_of_a_root(root: int, path: str) -> None:
    """With RESOLVE_IN_ROOT the directory is the root for links and for `..`: the file inside is what is read."""
    assert read(root, path, RESOLVE_IN_ROOT) == b"inside"


@pytest.mark.parametrize("path", ["up", "far", "absolute", "../outside"])
def test_what_wants_out_is_refused_beneath(root: int, path: str) -> None:
    """With RESOLVE_BENEATH the same paths are EXDEV."""
    with pytest.raises(OSError, match="openat2") as raised:
        read(root, path, RESOLVE_BENEATH)
    assert raised.value.errno == errno.EXDEV


def test_links_can_be_refused(root: int) -> None:
    """With RESOLVE_NO_SYMLINKS a link anywhere in the path is ELOOP."""
    with pytest.raises(OSError, match="openat2") as raised:
        read(root, "up", RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    assert (raised.value.errno, raised.value.filename) == (errno.ELOOP, "up")


def test_magic_links_can_be_refused() -> None:
    """A link of /proc that leads to an open file is none to be followed with RESOLVE_NO_MAGICLINKS."""
    with pytest.raises(OSError, match="openat2") as raised:
        openat2(-100, "/proc/self/fd/0", os.O_PATH | os.O_CLOEXEC, resolve=RESOLVE_NO_MAGICLINKS)
    assert raised.value.errno == errno.ELOOP


def test_other_file_systems_can_be_refused() -> None:
    """With RESOLVE_NO_XDEV a mount on the way is EXDEV."""
    with pytest.raises(OSError, match="openat2") as raised:
        openat2(-100, "/proc/self", os.O_PATH | os.O_CLOEXEC, resolve=RESOLVE_NO_XDEV)
    assert raised.value.errno == errno.EXDEV


def test_a_file_is_made_with_its_mode(root: int, tmp_path: Path) -> None:
    """Flags and mode are open(2)'s; a name may be bytes."""
    fd = openat2(root, b"caf\xe9", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(FileExistsError) as raised:
        openat2(root, b"caf\xe9", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    assert isinstance(raised.value.filename, str)


def test_attributes_are_tried_and_nothing_stays(tmp_path: Path) -> None:
    """What was tried is what the directory has no more, and one that may not be written is an error."""
    with contextlib.suppress(OSError):
        os.setxattr(tmp_path, "user.other", b"1")
    before = os.listxattr(tmp_path)
    assert keeps_attributes(str(tmp_path)) == bool(before)
    assert os.listxattr(tmp_path) == before
    with pytest.raises(FileNotFoundError):
        keeps_attributes(str(tmp_path / "gone"))


def test_proc_keeps_none() -> None:
    """A file system that has none says so."""
    require_root()
    assert not keeps_attributes("/proc")


@pytest.mark.parametrize(("flags", "calls"), [(0x81000, [0x40086602]), (0xA1000, [])], ids=["set", "is there"])
def test_the_flag_that_spreads_is_added_to_the_others(tmp_path: Path, flags: int, calls: list[int]) -> None:
    """The flags that a directory has stay; nothing is written if it has this one."""
    written: list[tuple[int, int]] = []

    def call(_: int, request: int, argument: bytes) -> bytes:
        if request == 0x80086601:
            return flags.to_bytes(4, sys.byteorder)
        written.append((request, int.from_bytes(argument, sys.byteorder)))
        return argument

    files.spread(str(tmp_path), call)
    assert written == [(request, flags | 0x20000) for request in calls]


def test_nothing_but_a_directory_is_spread(tmp_path: Path) -> None:
    """A link is not followed, and a file is not changed."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("link", "file", "missing"):
        with pytest.raises(OSError, match=name):
            files.spread(str(tmp_path / name))


RENAMES = """
import os, sys
one, other = sys.argv[1:]
print(flush=True)
while True:
    os.rename(one, other)
    os.rename(other, one)
"""


@pytest.mark.parametrize("resolve", [RESOLVE_BENEATH, RESOLVE_IN_ROOT])
def test_a_rename_elsewhere_disturbs_no_lookup(root: int, tmp_path: Path, resolve: int) -> None:
    """The kernel cannot tell whether `..` left the root while something was renamed: the lookup is made again."""
    (tmp_path / "elsewhere").mkdir()
    words = [sys.executable, "-c", RENAMES, str(tmp_path / "elsewhere"), str(tmp_path / "moved")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as renaming:
        try:
            assert renaming.stdout is not None
            renaming.stdout.readline()

            for _ in range(20_000):
                os.close(openat2(root, "etc/../outside", os.O_RDONLY, resolve=resolve))
        finally:
            renaming.kill()


@pytest.mark.parametrize(
    ("resolve", "disturbances", "tries"),
    [(RESOLVE_BENEATH, 3, 4), (RESOLVE_IN_ROOT, 3, 4), (RESOLVE_BENEATH, 10**6, 128), (RESOLVE_NO_SYMLINKS, 3, 1)],
)
def test_a_disturbed_lookup_is_made_again(
    monkeypatch: pytest.MonkeyPatch, resolve: int, disturbances: int, tries: int
) -> None:
    """Where a lookup may be disturbed, it is made up to 128 times; else EAGAIN has another reason."""
    seen: list[str] = []

    def call() -> int:
        seen.append("openat2")
        if len(seen) <= disturbances:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return 5

    monkeypatch.setattr(files, "prepared", lambda *_, **__: call)
    with contextlib.suppress(BlockingIOError):
        assert openat2(3, "a/../b", os.O_RDONLY, resolve=resolve) == 5
    assert len(seen) == tries
