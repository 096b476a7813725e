"""The kernel as one object. Tests pass `RecordingKernel` to the code that sets up a container instead."""

from __future__ import annotations

import fcntl
import os
import resource
import socket

from nbcontainer.linux import files, mounts, namespaces, netdevice, process, seccomp


class Kernel:
    """Every call that the steps of a plan make, named as in its man page. Each raises `OSError`.

    Paths are as the calling process sees them. Returned descriptors are close-on-exec; the caller closes them.
    """

    mount = staticmethod(mounts.mount)
    umount2 = staticmethod(mounts.umount2)
    pivot_root = staticmethod(mounts.pivot_root)
    open_tree = staticmethod(mounts.open_tree)
    move_mount = staticmethod(mounts.move_mount)
    mount_setattr = staticmethod(mounts.mount_setattr)
    fsopen = staticmethod(mounts.fsopen)
    fsconfig = staticmethod(mounts.fsconfig)
    fsconfig_fd = staticmethod(mounts.fsconfig_fd)
    fsconfig_create = staticmethod(mounts.fsconfig_create)
    fsmount = staticmethod(mounts.fsmount)
    openat2 = staticmethod(files.openat2)
    read_text = staticmethod(files.read_text)
    ioctl = staticmethod(files.ioctl)
    fcntl = staticmethod(fcntl.fcntl)
    clone = staticmethod(namespaces.clone)
    unshare = staticmethod(namespaces.unshare)
    setns = staticmethod(namespaces.setns)
    write_id_maps = staticmethod(namespaces.write_id_maps)
    user_namespace = staticmethod(namespaces.user_namespace)
    raise_interface = staticmethod(netdevice.raise_interface)
    add_ipv6 = staticmethod(netdevice.add_ipv6)
    prctl = staticmethod(process.prctl)
    capset = staticmethod(process.capset)
    drop_bounding = staticmethod(process.drop_bounding)
    last_capability = staticmethod(process.last_capability)
    clear_ambient = staticmethod(process.clear_ambient)
    close_all_but = staticmethod(process.close_all_but)
    cloexec_from = staticmethod(process.cloexec_from)
    counts_by_namespace = staticmethod(process.counts_by_namespace)
    join_session_keyring = staticmethod(process.join_session_keyring)
    seccomp_set_mode_filter = staticmethod(seccomp.seccomp_set_mode_filter)
    getrlimit = staticmethod(resource.getrlimit)
    setrlimit = staticmethod(resource.setrlimit)
    sethostname = staticmethod(socket.sethostname)
    chdir = staticmethod(os.chdir)
    fchdir = staticmethod(os.fchdir)
    mkdir = staticmethod(os.mkdir)
    mkfifo = staticmethod(os.mkfifo)
    write = staticmethod(os.write)
    fchmod = staticmethod(os.fchmod)
    chmod = staticmethod(os.chmod)
    chown = staticmethod(os.chown)
    fchown = staticmethod(os.fchown)
    symlink = staticmethod(os.symlink)
    open = staticmethod(os.open)
    close = staticmethod(os.close)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.stat)
    readlink = staticmethod(os.readlink)
    listdir = staticmethod(os.listdir)
    sendfile = staticmethod(os.sendfile)
    setsid = staticmethod(os.setsid)
    setgroups = staticmethod(os.setgroups)
    setresgid = staticmethod(os.setresgid)
    setresuid = staticmethod(os.setresuid)
    getuid = staticmethod(os.getuid)
    getpid = staticmethod(os.getpid)
    nodename = staticmethod(process.nodename)
    dup2 = staticmethod(os.dup2)
    umask = staticmethod(os.umask)
    posix_spawn = staticmethod(os.posix_spawn)
