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


def is_opaque(directory: int) -> bool:
    """Whether overlayfs hides what lower layers have in the directory of this descriptor."""
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError:
        return False
