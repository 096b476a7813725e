"""Archives as others write them, plain and compressed, from a file and through a pipe: the same tree comes out."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.unpack import media_type
from tests.requirements import require
from tests.running import open_descriptors
from tests.unit.images import tars

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.images.in_process import Unpacker


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with one of everything that every format can hold."""
    top = tmp_path_factory.mktemp("tree")
    (top / "directory" / "empty").mkdir(parents=True)
    (top / "directory" / "file").write_bytes(b"data")
    (top / "directory" / "block").write_bytes(b"x" * 512)
    (top / "directory" / "large").write_bytes(bytes(range(256)) * 9000)
    (top / "nothing").touch()
    (top / "read-only").write_text("x")
    (top / "read-only").chmod(0o444)
    (top / "setuid").write_text("x")
    (top / "setuid").chmod(0o4755)
    (top / "link").symlink_to("directory/file")
    (top / "dangling").symlink_to("/no/where")
    (top / "z-hard").hardlink_to(top / "directory" / "file")
    (top / "names of \xfc, \n and spaces ").write_text("x")
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, (number, 1_600_000_000 + number), follow_symlinks=False)
    (top / "directory" / "empty").chmod(0o700)
    os.utime(top, (0, 1_600_000_000))
    os.utime(top / "directory", (0, 1_600_000_000))
    top.chmod(0o755)
    return top


def _gnu(form: str, *more: str) -> Callable[[Path], bytes]:
    def make(tree: Path) -> bytes:
        require("tar")
        command = ["tar", f"--format={form}", *more, "-C", str(tree), "-c", "."]
        return subprocess.run(command, check=True, capture_output=True).stdout

    return make


def _bsd(form: str) -> Callable[[Path], bytes]:
    def make(tree: Path) -> bytes:
        require("bsdtar")
        command = ["bsdtar", f"--format={form}", "-C", str(tree), "-c", "-f", "-", "."]
        return subprocess.run(command, check=True, capture_output=True).stdout

    return make


def _python(form: int) -> Callable[[Path], bytes]:
    def make(tree: Path) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            tar.add(tree, ".")
        return out.getvalue()

    return make


WRITERS = {
    "GNU tar, V7": _gnu("v7"),
    "GNU tar, old GNU": _gnu("oldgnu"),
    "GNU tar, GNU": _gnu("gnu"),
    "GNU tar, ustar": _gnu("ustar"),
    "GNU tar, pax": _gnu("posix"),
    "GNU tar, GNU, all sparse": _gnu("gnu", "--sparse"),
    "GNU tar, pax, sparse 0.0": _gnu("posix", "--sparse", "--sparse-version=0.0"),
    "GNU tar, pax, sparse 0.1": _gnu("posix", "--sparse", "--sparse-version=0.1"),
    "GNU tar, pax, sparse 1.0": _gnu("posix", "--sparse", "--sparse-version=1.0"),
    "GNU tar, a block at a time": _gnu("gnu", "--blocking-factor=1"),
    "bsdtar, ustar": _bsd("ustar"),
    "bsdtar, pax": _bsd("pax"),
    "bsdtar, GNU": _bsd("gnutar"),
    "Python, ustar": _python(tarfile.USTAR_FORMAT),
    "Python, GNU": _python(tarfile.GNU_FORMAT),
    "Python, pax": _python(tarfile.PAX_FORMAT),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_archives_of_others(unpacker: Unpacker, tree: Path, write: Callable[[Path], bytes]) -> None:
    """What another program wrote of a tree comes out as that tree: modes, times, owners, links, data."""
    unpacker(write(tree))
    assert tars.snapshot(unpacker.root) == tars.snapshot(tree)


def _sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        for number in range(60):
            file.seek(number << 20)
            file.write(b"piece %d" % number)
        file.truncate(100 << 20)


@pytest.mark.parametrize("form", ["gnu", "posix"])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(unpacker: Unpacker, form: str, version: str) -> None:
    """A file with sixty pieces of data and holes between them comes out the same, holes and all."""
    require("tar")
    with tempfile.TemporaryDirectory() as tree:
        _sparse_file(Path(tree, "sparse"))
        command = ["tar", f"--format={form}", "--sparse", f"--sparse-version={version}", "-C", tree, "-c", "sparse"]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        wanted = Path(tree, "sparse").read_bytes()
    assert len(data) < 1 << 20
    unpacker(data)
    assert (unpacker.root / "sparse").read_bytes() == wanted
    assert (unpacker.root / "sparse").stat().st_blocks * 512 < 2 << 20


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": functools.partial(gzip.compress, mtime=0),
    "zstd": functools.partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("pipe", [False, True], ids=["from a file", "through a pipe"])
@pytest.mark.parametrize("compression", PACKERS)
def test_compressed_archives(unpacker: Unpacker, tree: Path, compression: str, pipe: bool) -> None:
    """Compressed archives are known by their first bytes; the blob is what OCI has a media type for."""
    plain = _python(tarfile.PAX_FORMAT)(tree)
    packed = PACKERS[compression](plain)
    done = unpacker(packed, pipe=pipe)
    assert tars.snapshot(unpacker.root) == tars.snapshot(tree)
    assert done.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    kept = packed if compression in ("none", "gzip", "zstd") else plain
    assert unpacker.blob == kept
    assert done.blob_digest == f"sha256:{hashlib.sha256(kept).hexdigest()}"
    assert done.blob_size == len(kept)
    suffix = f"+{compression}" if compression in ("gzip", "zstd") else ""
    assert done.media_type == f"application/vnd.oci.image.layer.v1.tar{suffix}"


def test_what_is_said_of_an_archive(unpacker: Unpacker) -> None:
    """Entries and bytes are counted, and progress ends at the archive's length."""
    told: list[int] = []
    data = tars.archive(tars.directory(b"d"), tars.entry(b"d/f", b"12345"), tars.entry(b"big", bytes(3 << 20)))
    done = unpacker(data, progress=told.append)
    assert (done.entries, done.size, done.skipped) == (3, 5 + (3 << 20), ())
    assert told[-1] == len(data)
    assert told == sorted(told)


def test_only_what_oci_knows_has_a_media_type() -> None:
    """Layers are plain, gzip or zstd (image-spec media-types.md)."""
    assert media_type(Compression.ZSTD) == "application/vnd.oci.image.layer.v1.tar+zstd"
    with pytest.raises(ValueError, match="no media type for xz"):
        media_type(Compression.XZ)


SMALL = tars.archive(
    tars.directory(b"d", mtime=1),
    tars.entry(b"d/f", b"some data " * 60),
    tars.pax({b"path": b"n" * 120, b"SCHILY.xattr.user.a": b"b"}) + tars.entry(b"n", b"x"),
    tars.symlink(b"d/l", b"f"),
    tars.hard_link(b"h", b"d/f"),
)


@pytest.mark.parametrize("compression", PACKERS)
def test_compressed_archives_cut_off_anywhere(unpacker: Unpacker, compression: str) -> None:
    """A compressed archive without its end, wherever it was cut, is refused."""
    packed = PACKERS[compression](SMALL)
    for length in range(0, len(packed) - (1 if compression != "none" else 1024), 41):
        if compression == "none" and not any(packed[length : -(-length // 512) * 512]):
            continue  # only padding is missing, or nothing but the end mark
        with pytest.raises(HostileArchive, match=r"cut off|empty|not a tar archive|cannot be decompressed|damaged"):
            unpacker(packed[:length])


@pytest.mark.parametrize("compression", ["gzip", "zstd", "xz", "bzip2"])
def test_damaged_compressed_archives(unpacker: Unpacker, compression: str) -> None:
    """A byte changed anywhere in compressed data is found out, as data or as a checksum that does not fit."""
    packed = PACKERS[compression](SMALL)
    skipped = 10 if compression == "gzip" else 6  # gzip's header holds a time and a system that nothing vouches for
    for at in range(skipped, len(packed), 29):
        damaged = packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]
        with pytest.raises(HostileArchive):
            unpacker(damaged)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "xz", "bzip2"])
def test_bombs(unpacker: Unpacker, compression: str) -> None:
    """A few kilobytes that become gigabytes of nothing are stopped by the ratio, not by the disk."""
    zeros = tars.header(b"f", size=1 << 33) + bytes(64 << 20)
    limits = Limits(ratio=100, ratio_from=16 << 20)
    with pytest.raises(HostileArchive, match="decompresses to more than the limit of 100 times its size"):
        unpacker(PACKERS[compression](zeros), limits=limits)


def test_a_bomb_of_files(unpacker: Unpacker) -> None:
    """Many files that compress to nothing are stopped by the limit on data."""
    data = tars.archive(*[tars.entry(b"%d" % n, bytes(1 << 20)) for n in range(8)])
    with pytest.raises(HostileArchive, match="more than 4194304 bytes of data"):
        unpacker(gzip.compress(data), limits=Limits(bytes=4 << 20))


def test_no_process_and_no_descriptor_is_left(unpacker: Unpacker) -> None:
    """After a good archive, a hostile one and a cut-off one there are as many descriptors and children as before."""

    def state() -> tuple[int, str]:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        return open_descriptors(), children.read_text() if children.exists() else ""

    before = state()
    unpacker(SMALL)
    for hostile in (tars.archive(tars.entry(b"../x")), SMALL[:700], gzip.compress(SMALL)[:200], b""):
        with pytest.raises(HostileArchive):
            unpacker(hostile)
    assert state() == before


def test_errors_reach_the_caller_from_the_other_process(unpacker: Unpacker) -> None:
    """What goes wrong with reading the source is an OSError of the caller's."""
    with pytest.raises(IsADirectoryError):
        unpacker.read(os.open(unpacker.witness, os.O_RDONLY))


def test_what_is_unpacked_is_json(unpacker: Unpacker) -> None:
    """The result can travel from a sandbox."""
    assert json.loads(json.dumps(asdict(unpacker(SMALL))))["entries"] == 5
