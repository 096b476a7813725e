"""What hostile and odd archives make below a root, and that nothing beside it changes."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import re
import resource
import signal
import stat
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from nbcontainer.errors import HostileArchive, ImageError
from nbcontainer.images.layers.limits import Limits
from tests.requirements import require
from tests.unit.images import tars
from tests.unit.images.in_process import opened
from tests.unit.images.tars import archive, directory, entry, hard_link, pax, symlink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.images.in_process import Unpacker

ROOT = os.geteuid() == 0


def _user_xattrs(path: Path) -> None:
    """Skips the test where the file system of `path` has no user.* attributes."""
    try:
        os.setxattr(path, "user.nbcontainer.probe", b"")
        os.removexattr(path, "user.nbcontainer.probe")
    except OSError as error:
        require("user.* attributes", available=False, why=f"no user.* attributes at {path}: {error.strerror}")


# What is refused, and the words that say why.

REFUSED = {
    "`..` in a name": (entry(b"../outside/secret", b"x"), "tries to leave its root: '../outside'"),
    "`..` in the middle": (entry(b"a/../../outside/secret", b"x"), "tries to leave its root"),
    "`..` at the end": (directory(b"a/.."), "tries to leave its root"),
    "`..` after a slash": (entry(b"/../outside/secret", b"x"), "tries to leave its root"),
    "`..` in pax": (pax({b"path": b"../outside/secret"}) + entry(b"safe", b"x"), "tries to leave its root"),
    "`..` in GNU's long name": (tars.gnu_long(b"../" * 50 + b"x") + entry(b"safe"), "tries to leave its root"),
    "`..` in ustar's prefix": (entry(b"secret", b"x", prefix=b"../outside"), "tries to leave its root"),
    "`..` in a hard link's source": (hard_link(b"l", b"../outside/secret"), "tries to leave its root"),
    "a hard link through a relative symbolic link": (
        symlink(b"s", b"../outside") + hard_link(b"l", b"s/secret"),
        "not in the archive before it",
    ),
    "a hard link to nothing": (hard_link(b"l", b"nothing"), "'l' is a hard link to 'nothing', which is not in"),
    "a hard link to a later file": (hard_link(b"l", b"f") + entry(b"f"), "not in the archive before it"),
    "a hard link to a directory": (directory(b"d") + hard_link(b"l", b"d"), "a hard link to a directory"),
    "a hard link to the root": (hard_link(b"l", b"./"), "a hard link to the archive's root"),
    "a hard link to a file below its own name": (
        entry(b"d/f", b"x") + hard_link(b"d", b"d/f"),
        "'d' is a hard link to 'd/f' below itself",
    ),
    "a file as the root": (entry(b".", b"x"), "root '.' is not a directory"),
    "a symbolic link as the root": (symlink(b"/", b"/tmp"), "root '/' is not a directory"),
    "a file below a file": (entry(b"f") + entry(b"f/g"), "entries below 'f', but 'f' is not a directory"),
    "a file below a link to a file": (entry(b"f") + symlink(b"l", b"f") + entry(b"l/g"), "'f' is not a directory"),
    "a file below a fifo": (tars.header(b"p", kind=tars.FIFO) + entry(b"p/g"), "'p' is not a directory"),
    "links in a circle": (symlink(b"a", b"b") + symlink(b"b", b"a") + entry(b"a/f"), "through too many symbolic links"),
    "a link to itself": (symlink(b"a", b"a") + entry(b"a/f"), "through too many symbolic links"),
    "links that go back and forth": (
        directory(b"d/" * 40) + pax({b"linkpath": b"d/" * 40 + b"../d/" * 800}) + symlink(b"l", b"") + entry(b"l/f"),
        "symbolic links form a loop",
    ),
    "a component of 256 bytes": (pax({b"path": b"n" * 256}) + entry(b"f"), "a name of 256 bytes between slashes"),
    "a parent's component of 256 bytes": (
        pax({b"path": b"n" * 256 + b"/f"}) + entry(b"f"),
        "a name of 256 bytes between slashes",
    ),
    "a name of 5001 bytes": (
        pax({b"path": b"n/" * 2500 + b"n"}) + entry(b"f"),
        "a name of 5001 bytes, the limit is 4096",
    ),
    "a target of 5000 bytes": (
        pax({b"linkpath": b"n/" * 2500}) + symlink(b"l", b"t"),
        "is a symbolic link with a target of 5000 bytes",
    ),
    "a symbolic link to nothing at all": (symlink(b"l", b""), "it is a link without a target"),
    "a whiteout in a root file system": (entry(b".wh.f"), "forged whiteout: '.wh.f' in a root file"),
    "an opaque mark in a root file system": (entry(b"d/.wh..wh..opq"), "forged whiteout"),
    "a directory named as a whiteout": (entry(b".wh.d/f"), "forged whiteout: '.wh.d' as a directory"),
    "a directory made through a link to a whiteout": (
        symlink(b"l", b".wh.d") + entry(b"l/f"),
        "forged whiteout: 'l' as a directory",
    ),
    "the device 0:0, overlayfs' whiteout": (
        tars.header(b"f", kind=tars.CHAR, major=b"0000000\0", minor=b"0000000\0"),
        "forged whiteout: 'f' is the device 0:0",
    ),
    "overlayfs' own attribute": (
        pax({b"SCHILY.xattr.user.overlay.opaque": b"y"}) + directory(b"d"),
        "forged attribute of overlayfs, 'user.overlay.opaque'",
    ),
    "overlayfs' own attribute on a file": (
        pax({b"SCHILY.xattr.user.overlay.redirect": b"/etc"}) + entry(b"f"),
        "forged attribute of overlayfs",
    ),
    "overlayfs' trusted attribute": (
        pax({b"SCHILY.xattr.trusted.overlay.metacopy": b""}) + entry(b"f"),
        "forged attribute of overlayfs",
    ),
    "overlayfs' attribute in a global header": (
        pax({b"SCHILY.xattr.user.overlay.opaque": b"y"}, kind=b"g") + directory(b"d"),
        "forged attribute of overlayfs",
    ),
    "an attribute's name with a zero byte": (
        pax({b"SCHILY.xattr.user.a\0b": b"y"}) + entry(b"f"),
        "an attribute with a bad name",
    ),
    "an attribute's name of 300 bytes": (
        pax({b"SCHILY.xattr.user." + b"a" * 300: b"y"}) + entry(b"f"),
        "an attribute with a bad name",
    ),
    "a device number that Linux does not know": (
        tars.header(b"f", kind=tars.CHAR, major=b"7777777\0", minor=b"0000001\0"),
        "the device number 2097151:1, which is invalid on Linux",
    ),
}


@pytest.mark.parametrize(("entries", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_hostile_archives_are_refused(unpacker: Unpacker, entries: bytes, words: str) -> None:
    """An archive that tries something is refused in one line that says what; nothing beside its root changes."""
    with pytest.raises(HostileArchive, match=re.escape(words)) as raised:
        unpacker(archive(entries))
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 600


def test_links_that_lead_out_lead_nowhere(unpacker: Unpacker) -> None:
    """Absolute names, and links to absolute names or up with `..`, mean something below the root, never beside it."""
    outside = os.fsencode(unpacker.witness)
    unpacker(
        archive(
            entry(outside + b"/secret", b"absolute name"),
            symlink(b"absolute", outside),
            entry(b"absolute/through", b"absolute link"),
            symlink(b"up", b"../../../../../../../../.." + outside),
            entry(b"up/up", b"link with .."),
            symlink(b"first", b"second"),
            symlink(b"second", outside + b"/directory"),
            entry(b"first/chained", b"chained links"),
            hard_link(b"hard", outside + b"/secret"),
            directory(b"absolute/directory"),
        )
    )
    inside = unpacker.root / str(unpacker.witness)[1:]
    assert (inside / "secret").read_text() == "absolute name"
    assert (inside / "through").read_text() == "absolute link"
    assert (inside / "up").read_text() == "link with .."
    assert (inside / "directory" / "chained").read_text() == "chained links"
    assert (unpacker.root / "hard").samefile(inside / "secret")


def test_hard_links_through_links_that_lead_out(unpacker: Unpacker) -> None:
    """A hard link's source is looked up below the root too: what only exists outside is not found."""
    outside = os.fsencode(unpacker.witness)
    for source in (outside + b"/secret", b"s/secret"):
        with pytest.raises(HostileArchive, match="not in the archive before it"):
            unpacker(archive(symlink(b"s", outside), hard_link(b"l", source)))


def test_a_link_among_the_parents_is_seen_when_it_comes_late(unpacker: Unpacker) -> None:
    """A directory that was written to, then replaced by a link out of the root, is not written to through the link."""
    outside = os.fsencode(unpacker.witness)
    unpacker(archive(entry(b"d/f", b"1"), symlink(b"d", outside), entry(b"d/secret", b"2"), entry(b"d/f", b"3")))
    inside = unpacker.root / str(unpacker.witness)[1:]
    assert (inside / "secret").read_bytes() == b"2"
    assert (inside / "f").read_bytes() == b"3"


def test_the_leaf_is_never_followed(unpacker: Unpacker) -> None:
    """A file, device or link over a symbolic link takes its place, and leaves alone what it pointed to."""
    target = os.fsencode(unpacker.witness / "secret")
    for over in (
        entry(b"l", b"new"),
        symlink(b"l", b"elsewhere"),
        tars.header(b"l", kind=tars.FIFO, mode=0o777),
        directory(b"l", mode=0o777),
        entry(b"f") + hard_link(b"l", b"f"),
    ):
        unpacker(archive(symlink(b"l", target), over))
        assert (unpacker.root / "l").is_symlink() == (over[156:157] == b"2")


def _make(kind: str, name: bytes) -> bytes:
    match kind:
        case "file":
            return entry(name, b"data")
        case "directory":
            return directory(name) + entry(name + b"/inside", b"data") + entry(name + b"/a/b/c", b"data")
        case "symlink":
            return symlink(name, b"target")
        case "fifo":
            return tars.header(name, kind=tars.FIFO)
        case _:
            return hard_link(name, b"first/one")


_KINDS = ["file", "directory", "symlink", "fifo", "hard link"]


@pytest.mark.parametrize("new", _KINDS)
@pytest.mark.parametrize("old", _KINDS)
def test_the_last_entry_of_a_name_wins(unpacker: Unpacker, old: str, new: str) -> None:
    """Whatever stood under a name, and whatever comes, the later entry is there; two directories become one."""
    before = entry(b"first/one", b"1") + directory(b"x")
    unpacker(archive(before, _make(old, b"x/name"), _make(new, b"x/name"), entry(b"x/after", b"2")))
    found = tars.snapshot(unpacker.root)
    unpacker(archive(before, _make(new, b"x/name"), entry(b"x/after", b"2")))
    assert found == tars.snapshot(unpacker.root)


def test_a_removed_directory_takes_its_metadata_along(unpacker: Unpacker) -> None:
    """What a directory's entry said is forgotten when something else takes its place, at every depth."""
    unpacker(
        archive(
            directory(b"d/deep", mode=0o700, mtime=5),
            directory(b"e/deep", mode=0o711, mtime=6),
            symlink(b"d", b"e"),
            entry(b"e/f"),
        )
    )
    deep = (unpacker.root / "e" / "deep").stat()
    assert (stat.S_IMODE(deep.st_mode), deep.st_mtime) == (0o711, 6)
    assert (unpacker.root / "d").is_symlink()


def test_parents_that_are_not_named(unpacker: Unpacker) -> None:
    """Parents without an entry are 0755 and of the epoch, so that the same archive gives the same tree."""
    umask = os.umask(0o077)
    try:
        unpacker(archive(entry(b"a/b/f", b"x")))
    finally:
        os.umask(umask)
    for name in ("a", "a/b"):
        facts = (unpacker.root / name).stat()
        assert (stat.S_IMODE(facts.st_mode), facts.st_mtime) == (0o755, 0)


def test_names_in_all_their_spellings(unpacker: Unpacker) -> None:
    """`./a`, `/a`, `a//b/` and `a/./b` are the names one thinks they are."""
    unpacker(archive(directory(b"./"), entry(b"./a/f"), directory(b"/a//b/"), entry(b"a/./b/g"), entry(b"//c")))
    assert unpacker.names() == [b"a", b"a/b", b"a/b/g", b"a/f", b"c"]


def test_names_of_any_bytes(unpacker: Unpacker) -> None:
    """Every byte but / and zero may be in a name, and paths may be as long as the test's directory leaves of 4096."""
    odd = bytes(set(range(1, 256)) - {ord("/")})[:200]
    deep = b"/".join([b"d" * 200] * ((4096 - len(f"{unpacker.top}/root1/")) // 201))
    unpacker(archive(pax({b"path": odd}) + entry(b"x"), pax({b"path": deep}) + entry(b"x")))
    assert {odd, deep} <= set(unpacker.names())


def test_set_id_bits_and_the_sticky_bit(unpacker: Unpacker) -> None:
    """Modes are kept whole: an image's su is setuid (the store's top is closed to everybody else)."""
    unpacker(archive(entry(b"su", mode=0o6755), directory(b"tmp", mode=0o1777), entry(b"ro", b"x", mode=0o444)))
    assert [stat.S_IMODE((unpacker.root / name).stat().st_mode) for name in ("su", "tmp", "ro")] == [
        0o6755,
        0o1777,
        0o444,
    ]


def test_times(unpacker: Unpacker) -> None:
    """Times are kept, of links and directories too, before 1970 and in fractions of a second."""
    unpacker(
        archive(
            directory(b"d", mtime=11),
            pax({b"mtime": b"-86400"}) + entry(b"d/old"),
            pax({b"mtime": b"1.123456789"}) + entry(b"d/exact"),
            symlink(b"d/link", b"x", mtime=12),
            tars.header(b"d/fifo", kind=tars.FIFO, mtime=13),
        )
    )
    top = unpacker.root / "d"
    assert (top / "old").stat().st_mtime_ns == -86400 * 10**9
    assert (top / "exact").stat().st_mtime_ns == 1_123_456_789
    assert [(top / name).lstat().st_mtime for name in (".", "link", "fifo")] == [11, 12, 13]


def test_sparse_files_stay_sparse(unpacker: Unpacker) -> None:
    """A file of 10 GB that is a kilobyte in the archive is one of 10 GB that takes next to nothing on disk."""
    size = 10 * 10**9
    records = {b"GNU.sparse.size": b"%d" % size, b"GNU.sparse.map": b"0,5,%d,5" % (size - 5)}
    done = unpacker(archive(pax(records) + entry(b"f", b"beginsends!"[:10])))
    facts = (unpacker.root / "f").stat()
    assert facts.st_size == size
    assert facts.st_blocks * 512 < 1 << 20
    assert done.size == 10
    with (unpacker.root / "f").open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(-6, os.SEEK_END)
        assert file.read() == b"\0sends"


def test_volume_labels_are_left_out(unpacker: Unpacker) -> None:
    """GNU tar's volume labels are not files of an image."""
    unpacker(archive(tars.header(b"label", kind=b"V"), entry(b"f")))
    assert unpacker.names() == [b"f"]


def test_device_nodes(unpacker: Unpacker) -> None:
    """Device nodes are made where they may be, else left out and named, as are hard links to them."""
    device = tars.header(b"./null", kind=tars.CHAR, major=b"0000001\0", minor=b"0000003\0", mode=0o666)
    done = unpacker(archive(device, hard_link(b"./also", b"./null"), entry(b"f")))
    if ROOT and not done.skipped:
        facts = (unpacker.root / "null").lstat()
        assert stat.S_ISCHR(facts.st_mode)
        assert facts.st_rdev == os.makedev(1, 3)
    else:
        assert done.skipped == ("null", "also")
        assert unpacker.names() == [b"f"]


def test_user_attributes(unpacker: Unpacker) -> None:
    """user.* attributes are kept on files and directories, also on read-only ones; others are left out."""
    _user_xattrs(unpacker.top)
    records = {b"SCHILY.xattr.user.a%3Db": b"\0\n", b"SCHILY.xattr.security.selinux": b"x", b"SCHILY.xattr.user": b""}
    unpacker(archive(pax(records) + directory(b"d", mode=0o555), pax(records) + entry(b"f", b"x", mode=0o444)))
    for name in ("d", "f"):
        assert os.listxattr(unpacker.root / name) == ["user.a=b"]
        assert os.getxattr(unpacker.root / name, "user.a=b") == b"\0\n"


def test_a_damaged_capability_is_left_out(unpacker: Unpacker) -> None:
    """A security.capability that is none does not spoil the archive."""
    unpacker(archive(pax({b"SCHILY.xattr.security.capability": b"rubbish"}) + entry(b"f")))
    assert unpacker.names() == [b"f"]


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_owners(unpacker: Unpacker) -> None:
    """Owners are numbers and kept as they are, up to the largest that Linux has."""
    unpacker(
        archive(
            pax({b"uid": b"4294967294", b"gid": b"65534"}) + entry(b"f", mode=0o4755),
            directory(b"d", uid=33, gid=33),
            symlink(b"l", b"x", uid=33, gid=34),
            tars.header(b"p", kind=tars.FIFO, uid=35, gid=36),
        )
    )
    owners = {name: (unpacker.root / name).lstat() for name in "fdlp"}
    assert {name: (facts.st_uid, facts.st_gid) for name, facts in owners.items()} == {
        "f": (4294967294, 65534),
        "d": (33, 33),
        "l": (33, 34),
        "p": (35, 36),
    }
    assert stat.S_IMODE(owners["f"].st_mode) == 0o4755


def test_with_a_single_id_owners_are_left_out(unpacker: Unpacker) -> None:
    """Where only one id exists every file is the caller's own."""
    unpacker(archive(entry(b"f", uid=33, gid=33), symlink(b"l", b"x", uid=b"\x80" + b"\xff" * 7)), single_id=True)
    assert {(unpacker.root / name).lstat().st_uid for name in "fl"} == {os.geteuid()}


def test_owners_that_are_none(unpacker: Unpacker) -> None:
    """An id that Linux does not have is refused: -1 would mean "as it is"."""
    for uid in (b"4294967295", b"4294967296", b"99999999999999999999"):
        with pytest.raises(HostileArchive, match="which are invalid ids"):
            unpacker(archive(pax({b"uid": uid}) + entry(b"f")), single_id=False)
    with pytest.raises(HostileArchive, match="which are invalid ids"):
        unpacker(archive(entry(b"f", uid=b"\xff" * 8)), single_id=False)


@pytest.mark.skipif(ROOT, reason="root may give files to anybody")
def test_owners_that_cannot_be_given(unpacker: Unpacker) -> None:
    """Where a file cannot be given away, the error says whose it should be."""
    with pytest.raises(ImageError, match=r"'f' belongs to 33:33, which this process is not allowed to set"):
        unpacker(archive(entry(b"f", uid=33, gid=33)), single_id=False)


LIMITS = {
    "entries": (Limits(entries=3), archive(*[entry(b"%d" % n) for n in range(4)]), "more than 3 entries"),
    "bytes": (Limits(bytes=1000), archive(entry(b"a", b"x" * 600), entry(b"b", b"x" * 600)), "more than 1000 bytes"),
    "bytes of one file": (Limits(bytes=1000), archive(entry(b"a", b"x" * 1001)), "more than 1000 bytes"),
    "bytes after the end": (Limits(bytes=1000), archive(entry(b"a")) + bytes(4096), "more bytes after its end"),
    "a path": (Limits(path=20), archive(entry(b"n" * 21)), "the limit is 20"),
    "a component": (Limits(component=20), archive(entry(b"n" * 21)), "the limit is 20"),
    "attributes": (
        Limits(xattrs=20),
        archive(pax({b"SCHILY.xattr.user.a": b"v" * 20}) + entry(b"f")),
        "more than 20 bytes of extended attributes",
    ),
    "the length of a sparse file": (
        Limits(apparent_size=1000),
        archive(pax({b"GNU.sparse.size": b"1001", b"GNU.sparse.map": b"0,0"}) + entry(b"f")),
        "'f' is 1001 bytes long, the limit is 1000",
    ),
}


@pytest.mark.parametrize(("limits", "data", "words"), LIMITS.values(), ids=LIMITS.keys())
def test_limits(unpacker: Unpacker, limits: Limits, data: bytes, words: str) -> None:
    """What passes a limit is refused before it fills the disk."""
    with pytest.raises(HostileArchive, match=re.escape(words)):
        unpacker(data, limits=limits)


def test_a_very_deep_directory_gives_way(unpacker: Unpacker) -> None:
    """A directory deeper than there are descriptors can be replaced by a file."""
    deep = b"/".join([b"d"] * 400)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit[1]))
    try:
        unpacker(archive(pax({b"path": deep}) + directory(b"x"), entry(b"d", b"file")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert (unpacker.root / "d").read_bytes() == b"file"


# Layers: whiteouts

OPAQUE = entry(b"d/.wh..wh..opq")


def test_whiteouts_become_overlays(unpacker: Unpacker) -> None:
    """`.wh.NAME` becomes the device 0:0 under NAME, which overlayfs takes for a deletion; parents are made."""
    unpacker(archive(entry(b".wh.top"), entry(b"a/b/.wh.deep")), whiteouts=True)
    for name in ("top", "a/b/deep"):
        facts = (unpacker.root / name).lstat()
        assert stat.S_ISCHR(facts.st_mode)
        assert facts.st_rdev == 0
    assert unpacker.names() == [b"a", b"a/b", b"a/b/deep", b"top"]


@pytest.mark.parametrize("length", [251, 252, 255])
def test_a_whiteout_may_hide_the_longest_name(unpacker: Unpacker, length: int) -> None:
    """A file's name has up to 255 bytes, and `.wh.` comes before it."""
    name = b"n" * length
    unpacker(archive(pax({b"path": b"d/.wh." + name}), entry(b"f")), whiteouts=True)
    assert unpacker.names() == [b"d", b"d/" + name]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "between", "last"])
def test_an_opaque_mark_counts_wherever_it_stands(unpacker: Unpacker, place: int) -> None:
    """`.wh..wh..opq` hides what lower layers have, never what its own layer has, before it or after it."""
    _user_xattrs(unpacker.top)
    entries = [directory(b"d", mode=0o750, mtime=7), entry(b"d/f", b"x")]
    entries.insert(place, OPAQUE)
    unpacker(archive(*entries), whiteouts=True)
    top = unpacker.root / "d"
    assert os.getxattr(top, "user.overlay.opaque") == b"y"
    assert (top / "f").read_bytes() == b"x"
    assert (stat.S_IMODE(top.stat().st_mode), top.stat().st_mtime) == (0o750, 7)
    assert unpacker.names() == [b"d", b"d/f"]


def test_an_opaque_root(unpacker: Unpacker) -> None:
    """A layer may hide all below it."""
    _user_xattrs(unpacker.top)
    unpacker(archive(entry(b".wh..wh..opq"), entry(b"f")), whiteouts=True)
    assert os.getxattr(unpacker.root, "user.overlay.opaque") == b"y"


def test_a_whiteout_leaves_its_own_layers_entry(unpacker: Unpacker) -> None:
    """A whiteout and an entry of one name: the entry stays, and of a directory only what lies below it is hidden."""
    _user_xattrs(unpacker.top)
    unpacker(
        archive(
            entry(b"f", b"mine"),
            entry(b".wh.f"),
            entry(b".wh.d"),
            entry(b"d/f", b"mine"),
            entry(b".wh.later"),
            entry(b"later", b"mine"),
        ),
        whiteouts=True,
    )
    assert (unpacker.root / "f").read_bytes() == b"mine"
    assert (unpacker.root / "later").read_bytes() == b"mine"
    assert (unpacker.root / "d" / "f").read_bytes() == b"mine"
    assert os.getxattr(unpacker.root / "d", "user.overlay.opaque") == b"y"


def test_a_whiteout_in_a_directory_that_gave_way(unpacker: Unpacker) -> None:
    """Whiteouts and marks in a directory that a file or a link then replaced go with it, and not to the link's end."""
    _user_xattrs(unpacker.top)
    unpacker(
        archive(
            entry(b"d/.wh.f"),
            OPAQUE,
            entry(b"e/.wh.f"),
            entry(b"e/.wh..wh..opq"),
            directory(b"other"),
            entry(b"d"),
            symlink(b"e", b"other"),
        ),
        whiteouts=True,
    )
    assert unpacker.names() == [b"d", b"e", b"other"]
    assert os.listxattr(unpacker.root / "other") == []


def test_a_whiteout_through_a_link(unpacker: Unpacker) -> None:
    """A whiteout below a link of its own layer lies where the link leads, below the root."""
    unpacker(
        archive(directory(b"usr/lib"), symlink(b"lib", os.fsencode(unpacker.witness)), entry(b"lib/.wh.secret")),
        whiteouts=True,
    )
    inside = unpacker.root / str(unpacker.witness)[1:] / "secret"
    assert stat.S_ISCHR(inside.lstat().st_mode)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_whiteout_with_data(unpacker: Unpacker, compress: Callable[[bytes], bytes]) -> None:
    """A whiteout should be empty; what data it has is passed over."""
    data = archive(entry(b".wh.f", b"why not" * 100), entry(b"after", b"data"))
    unpacker(compress(data), whiteouts=True)
    assert (unpacker.root / "after").read_bytes() == b"data"
    assert stat.S_ISCHR((unpacker.root / "f").lstat().st_mode)


FORGED = {
    "a bare .wh.": (entry(b"d/.wh."), "a whiteout without a name: 'd/.wh.'"),
    "a whiteout of .": (entry(b".wh.."), "a whiteout without a name"),
    "a whiteout of ..": (entry(b"d/.wh..."), "a whiteout without a name"),
    "a whiteout of a whiteout": (entry(b".wh..wh.f"), "a whiteout without a name"),
    "a whiteout of a name of 256 bytes": (
        pax({b"path": b".wh." + b"n" * 256}) + entry(b"f"),
        "a name of 260 bytes between slashes",
    ),
    "a hard link to the whiteout of a long name": (
        pax({b"linkpath": b".wh." + b"n" * 255}) + hard_link(b"l", b"t"),
        "a name of 259 bytes between slashes",
    ),
    "a whiteout with something below": (entry(b".wh.d/f"), "forged whiteout: '.wh.d' as a directory"),
    "the device itself": (
        tars.header(b"f", kind=tars.CHAR, major=b"0000000\0", minor=b"0000000\0"),
        "forged whiteout",
    ),
    "the attribute itself": (pax({b"SCHILY.xattr.user.overlay.opaque": b"y"}) + directory(b"d"), "forged attribute"),
}


@pytest.mark.parametrize(("entries", "words"), FORGED.values(), ids=FORGED.keys())
def test_forged_whiteouts_are_refused(unpacker: Unpacker, entries: bytes, words: str) -> None:
    """Whiteouts that mean nothing, and overlayfs' own forms of them, are refused in a layer."""
    with pytest.raises(HostileArchive, match=re.escape(words)):
        unpacker(archive(entries), whiteouts=True)


def test_a_full_disk_is_the_kernels_own_error(unpacker: Unpacker) -> None:
    """What the kernel refuses while files are written is an OSError with its errno, for the caller to word."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    data = archive(entry(b"f", bytes(range(256)) * 5000))
    try:
        (unpacker.top / "archive").write_bytes(data)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
        with opened(unpacker.top / "archive") as fd, pytest.raises(OSError, match="File too large") as raised:
            unpacker.read(fd)
        assert raised.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)


def _opens(unpacker: Unpacker, depth: int) -> int:
    """How many files the process that unpacks an entry below `depth` directories opens."""
    name = b"d/" * depth + b"x"
    with mock.patch("os.open", side_effect=os.open) as opened:
        unpacker(tars.archive(pax({b"path": name}) + entry(b"x")))
    return opened.call_count


def test_a_deep_path_takes_time_with_its_depth(unpacker: Unpacker) -> None:
    """An entry twice as deep takes twice as many system calls, also for the times of the directories above it."""
    counts = [_opens(unpacker, depth) for depth in (50, 100, 200, 400)]
    assert all(after < 2.2 * before for before, after in itertools.pairwise(counts))
    assert counts[-1] < 5 * 400


def test_a_deep_directory_has_its_times(unpacker: Unpacker) -> None:
    """Each directory on a deep path has its own mode and time, those of the archive or 0755 and 0."""
    deep = b"d/" * 300
    unpacker(tars.archive(directory(b"d/d/", mode=0o711, mtime=7), pax({b"path": deep}) + directory(b"x", mtime=9)))
    found = tars.snapshot(unpacker.root)
    assert {name: (node.mode, node.mtime) for name, node in found.items() if name != b"."} == {
        b"/".join([b"d"] * depth): {2: (0o711, 7), 300: (0o755, 9)}.get(depth, (0o755, 0)) for depth in range(1, 301)
    }


def test_directories_without_entries_count(unpacker: Unpacker) -> None:
    """Directories that no entry names count for the limit of entries: one entry can make two thousand of them."""
    archive = tars.archive(pax({b"path": b"d/" * 50 + b"x"}) + entry(b"x"))
    with pytest.raises(HostileArchive, match="more than 40 entries, which is the limit"):
        unpacker(archive, limits=Limits(entries=40))
