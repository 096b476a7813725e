"""Archives that other programs read in another way are refused; those of real writers are read."""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.requirements import require
from tests.unit.images import tars
from tests.unit.images.layers import tar_listings, tar_mutants
from tests.unit.images.layers.tar_listings import by_us, difference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROUNDS = int(os.environ.get("NBCONTAINER_FUZZ_ROUNDS", "150"))
"""Archives that are accepted here and read by another program."""

SEED = int(os.environ.get("NBCONTAINER_FUZZ_SEED", "2026"))


def accepted(folder: Path, count: int) -> list[tuple[Path, tar_listings.Listing]]:
    """Makes odd archives at random until `count` of them are accepted; their files, and what this package reads."""
    random_ = random.Random(SEED)
    found: list[tuple[Path, tar_listings.Listing]] = []
    while len(found) < count:
        data = tar_mutants.archive(random_)
        ours = by_us(data)
        if not ours.error:
            path = folder / f"{len(found)}.tar"
            path.write_bytes(data)
            found.append((path, ours))
    return found


def check(archives: list[tuple[Path, tar_listings.Listing]], theirs: list[tar_listings.Listing]) -> None:
    """Fails for an archive that another program reads in another way."""
    for (path, ours), other in zip(archives, theirs, strict=True):
        assert not difference(ours, other), path


def test_gnu_tar_reads_what_we_read(tmp_path: Path) -> None:
    """For an archive that is accepted, GNU tar reads the same names, types, sizes and targets, or refuses it."""
    require("tar")
    archives = accepted(tmp_path, ROUNDS)
    check(archives, [tar_listings.by_gnu(path) for path, _ in archives])


def test_bsdtar_reads_what_we_read(tmp_path: Path) -> None:
    """The same for bsdtar, by its library."""
    require("bsdtar")
    archives = accepted(tmp_path, 4 * ROUNDS)
    check(archives, tar_listings.by_libarchive([path for path, _ in archives]))


def test_go_reads_what_we_read(tmp_path: Path) -> None:
    """The same for Go's archive/tar, which Docker, podman and umoci use."""
    require("go")
    archives = accepted(tmp_path, 4 * ROUNDS)
    check(archives, tar_listings.by_go(tar_listings.built_go(tmp_path), [path for path, _ in archives]))


def behind(data: bytes) -> bytes:
    """An archive that ends with `data`'s entry, and has another entry behind its end."""
    return tars.archive(data) + tars.archive(tars.entry(b"behind"))


SPARSE = {b"GNU.sparse.size": b"700", b"GNU.sparse.map": b"0,1"}

REFUSED = {
    "a hard link with a size, and an entry behind the end": behind(tars.hard_link(b"l", b"t", size=1024)),
    "a directory with a size": tars.archive(tars.directory(b"d", size=512), tars.entry(b"f")),
    "a directory with a size, and an entry behind the end": behind(tars.directory(b"d", size=1024)),
    "a symbolic link with a size": tars.archive(tars.symlink(b"l", b"t", size=512), tars.entry(b"f")),
    "a fifo with a size": tars.archive(tars.header(b"p", kind=tars.FIFO, size=512), tars.entry(b"f")),
    "a device with a size": tars.archive(tars.header(b"p", kind=tars.CHAR, size=512), tars.entry(b"f")),
    "a size of pax for a hard link": tars.archive(
        tars.pax({b"size": b"512"}) + tars.hard_link(b"l", b"t", magic=tars.GNU), tars.entry(b"f")
    ),
    "a file that ends with a slash": tars.archive(tars.entry(b"f/", b"x")),
    "a V7 directory with data": tars.archive(tars.entry(b"d/", tars.header(b"f"), kind=b"\0", magic=tars.V7)),
    "a zero byte before a size": tars.archive(tars.header(b"f", size=b"\0" + b"0" * 8 + b"512")),
    "a prefix in a format without one": tars.archive(tars.header(b"f", magic=b"ustar  x", prefix=b"p")),
    "a prefix in the place of GNU's times": tars.archive(tars.header(b"f", magic=tars.GNU, prefix=b"p")),
    "a prefix that runs into star's times": tars.archive(
        tars.header(b"f", prefix=b"p" * 131 + b"12345670123 12345670123 ", rest=b"4567\0\0\0\0tar\0")
    ),
    "a prefix without a name": tars.archive(tars.header(b"", prefix=b"p")),
    "an empty path": tars.archive(tars.pax({b"path": b""}), tars.entry(b"f")),
    "an empty GNU name": tars.archive(tars.gnu_long(b""), tars.entry(b"f")),
    "a GNU name with a zero byte": tars.archive(tars.gnu_long(b"a\0b"), tars.entry(b"f")),
    "a GNU name without an end": tars.archive(
        tars.entry(b"././@LongLink", b"a", kind=b"L", magic=tars.GNU), tars.entry(b"f")
    ),
    "two GNU names": tars.archive(tars.gnu_long(b"a"), tars.gnu_long(b"b"), tars.entry(b"f")),
    "a GNU target and an empty one": tars.archive(tars.gnu_long(b"t", kind=b"K"), tars.symlink(b"l", b"")),
    "a hard link to nothing": tars.archive(tars.hard_link(b"l", b"")),
    "a GNU name and a pax header": tars.archive(
        tars.pax({b"linkpath": b"t"}), tars.gnu_long(b"l"), tars.symlink(b"l", b"")
    ),
    "two pax headers, the second one empty": tars.archive(tars.pax({b"path": b"a"}), tars.pax(b""), tars.entry(b"f")),
    "a global header before its entry": tars.archive(
        tars.gnu_long(b"a"), tars.pax({b"comment": b"c"}, kind=b"g"), tars.entry(b"f")
    ),
    "a path in a header that is padded": tars.archive(tars.pax(tars.record(b"path", b"a") + b"\0"), tars.entry(b"f")),
    "a path behind a key with a zero byte": tars.archive(tars.pax({b"k\0": b"v", b"path": b"a"}), tars.entry(b"f")),
    "a size of star's": tars.archive(tars.pax({b"SCHILY.realsize": b"9"}), tars.entry(b"f", b"x")),
    "Solaris' extended header with a path": tars.archive(tars.pax({b"path": b"a"}, kind=b"X"), tars.entry(b"f")),
    "a sparse file's name and no map": tars.archive(tars.pax({b"GNU.sparse.name": b"a"}), tars.entry(b"f")),
    "a sparse file's size and no map": tars.archive(tars.pax({b"GNU.sparse.size": b"9"}), tars.entry(b"f")),
    "a sparse file of an unknown version": tars.archive(
        tars.pax(SPARSE | {b"GNU.sparse.major": b"2", b"GNU.sparse.minor": b"0"}), tars.entry(b"f", b"x")
    ),
    "two sizes of a sparse file": tars.archive(
        tars.pax(SPARSE | {b"GNU.sparse.realsize": b"9"}), tars.entry(b"f", b"x")
    ),
    "a sparse directory": tars.archive(tars.pax(SPARSE), tars.directory(b"d")),
    "a sparse file's name and a GNU name": tars.archive(
        tars.pax(SPARSE | {b"GNU.sparse.name": b"a"}), tars.gnu_long(b"b"), tars.entry(b"f", b"x")
    ),
    "a label with data": tars.archive(tars.entry(b"label", tars.header(b"f"), kind=b"V")),
    "a socket": tars.archive(tars.header(b"s", kind=b"s")),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_an_entry_with_two_readings_is_refused(data: bytes) -> None:
    """An archive is refused if one of the programs reads another name, type, size or target, or another entry."""
    assert by_us(data).error


def tree(top: Path) -> Path:
    """Files of all kinds, with names and targets of all lengths."""
    top.mkdir()
    for length in (1, 99, 100, 101, 156, 200, 250):
        (top / ("d" * length)).mkdir()
        (top / ("d" * length) / ("f" * length)).write_bytes(b"x" * length)
        (top / f"s{length}").symlink_to("t" * length)
        (top / f"h{length}").hardlink_to(top / ("d" * length) / ("f" * length))
        with (top / (f"{length}".rjust(length, "p"))).open("wb") as file:
            file.write(b"data")
            file.truncate(1 << 20)
    os.mkfifo(top / "fifo")
    return top


def by_program(*words: str) -> Callable[[Path, Path], None]:
    """Writes a tar with a program."""

    def write(folder: Path, path: Path) -> None:
        require(words[0])
        subprocess.run([*words, "-cf", path, "-C", folder, "."], check=False, stderr=subprocess.DEVNULL)

    return write


def by_python(form: int) -> Callable[[Path, Path], None]:
    """Writes a tar with Python's module."""

    def write(folder: Path, path: Path) -> None:
        with tarfile.open(path, "w", format=form) as file:
            file.add(folder, ".")

    return write


WRITERS = {
    **{f"GNU tar, {form}": by_program("tar", f"--format={form}") for form in ("v7", "ustar", "oldgnu", "gnu", "pax")},
    **{f"bsdtar, {form}": by_program("bsdtar", "--format", form) for form in ("ustar", "pax", "gnutar", "v7")},
    "GNU tar, sparse": by_program("tar", "--sparse", "--format=gnu"),
    **{
        f"GNU tar, sparse {version}": by_program("tar", "--sparse", "--format=pax", f"--sparse-version={version}")
        for version in ("0.0", "0.1", "1.0")
    },
    "Python, pax": by_python(tarfile.PAX_FORMAT),
    "Python, GNU": by_python(tarfile.GNU_FORMAT),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_no_archive_of_a_real_writer_is_refused(tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    """What GNU tar, bsdtar and Python write in each of their formats is read, as GNU tar reads it."""
    write(tree(tmp_path / "tree"), tmp_path / "a.tar")
    ours = by_us((tmp_path / "a.tar").read_bytes())
    assert not ours.error
    assert len(ours.entries) > 10
    assert not difference(ours, tar_listings.by_gnu(tmp_path / "a.tar"))
