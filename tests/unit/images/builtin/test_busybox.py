"""The busybox that is always there: the same tree from the same binary, and a clear word where there is none."""

from __future__ import annotations

import os
import stat
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import ImageError, ImageNotFound
from nbcontainer.images.builtin import busybox
from tests.requirements import require
from tests.unit.images.tars import snapshot

if TYPE_CHECKING:
    from tests.unit.images.in_process import Unpacker

APPLETS = ["bin/busybox", "bin/sh", "usr/bin/env", "usr/sbin/chroot", "bin/sh"]


def test_the_tree(unpacker: Unpacker) -> None:
    """A person finds what they expect: the binary, a link for every applet, users, hosts, a /tmp for everybody."""
    unpacker(busybox.busybox_tar(b"the binary", APPLETS))
    root = unpacker.root
    assert (root / "bin" / "busybox").read_bytes() == b"the binary"
    assert stat.S_IMODE((root / "bin" / "busybox").stat().st_mode) == 0o755
    for applet in APPLETS[1:]:
        assert (root / applet).is_symlink()
        assert (root / applet).resolve() == (root / "bin" / "busybox").resolve()
    assert (root / "etc" / "passwd").read_text().startswith("root:x:0:0:root:/root:/bin/sh\n")
    assert {"hosts", "resolv.conf", "group", "shadow"} <= {path.name for path in (root / "etc").iterdir()}
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    for name in ("proc", "sys", "dev"):
        assert list((root / name).iterdir()) == []
    assert {node.mtime for node in snapshot(root).values()} == {0}


def test_the_same_binary_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tar depends on the binary and its applets, whatever their order, and on nothing else.

    The working directory may have been removed.
    """
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    first = busybox.busybox_tar(b"the binary", APPLETS)
    assert busybox.busybox_tar(b"the binary", APPLETS[::-1]) == first
    assert busybox.busybox_tar(b"another", APPLETS) != first


def test_this_machines_busybox(unpacker: Unpacker) -> None:
    """A static busybox of this machine becomes a tree whose programs are there."""
    require("busybox", available=busybox.static_busybox() is not None, why="no static busybox is installed")
    tar, origin = busybox.busybox()
    unpacker(tar)
    assert (unpacker.root / "bin" / "busybox").read_bytes() == Path(origin).read_bytes()
    assert (unpacker.root / "bin" / "sh").is_symlink()


def elf(kinds: list[int], size: int = 56, *, magic: bytes = b"\x7fELF\x02\x01") -> bytes:
    """An ELF file of 64 bits with segments of these types (elf(5))."""
    head = bytearray(64)
    head[: len(magic)] = magic
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, size, len(kinds))
    return bytes(head) + b"".join(struct.pack("<I", kind).ljust(size, b"\0") for kind in kinds)


PROGRAMS = {
    "static": (elf([1, 1, 2]), True),
    "with a loader": (elf([6, 3, 1]), False),
    "of 32 bits": (elf([1], magic=b"\x7fELF\x01\x01"), False),
    "a script": (b"#!/bin/sh\n", False),
    "empty": (b"", False),
    "cut off": (elf([1, 1, 3])[:100], False),
    "with segments of no size": (elf([1], size=0), False),
}


@pytest.mark.parametrize(("data", "static"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_static_programs(tmp_path: Path, data: bytes, static: bool) -> None:
    """A program is static if it is an ELF file that asks for no loader; nothing else is looked into."""
    (tmp_path / "program").write_bytes(data)
    assert busybox.is_static(tmp_path / "program") is static


def test_no_file_is_not_static(tmp_path: Path) -> None:
    """What cannot be read is no static program."""
    assert not busybox.is_static(tmp_path / "missing")


@pytest.mark.parametrize("body", ["#!/bin/sh\nexit 1\n", "rubbish"])
def test_a_busybox_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A busybox for another machine, or none at all, is one clear error."""
    program = tmp_path / "busybox"
    program.write_text(body)
    program.chmod(0o755)
    monkeypatch.setattr(busybox, "static_busybox", lambda: program)
    with pytest.raises(ImageError, match=r"--list-full failed: .*; install a busybox for the host"):
        busybox.busybox()


def test_without_a_busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none and none can be fetched, the error says what to install."""
    monkeypatch.setattr(busybox, "static_busybox", lambda: None)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(ImageNotFound, match=r"no static busybox on PATH.*; install it \(Debian, Ubuntu: apt install"):
        busybox.busybox()


def test_a_relative_directory_of_path_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may write to the notebook's directory: no busybox there is run on the host, whatever PATH has."""
    (tmp_path / "busybox").write_bytes(Path(sys.executable).read_bytes())
    (tmp_path / "busybox").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".::../{tmp_path.name}")
    assert not [path for path in busybox._on_path() if path.is_relative_to(tmp_path)]
