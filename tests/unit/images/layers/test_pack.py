"""Trees packed and unpacked again, read by others, and packed twice to the same bytes."""

from __future__ import annotations

import errno
import functools
import os
import resource
import socket
import subprocess
import tarfile
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbcontainer.errors import ImageError
from nbcontainer.images.layers import sparse
from nbcontainer.images.layers.compression import Compression, Reader
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.pack import Packed, pack_layer, pack_tree
from nbcontainer.images.layers.unpack import unpack
from tests.fuzzing import examples
from tests.requirements import require, require_root
from tests.running import open_descriptors
from tests.unit.images.in_process import ROOT, opened
from tests.unit.images.tars import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pack(
    tree: Path,
    out: Path,
    *,
    layer: bool = False,
    compression: Compression = Compression.NONE,
    clamp: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Packed:
    """Packs a tree to a file."""
    function = pack_layer if layer else pack_tree
    with opened(tree, os.O_DIRECTORY) as root, opened(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        return function(root, fd, compression=compression, clamp=clamp, progress=progress)


def unpacked(archive: Path, root: Path, *, whiteouts: bool = False) -> Path:
    """Unpacks an archive into a new directory."""
    root.mkdir()
    with opened(root, os.O_DIRECTORY) as fd, opened(archive) as source:
        unpack(fd, source, None, limits=Limits(), single_id=not ROOT, whiteouts=whiteouts)
    return root


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path and modes that let it be removed again."""
    path = Path(tempfile.mkdtemp(prefix="nbc-"))
    yield path
    subprocess.run(["chmod", "-R", "u+rwx", path], check=True)
    subprocess.run(["rm", "-rf", path], check=True)


# Round trips of made-up trees

names = (
    st.binary(min_size=1, max_size=40)
    | st.binary(min_size=90, max_size=255)
    | st.sampled_from([b"a", b"b", b"...", b"-", b" ", b"PaxHeaders", b"@LongLink"])
).map(lambda name: bytes(byte for byte in name if byte not in b"/\0"))
safe_names = names.filter(lambda name: name not in (b"", b".", b"..") and not name.startswith(b".wh."))
times = st.integers(-(2**31), 2**33)
modes = st.integers(0, 0o7777)
owners = st.integers(0, 2**32 - 2) | st.sampled_from([0, 33, 0o7777777, 0o10000000])
attributes = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1, max_size=20),
    st.binary(max_size=100),
    max_size=3,
)
contents = st.binary(max_size=2000) | st.integers(0, 3).map(lambda n: bytes(range(256)) * 2 * n)
leaves = st.one_of(
    st.tuples(st.just("file"), contents, attributes),
    st.tuples(st.just("symlink"), st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target)),
    st.tuples(st.just("fifo")),
    st.tuples(st.just("hard link"), st.integers(0, 1000)),
    st.tuples(st.just("sparse"), st.lists(st.integers(0, 3 << 20), max_size=3)),
)
facts = st.tuples(modes, times, owners, owners)
trees = st.recursive(
    st.tuples(leaves, facts),
    lambda children: st.tuples(
        st.tuples(st.just("directory"), st.dictionaries(safe_names, children, max_size=5), attributes), facts
    ),
    max_leaves=12,
)


class Builder:
    """Makes a made-up tree; directories get their modes and times at the end."""

    def __init__(self, top: Path, xattrs: bool) -> None:
        self.xattrs = xattrs
        self.files: list[Path] = []
        self.later: list[tuple[Path, Any]] = []
        self.top = top

    def build(self, children: dict[bytes, Any]) -> None:
        """Fills the directory `top`."""
        for name, child in children.items():
            self._make(self.top / os.fsdecode(name), *child)
        for path, what in reversed(self.later):
            self._finish(path, what)

    def _make(self, path: Path, node: Any, what: Any) -> None:
        match node:
            case ("directory", children, xattrs):
                path.mkdir()
                self.later.append((path, what))
                self._attributes(path, xattrs)
                for name, child in children.items():
                    self._make(path / os.fsdecode(name), *child)
                return
            case ("file", data, xattrs):
                path.write_bytes(data)
                self._attributes(path, xattrs)
                self.files.append(path)
            case ("symlink", target):
                path.symlink_to(os.fsdecode(target))
            case ("fifo",):
                os.mkfifo(path)
            case ("hard link", number) if self.files:
                path.hardlink_to(self.files[number % len(self.files)])
                return
            case ("sparse", offsets):
                with path.open("wb") as file:
                    for offset in offsets:
                        file.seek(offset)
                        file.write(b"data")
                    file.truncate(4 << 20)
            case _:
                path.touch()
        self._finish(path, what)

    def _attributes(self, path: Path, xattrs: dict[str, bytes]) -> None:
        for name, value in xattrs.items():
            if self.xattrs:
                os.setxattr(path, f"user.{name}", value)

    def _finish(self, path: Path, what: Any) -> None:
        mode, time, uid, gid = what
        if ROOT:
            os.chown(path, uid, gid, follow_symlinks=False)
        if not path.is_symlink():
            # A plain user must be able to read what is packed, and to enter what is looked at.
            path.chmod(mode if ROOT else (mode | 0o700) & 0o1777)
        os.utime(path, (time, time), follow_symlinks=False)


def _has_xattrs(path: Path) -> bool:
    try:
        os.setxattr(path, "user.probe", b"")
        os.removexattr(path, "user.probe")
    except OSError:
        return False
    return True


@pytest.mark.slow
@examples(60)
@given(st.dictionaries(safe_names, trees, max_size=5))
@example({b"\x1f\x8b\x08": (("directory", {}, {}), (0, 0, 0, 0))})  # how gzip data begins
@example({b"BZh91AY&SY": (("file", b"x", {}), (0o644, 0, 0, 0))})
@example({b"z-first": (("file", b"x", {}), (0o644, 0, 0, 0)), b"a": (("directory", {}, {}), (0, 0, 0, 0))})
def test_round_trip(children: dict[bytes, Any]) -> None:
    """Any tree comes back as it was: names of any bytes, modes, times, owners, links, attributes, holes."""
    with tempfile.TemporaryDirectory(prefix="nbc-") as folder:
        top = Path(folder)
        (top / "tree").mkdir()
        Builder(top / "tree", _has_xattrs(top)).build(children)
        pack(top / "tree", top / "tar")
        found = snapshot(unpacked(top / "tar", top / "out"))
        wanted = snapshot(top / "tree")
        del found[b"."], wanted[b"."]
        assert found == wanted
        pack(top / "out", top / "again")
        assert (top / "again").read_bytes() == (top / "tar").read_bytes()


# One tree with something of everything, read by others

LONG = "long-" + "n" * 200
DEEP = "/".join(["d" * 100] * 4)


@pytest.fixture
def tree(place: Path) -> Path:
    """A tree with names, links and times that an old header has no room for."""
    top = place / "tree"
    (top / DEEP).mkdir(parents=True)
    (top / DEEP / LONG).write_text("deep")
    (top / LONG).write_text("long")
    (top / ("x" * 100)).write_text("just fits")
    (top / ("y" * 101)).write_text("just does not")
    (top / ("p" * 154) / ("q" * 50)).mkdir(parents=True)
    (top / "link").symlink_to("t" * 100)
    (top / "long-link").symlink_to("t/" * 150)
    (top / "z-hard").hardlink_to(top / LONG)
    (top / "0-first").mkdir()
    (top / "0-first" / "hard").hardlink_to(top / LONG)
    (top / "empty").mkdir(mode=0o700)
    (top / "file").write_bytes(bytes(range(256)) * 9000)
    (top / "suid").write_text("x")
    (top / "suid").chmod(0o4755)
    os.mkfifo(top / "fifo", 0o600)
    with (top / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(20 << 20)
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, (0, 1_000_000_000 + number), follow_symlinks=False)
    os.utime(top, (0, 1_000_000_000))
    if ROOT:
        os.chown(top / "file", 3_000_000_000, 33)
    return top


def _listed(tree: Path) -> list[bytes]:
    names = snapshot(tree)
    return sorted(
        os.fsencode(name) + (b"/" if node.type == "directory" else b"") for name, node in names.items() if name != b"."
    )


def test_read_by_gnu_tar(place: Path, tree: Path) -> None:
    """GNU tar lists every name, says nothing else, and unpacks the same tree, sparse file included."""
    require("tar")
    pack(tree, place / "tar")
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", place / "tar"], capture_output=True, check=True, text=True
    )
    assert listed.stderr == ""
    assert sorted({os.fsencode(line) for line in listed.stdout.splitlines()} - {b"./"}) == _listed(tree)
    (place / "out").mkdir()
    unpacking = ["tar", "-xpf", str(place / "tar"), "-C", str(place / "out"), "--numeric-owner"]
    assert subprocess.run(unpacking, check=True, capture_output=True).stderr == b""
    _same(place / "out", tree)
    assert (place / "out" / "sparse").stat().st_blocks * 512 < 1 << 20


def test_read_by_bsdtar(place: Path, tree: Path) -> None:
    """bsdtar unpacks the same tree."""
    require("bsdtar")
    pack(tree, place / "tar")
    (place / "out").mkdir()
    done = subprocess.run(["bsdtar", "-xpf", place / "tar", "-C", place / "out"], check=True, capture_output=True)
    assert done.stderr == b""
    _same(place / "out", tree)


def _same(found: Path, wanted: Path) -> None:
    ours, theirs = snapshot(wanted), snapshot(found)
    del ours[b"."], theirs[b"."]
    assert theirs == ours


def test_read_by_python(place: Path, tree: Path) -> None:
    """Python's tarfile finds every name once, each parent before what is in it, and reads every file."""
    pack(tree, place / "tar")
    with tarfile.open(place / "tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        assert len(names) == len(set(names))
        assert {os.fsencode(name) for name in names} | {b"."} == snapshot(tree).keys()
        for number, member in enumerate(members):
            parent = member.name.rpartition("/")[0]
            assert not parent or parent in names[:number]
            if member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                assert file.read() == (tree / member.name).read_bytes()
            assert (member.uname, member.gname) == ("", "")
        assert {tar.getmember("z-hard").linkname, tar.getmember("0-first/hard").linkname} == {LONG}


def test_read_by_gnu_tar_with_attributes(place: Path) -> None:
    """user.* attributes are where GNU tar has them, with = and % in their names too."""
    require("tar")
    (place / "tree").mkdir()
    (place / "tree" / "file").write_text("x")
    require("user.* attributes", available=_has_xattrs(place / "tree"))
    os.setxattr(place / "tree" / "file", "user.a=%b", b"\0\n=")
    os.setxattr(place / "tree", "user.root", b"kept")
    pack(place / "tree", place / "tar")
    (place / "out").mkdir()
    subprocess.run(["tar", "--xattrs", "-xpf", place / "tar", "-C", place / "out"], check=True)
    assert snapshot(place / "out") == snapshot(place / "tree")
    assert snapshot(unpacked(place / "tar", place / "ours")) == snapshot(place / "tree")


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_compressed(place: Path, tree: Path, compression: Compression) -> None:
    """A compressed archive is the plain one, compressed; diff_id is of the plain one."""
    plain = pack(tree, place / "plain", layer=True)
    packed = pack(tree, place / "packed", layer=True, compression=compression)
    with opened(place / "packed") as fd:
        assert Reader(functools.partial(os.read, fd)).read() == (place / "plain").read_bytes()
    assert packed.diff_id == plain.diff_id == plain.blob_digest != packed.blob_digest
    assert packed.blob_size == (place / "packed").stat().st_size


# The same tree, the same bytes


def test_the_same_from_a_copy(place: Path, tree: Path) -> None:
    """A copy of a tree, with its holes filled, has the same digest."""
    first = pack(tree, place / "1", layer=True)
    assert pack(tree, place / "2", layer=True) == first
    copied = place / "copy"
    subprocess.run(["cp", "-a", "--sparse=never", tree, copied], check=True)
    assert (copied / "sparse").stat().st_blocks > (tree / "sparse").stat().st_blocks
    assert pack(copied, place / "3", layer=True) == first
    assert (place / "3").read_bytes() == (place / "1").read_bytes()


def test_times_are_clamped(place: Path, tree: Path) -> None:
    """SOURCE_DATE_EPOCH is the latest time in an archive; earlier ones stay."""
    os.utime(tree / "file", (0, -86_400))
    pack(tree, place / "tar", clamp=1_000_000_005)
    with tarfile.open(place / "tar") as tar:
        found = {member.name: member.mtime for member in tar}
    assert found["file"] == -86_400
    assert max(found.values()) == 1_000_000_005
    assert {int(path.lstat().st_mtime) for path in tree.rglob("*")} > {1_000_000_006}


def test_fractions_of_a_second_are_left_out(place: Path, tree: Path) -> None:
    """Times are whole seconds, rounded down, before 1970 too."""
    os.utime(tree / "file", ns=(0, -1))
    os.utime(tree / "suid", ns=(0, 1_999_999_999))
    pack(tree, place / "tar")
    with tarfile.open(place / "tar") as tar:
        assert (tar.getmember("file").mtime, tar.getmember("suid").mtime) == (-1, 1)


# The root's own entry


def test_a_plain_root_has_no_entry(place: Path) -> None:
    """An empty tree is an empty archive: the end's mark alone."""
    require_root()  # another owner of the root makes an entry
    (place / "tree").mkdir(mode=0o755)
    assert pack(place / "tree", place / "tar").entries == 0
    assert (place / "tar").read_bytes() == bytes(1024)


def test_a_root_that_says_something_has_one(place: Path) -> None:
    """A root with a mode of its own keeps it."""
    (place / "tree").mkdir()
    (place / "tree").chmod(0o700)
    pack(place / "tree", place / "tar")
    assert unpacked(place / "tar", place / "out").stat().st_mode & 0o7777 == 0o700


# What cannot be held


def test_sockets_are_left_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is nothing without its process."""
    (place / "tree").mkdir()
    monkeypatch.chdir(place / "tree")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        (place / "tree" / "file").touch()
        pack(place / "tree", place / "tar")
    assert [os.fsencode(name) for name in snapshot(unpacked(place / "tar", place / "out"))] == [b".", b"file"]


@pytest.mark.parametrize("layer", [False, True], ids=["tree", "layer"])
@pytest.mark.parametrize("name", [".wh.f", ".wh..wh..opq", ".wh."])
def test_names_that_mean_a_deletion_are_refused(place: Path, name: str, layer: bool) -> None:
    """A file that is really named `.wh.…` cannot be in an image: said, and not lost silently."""
    (place / "tree" / "d").mkdir(parents=True)
    (place / "tree" / "d" / name).touch()
    with pytest.raises(ImageError, match=r"'d/\.wh\..*rename or remove it in a cell"):
        pack(place / "tree", place / "tar", layer=layer)


def test_paths_that_no_call_takes_are_refused(place: Path) -> None:
    """A path past PATH_MAX can be made piece by piece, but neither packed nor unpacked."""
    (place / "tree").mkdir()
    name = "d" * 250
    fd = os.open(place / "tree", os.O_RDONLY)
    for _ in range(17):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(ImageError, match="has a path of 4266 bytes"):
        pack(place / "tree", place / "tar")


def deep_directory(place: Path) -> int:
    """A descriptor of a directory in `place/tree` whose path there has 4080 bytes."""
    (place / "tree").mkdir()
    fd = os.open(place / "tree", os.O_RDONLY)
    for name in ["d" * 254] * 15 + ["e" * 255]:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def test_the_longest_path_is_packed(place: Path) -> None:
    """A path of PATH_MAX less one comes through."""
    fd = deep_directory(place)
    os.close(os.open("f" * 14, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
    os.close(fd)
    pack(place / "tree", place / "tar")
    pack(unpacked(place / "tar", place / "out"), place / "again")
    assert (place / "again").read_bytes() == (place / "tar").read_bytes()


def test_files_past_the_limit_are_refused(place: Path) -> None:
    """A file longer than a reader lets through is refused when it is packed, and not when it is wanted again."""
    (place / "tree").mkdir()
    with (place / "tree" / "huge").open("wb") as file:
        try:
            file.truncate((1 << 40) + 1)
        except OSError:
            pytest.skip("the file system has no files that long")
    with pytest.raises(ImageError, match="has a size of 1099511627777 bytes"):
        pack(place / "tree", place / "tar")


def test_a_file_that_becomes_shorter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that shrinks while it is packed does not make a damaged archive."""
    (place / "tree").mkdir()
    (place / "tree" / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: b"")
    with pytest.raises(ImageError, match="'file' became shorter while it was packed"):
        pack(place / "tree", place / "tar")


# Holes


def test_holes_are_not_read(place: Path) -> None:
    """A terabyte of nothing with a few bytes in it is packed at once, and into a few kilobytes."""
    (place / "tree").mkdir()
    with (place / "tree" / "f").open("wb") as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("the file system has no files that long")
        file.seek(1 << 39)
        file.write(b"here")
    packed = pack(place / "tree", place / "tar")
    assert packed.size == 64 << 10
    assert packed.blob_size < 80 << 10
    with (unpacked(place / "tar", place / "out") / "f").open("rb") as file:
        file.seek((1 << 39) - 1)
        assert file.read(6) == b"\0here\0"


def test_zeros_are_found_in_the_content(place: Path) -> None:
    """Zeros that are written out are left out of the archive as holes are, where they are worth it."""
    (place / "tree").mkdir()
    (place / "tree" / "f").write_bytes(b"a" + bytes(4 << 20) + b"b")
    packed = pack(place / "tree", place / "tar")
    assert packed.size == (64 << 10) + 2
    assert (unpacked(place / "tar", place / "out") / "f").read_bytes() == b"a" + bytes(4 << 20) + b"b"


def test_a_few_zeros_are_stored(place: Path) -> None:
    """A file with less than a MiB of zeros is a plain entry, which every reader knows."""
    (place / "tree").mkdir()
    (place / "tree" / "f").write_bytes(b"a" * (4 << 20) + bytes(800 << 10) + b"b" * (4 << 20))
    pack(place / "tree", place / "tar")
    with tarfile.open(place / "tar") as tar:
        assert not tar.getmember("f").issparse()


def test_more_holes_than_a_map_may_have(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many pieces, the smallest holes are stored, and the file comes back all the same."""
    monkeypatch.setattr(sparse, "_PIECES_MAX", 10)
    (place / "tree").mkdir()
    with (place / "tree" / "f").open("wb") as file:
        for number in range(40):
            file.seek(number * (128 << 10) + number // 10 * (2 << 20))
            file.write(b"%d" % number)
    packed = pack(place / "tree", place / "tar")
    assert packed.size == 3 * (19 * (64 << 10)) + 18 * (64 << 10) + 2
    found = (unpacked(place / "tar", place / "out") / "f").read_bytes()
    assert found == (place / "tree" / "f").read_bytes()


# Layers


def test_an_upper_directory_is_a_layer(place: Path) -> None:
    """Overlay's deletions become whiteouts, opaque directories their mark; unpacked, it is the same upper again."""
    upper = place / "upper"
    (upper / "opaque" / "below").mkdir(parents=True)
    (upper / "opaque" / "file").write_text("x")
    (upper / "gone").mkdir()
    for name in ("gone-too", "gone/file", "opaque/gone"):
        os.mknod(upper / name, 0o020000, 0)
    require("user.* attributes", available=_has_xattrs(upper))
    os.setxattr(upper / "opaque", "user.overlay.opaque", b"y")
    os.setxattr(upper / "opaque", "user.overlay.origin", b"\0\xfb")
    os.setxattr(upper, "user.overlay.impure", b"y")
    for path in sorted(upper.rglob("*"), reverse=True):
        os.utime(path, (0, 1000), follow_symlinks=False)
    pack(upper, place / "tar", layer=True)
    with tarfile.open(place / "tar") as tar:
        found = [member.name for member in tar if member.name != "."]
        assert found == [
            ".wh.gone-too",
            "gone",
            "gone/.wh.file",
            "opaque",
            "opaque/.wh..wh..opq",
            "opaque/file",
            "opaque/.wh.gone",
            "opaque/below",
        ]
        markers = [member for member in tar if ".wh." in member.name]
        assert {(member.isreg(), member.size, member.mtime) for member in markers} == {(True, 0, 0)}
        assert not any("overlay" in key for member in tar for key in member.pax_headers)
    again = unpacked(place / "tar", place / "out", whiteouts=True)
    assert (again / "gone-too").lstat().st_rdev == (again / "gone" / "file").lstat().st_rdev == 0
    assert os.getxattr(again / "opaque", "user.overlay.opaque") == b"y"
    assert pack(again, place / "again", layer=True) == pack(upper, place / "tar", layer=True)


def test_the_longest_name_can_be_deleted(place: Path) -> None:
    """A layer with the deletion of a name of 255 bytes is unpacked again."""
    (place / "upper" / "d").mkdir(parents=True)
    os.mknod(place / "upper" / "d" / ("n" * 255), 0o020000, 0)
    pack(place / "upper", place / "tar", layer=True)
    again = unpacked(place / "tar", place / "out", whiteouts=True)
    assert [path.name for path in (again / "d").iterdir()] == ["n" * 255]


def test_a_deletion_at_the_longest_path_is_refused(place: Path) -> None:
    """A deletion whose path in the tar is longer than a reader lets through is refused when it is packed."""
    fd = deep_directory(place)
    os.mknod("f" * 13, 0o020000, 0, dir_fd=fd)
    os.close(fd)
    with pytest.raises(ImageError, match="a deletion with a path of 4098 bytes"):
        pack(place / "tree", place / "tar", layer=True)


def test_whiteouts_of_one_inode_are_no_hard_links(place: Path) -> None:
    """The kernel makes many whiteouts from one inode (since 5.8); each is a deletion of its own."""
    (place / "upper").mkdir()
    os.mknod(place / "upper" / "a", 0o020000, 0)
    os.link(place / "upper" / "a", place / "upper" / "b")
    pack(place / "upper", place / "tar", layer=True)
    with tarfile.open(place / "tar") as tar:
        assert [(member.name, member.isreg()) for member in tar if member.name != "."] == [
            (".wh.a", True),
            (".wh.b", True),
        ]


def test_a_whiteout_in_a_tree_is_nothing(place: Path) -> None:
    """In a merged tree there is nothing for a whiteout to hide."""
    (place / "tree").mkdir()
    os.mknod(place / "tree" / "gone", 0o020000, 0)
    pack(place / "tree", place / "tar")
    assert list(snapshot(unpacked(place / "tar", place / "out"))) == [b"."]


# Privileges, resources, errors


def test_directories_that_their_owner_may_not_enter(place: Path) -> None:
    """As root, whatever the mode; a plain user outside a container gets the kernel's word for it."""
    (place / "tree" / "closed" / "inside").mkdir(parents=True)
    (place / "tree" / "closed").chmod(0)
    if not ROOT:
        with pytest.raises(PermissionError):
            pack(place / "tree", place / "tar")
        return
    pack(place / "tree", place / "tar")
    found = snapshot(unpacked(place / "tar", place / "out"))
    assert found[b"closed"].mode == 0
    assert b"closed/inside" in found


def test_devices(place: Path) -> None:
    """Devices keep their numbers."""
    require_root()
    (place / "tree").mkdir()
    try:
        os.mknod(place / "tree" / "char", 0o020666, os.makedev(5, 300))
        os.mknod(place / "tree" / "block", 0o060600, os.makedev(259, 70000))
    except PermissionError:
        pytest.skip("this root may not make devices")
    pack(place / "tree", place / "tar")
    assert (
        snapshot(unpacked(place / "tar", place / "out")).items()
        >= {name: node for name, node in snapshot(place / "tree").items() if name != b"."}.items()
    )


def test_deep_and_wide_trees_with_few_descriptors(place: Path) -> None:
    """However deep or wide, a few descriptors are enough."""
    (place / "tree" / "/".join("d" * 100)).mkdir(parents=True)
    for number in range(100):
        (place / "tree" / f"w{number}").mkdir()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, limit[1]))
    try:
        packed = pack(place / "tree", place / "tar")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert packed.entries in (200, 201)


def test_memory_is_flat(place: Path) -> None:
    """A file of 200 MiB takes a few MiB of memory, and so does its archive."""
    (place / "tree").mkdir()
    with (place / "tree" / "large").open("wb") as file:
        for number in range(200):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    tracemalloc.start()
    try:
        with opened(place / "tree", os.O_DIRECTORY) as root, opened(Path("/dev/null"), os.O_WRONLY) as out:
            pack_tree(root, out, compression=Compression.NONE, clamp=None)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_progress(place: Path) -> None:
    """Progress is told in bytes of the archive, about once a MiB."""
    (place / "tree").mkdir()
    (place / "tree" / "file").write_bytes(b"x" * (10 << 20))
    told: list[int] = []
    pack(place / "tree", place / "tar", progress=told.append)
    assert told == sorted(told)
    assert 5 <= len(told) <= 11
    assert told[-1] <= (place / "tar").stat().st_size


@pytest.mark.parametrize("size", [10, 30 << 20], ids=["at the end", "in the middle"])
def test_a_full_disk(place: Path, size: int) -> None:
    """An error of writing is the kernel's own, at once, and leaves no thread."""
    require("/dev/full", available=Path("/dev/full").exists())
    (place / "tree").mkdir()
    (place / "tree" / "file").write_bytes(b"x" * size)
    before = threading.active_count()
    with (
        opened(place / "tree", os.O_DIRECTORY) as root,
        opened(Path("/dev/full"), os.O_WRONLY) as out,
        pytest.raises(OSError, match="No space left") as raised,
    ):
        pack_tree(root, out, compression=Compression.NONE, clamp=None)
    assert raised.value.errno == errno.ENOSPC
    assert threading.active_count() == before


def test_a_reader_that_goes_away(place: Path) -> None:
    """Whoever reads the archive through a pipe may stop."""
    (place / "tree").mkdir()
    (place / "tree" / "file").write_bytes(b"x" * (8 << 20))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with opened(place / "tree", os.O_DIRECTORY) as root, pytest.raises(BrokenPipeError):
            pack_tree(root, writing, compression=Compression.NONE, clamp=None)
    finally:
        os.close(writing)
