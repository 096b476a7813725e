"""Prints the entries of tars as libarchive, the library of bsdtar, reads them. A program: a crash ends it alone."""

from __future__ import annotations

import ctypes
import locale
import sys

_TYPES = {0o100000: "file", 0o040000: "directory", 0o120000: "symlink", 0o020000: "char", 0o060000: "block"}
_OK, _EOF, _WARN = 0, 1, -20


def main(paths: list[str]) -> None:
    """Print a line for each archive, and one for each entry: type, size, name and target."""
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    library = ctypes.CDLL("libarchive.so.13")
    library.archive_read_new.restype = ctypes.c_void_p
    library.archive_entry_size.restype = ctypes.c_int64
    library.archive_entry_filetype.restype = ctypes.c_uint
    for get in ("archive_entry_pathname", "archive_entry_symlink", "archive_entry_hardlink", "archive_error_string"):
        getattr(library, get).restype = ctypes.c_char_p
    for path in paths:
        print("=", path)
        _listed(library, path)


def _listed(library: ctypes.CDLL, path: str) -> None:
    archive = ctypes.c_void_p(library.archive_read_new())
    library.archive_read_support_format_tar(archive)
    library.archive_read_open_filename(archive, path.encode(), ctypes.c_size_t(10240))
    entry = ctypes.c_void_p()
    while (status := library.archive_read_next_header(archive, ctypes.byref(entry))) != _EOF:
        if status not in (_OK, _WARN):
            print("!", (library.archive_error_string(archive) or b"").decode(errors="replace").replace("\n", " "))
            break
        name, link = library.archive_entry_pathname(entry), library.archive_entry_hardlink(entry)
        kind = "link" if link is not None else _TYPES.get(library.archive_entry_filetype(entry) & 0o170000, "fifo")
        if link is None:
            link = library.archive_entry_symlink(entry)
        print(kind, library.archive_entry_size(entry), "n" + (name or b"").hex(), "l" + (link or b"").hex())
    library.archive_read_free(archive)


if __name__ == "__main__":
    main(sys.argv[1:])
