"""The stream in which files and directories are copied between two trees, and how both sides open files.

The stream has, for each entry, a head, a path, the target of a link, and pieces of content with their lengths. One side
sends (`sending`), and the other one trusts no part of it (`receiving`). Both hold descriptors of directories and follow
no link below them (openat2(2)). The side of a container runs with the container's tree as its root, and nothing is
imported there later.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS

HEAD = struct.Struct("<cIqHH")
"""Kind, mode, time of modification in ns, bytes of the path, bytes of a link's target."""

LATEST = (1 << 63) - 1
"""The latest time, in the year 2262; a file system may have later ones, which become this one."""

PIECE = struct.Struct("<I")
"""The length of a piece of content; 0 after the last one."""

CHUNK = 1 << 16
"""The most bytes of a piece."""

DIRECTORY, REGULAR, LINK, END = b"d", b"f", b"l", b"e"
KINDS = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: REGULAR, stat.S_IFLNK: LINK}
"""The kinds of entries by the type of file."""

INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
"""How the path that a user wrote is resolved in a tree."""

BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
"""How the path of an entry is resolved below the top."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
