"""The formats that files of images and layers can have and that are not supported, by their signatures.

Sources: magic(5); the documentation of each format.
"""

from __future__ import annotations

_SIGNATURES = (
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"\x02\x21\x4c\x18", "lz4"),
    (0, b"\x5d\x00\x00", "lzma"),
    (0, b"LZIP", "lzip"),
    (0, b"\x89LZO", "lzop"),
    (0, b"\x1f\x9d", "compress (.Z)"),
    (0, b"\x1f\xa0", "compress (.Z)"),
    (0, b"\x1f\x1e", "pack (.z)"),
    (0, b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (0, b"LRZI", "lrzip"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"hsqs", "squashfs"),
    (0, b"sqsh", "squashfs"),
    (0, b"070701", "cpio"),
    (0, b"070702", "cpio"),
    (0, b"070707", "cpio"),
    (0, b"\xc7\x71", "cpio"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"!<arch>\n", "ar (.deb)"),
    (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"xar!", "xar"),
    (32, b"SIF_MAGIC", "SIF"),
    (0, b"\x7fELF", "ELF"),
    (0, b"{", "JSON"),
    (0, b"<", "HTML or XML"),
)
"""Offset and bytes of each signature, and the name of its format."""


def unsupported_format(first: bytes) -> str:
    """Return the name of the format that a stream with these first bytes has; empty if it is unknown."""
    return next((name for at, sign, name in _SIGNATURES if first.startswith(sign, at)), "")
