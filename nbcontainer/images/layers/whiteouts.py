"""How a layer hides what is in the layers below it: names in its tar, and attributes in overlayfs.

Sources: OCI image-spec layer.md; the kernel's overlayfs.rst (userxattr).
"""

from __future__ import annotations

import os

WHITEOUT = b".wh."
"""What the name of a tar entry starts with that hides the rest of the name."""

OPAQUE = b".wh..wh..opq"
"""The name of a tar entry that hides everything which lower layers have in its directory."""

OPAQUE_XATTR = "user.overlay.opaque"
"""The attribute of a directory that hides what lower layers have in it; its value is `y`."""

ORIGIN_XATTR = "user.overlay.origin"
"""The attribute of a directory that was copied up; empty if nothing more is known of the one below.

Without it, and if no lower layer has the directory, overlayfs lists the whiteouts in it as files that cannot be opened:
`ovl_check_origin_xattr` in fs/overlayfs/util.c.
"""


def is_opaque(directory: int | str) -> bool:
    """Whether a directory, by its descriptor or its path (host), hides what lower layers have in it.

    overlayfs does not look for the attribute at the root of a layer: `Images.lowers` leaves out the layers below it.
    """
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError:
        return False
