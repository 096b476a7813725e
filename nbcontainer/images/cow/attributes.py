"""Extended attributes that `apply` takes to the host: those of users, and access control lists.

File capabilities and security labels of a container never reach the host, and what overlayfs notes is about a layer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OVERLAY = "user.overlay."
_KEPT = ("user.", "system.posix_acl_")
_REFUSED = frozenset({errno.ENOTSUP, errno.EPERM, errno.EINVAL})


def is_kept(name: str) -> bool:
    """Return whether an attribute of this name is taken to the host."""
    return name.startswith(_KEPT) and not name.startswith(_OVERLAY)


def kept(fd: int) -> dict[str, bytes]:
    """Return the attributes of an open file or directory by name. Raises `OSError`."""
    found = {}
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    for name in names:
        if is_kept(name):
            with contextlib.suppress(FileNotFoundError):
                found[name] = os.getxattr(fd, name)
    return found


def add(target: int, attributes: Mapping[str, bytes]) -> int:
    """Give an open file or directory attributes; return how many its file system does not take. Raises `OSError`."""
    lost = 0
    for name, value in attributes.items():
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            lost += 1
    return lost


def replace(target: int, attributes: Mapping[str, bytes]) -> int:
    """Make the attributes of an open file or directory these and no others; return as `add` does. Raises `OSError`."""
    now = kept(target)
    for name in now.keys() - attributes.keys():
        with contextlib.suppress(FileNotFoundError):
            os.removexattr(target, name)
    return add(target, {name: value for name, value in attributes.items() if now.get(name) != value})


def mark(attributes: Mapping[str, bytes]) -> int:
    """Return a number that stands for attributes. It is never 0, which stands for attributes that are not known."""
    text = repr(sorted(attributes.items())).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") + 1
