"""mount(2), pivot_root(2), and the mount calls that take descriptors (open_tree, move_mount, mount_setattr, fsopen …).

Paths are as the calling process sees them. Returned descriptors are close-on-exec; the caller closes them.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_uint64, c_ulong, c_void_p

from nbcontainer.linux.libc import check, encode, int_, libc, syscall, unsigned

# <sys/mount.h>
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MNT_DETACH = 2

# <linux/mount.h>
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x00000004
MOVE_MOUNT_T_EMPTY_PATH = 0x00000040
FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = 1
MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR_IDMAP = 0x00100000

# <fcntl.h>
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

libc.mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_void_p)
libc.mount.restype = c_int
libc.umount2.argtypes = (c_char_p, c_int)
libc.umount2.restype = c_int


class _MountAttr(ctypes.Structure):
    """struct mount_attr, its first version (Linux 5.12)."""

    _fields_ = (
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    )


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    """mount(2). The kernel cuts `data` after a page (4096 bytes)."""
    result = libc.mount(encode(source), encode(target), encode(fstype), flags, encode(data))
    check(result, "mount", target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    check(libc.umount2(encode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). With `"."` twice, the old root lies on the new one; the caller detaches it."""
    syscall("pivot_root", encode(new_root), encode(put_old), path=new_root)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2), Linux 5.2: return a descriptor of a mount, or with OPEN_TREE_CLONE of a detached copy of it."""
    return syscall("open_tree", int_(dirfd), encode(path), unsigned(flags), path=path)


def move_mount(from_dirfd: int, from_path: str, to_dirfd: int, to_path: str, flags: int) -> None:
    """move_mount(2), Linux 5.2: attach a detached mount, or move an attached one."""
    syscall(
        "move_mount",
        int_(from_dirfd),
        encode(from_path),
        int_(to_dirfd),
        encode(to_path),
        unsigned(flags),
        path=to_path,
    )


def mount_setattr(
    dirfd: int, path: str, flags: int, *, attr_set: int = 0, propagation: int = 0, userns_fd: int = 0
) -> None:
    """mount_setattr(2), Linux 5.12. With MOUNT_ATTR_IDMAP, the kernel uses the map of namespace `userns_fd`."""
    attr = _MountAttr(attr_set=attr_set, propagation=propagation, userns_fd=userns_fd)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    syscall("mount_setattr", int_(dirfd), encode(path), unsigned(flags), ctypes.byref(attr), size, path=path)


def fsopen(fstype: str) -> int:
    """fsopen(2), Linux 5.2: return a context in which a file system is configured."""
    return syscall("fsopen", encode(fstype), unsigned(FSOPEN_CLOEXEC), path=fstype)


def fsconfig(context: int, key: str, value: str | None) -> None:
    """fsconfig(2): set one option of the context; a flag if `value` is None. EINVAL for strings above 255 bytes."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    what = key if value is None else f"{key}={value}"
    syscall("fsconfig", int_(context), unsigned(command), encode(key), encode(value), int_(0), path=what)


def fsconfig_fd(context: int, key: str, value: int) -> None:
    """fsconfig(2): set an option of the context to a descriptor. EINVAL if the file system has no such option."""
    syscall("fsconfig", int_(context), unsigned(FSCONFIG_SET_FD), encode(key), None, int_(value), path=key)


def fsconfig_create(context: int) -> None:
    """fsconfig(2) with FSCONFIG_CMD_CREATE: make the superblock."""
    syscall("fsconfig", int_(context), unsigned(FSCONFIG_CMD_CREATE), None, None, int_(0))


def fsmount(context: int, attributes: int) -> int:
    """fsmount(2): return a descriptor of the new, detached mount. `attributes` are MOUNT_ATTR_*."""
    return syscall("fsmount", int_(context), unsigned(FSMOUNT_CLOEXEC), unsigned(attributes))
