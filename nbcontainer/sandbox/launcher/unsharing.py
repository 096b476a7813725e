"""The launcher's own namespaces: made by unshare(2), with maps of user ids written from outside."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.mounts import MS_REC, MS_SLAVE
from nbcontainer.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    import socket

    from nbcontainer.linux.kernel import Kernel


def root_of(idmap: dict[str, Any]) -> int:
    """The host's uid of containers' root."""
    return next((int(outside) for inside, outside, _ in idmap["uids"] if inside == 0), 0)


def refuse(control: socket.socket, settings: dict[str, Any], error: OSError) -> None:
    """Tells the notebook that there will be no launcher, and why."""
    # A plain user maps its own id by the namespace's right: where that is refused, so is the namespace.
    own_id = settings["idmap"]["kind"] == "single" and root_of(settings["idmap"]) != 0
    refused_map = str(error.filename).endswith("map") and not own_id
    protocol.send(control, {"failed": _in_words(error), "errno": error.errno or 0, "map": refused_map})


def _in_words(error: OSError) -> str:
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def enter(kernel: Kernel, settings: dict[str, Any], *, entered: bool) -> int:
    """Makes this process root of its namespaces; an O_PATH descriptor of the store, seen from inside them.

    `entered` says that it is in those of the second run already, where all ids are there: the containers' are below.

    The store is entered by name before ids change: root's launcher, once mapped, may not go where its path leads.
    The working directory comes along into the new mount namespace (unshare(2)), where a descriptor would not.
    """
    os.chdir(settings["store"])
    idmap = settings["idmap"]
    if not entered or idmap["kind"] != "host":
        make_namespaces(kernel, _same(idmap) if entered else idmap)
    if idmap["kind"] == "range":
        os.setgroups([])
    if idmap["kind"] != "host":
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    store = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir("/")
    return store


def _same(idmap: dict[str, Any]) -> dict[str, Any]:
    """The map to a user namespace below one that has that map: by the same ids, which its root may write."""
    same = {name: [[inside, inside, count] for inside, _, count in idmap[name]] for name in ("uids", "gids")}
    return {**idmap, **same, "tool": False}


def make_namespaces(kernel: Kernel, idmap: dict[str, Any]) -> None:
    """The user namespace, if there is to be one, and a mount namespace that the host's mounts come into."""
    if idmap["kind"] != "host":
        _make_user_namespace(kernel, idmap)
    kernel.unshare(CLONE_NEWNS)
    kernel.mount(None, "/", None, MS_REC | MS_SLAVE, None)


def _make_user_namespace(kernel: Kernel, idmap: dict[str, Any]) -> None:
    if idmap["kind"] == "single":
        kernel.unshare(CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        for name in ("uid", "gid"):
            _write(f"/proc/self/{name}_map", _map_text(idmap[f"{name}s"]))
    else:
        _map_from_outside(kernel, idmap)


def _map_from_outside(kernel: Kernel, idmap: dict[str, Any]) -> None:
    """Has a child that stays outside write the maps: only there is the privilege, or newuidmap's, to do so."""
    go, gone = os.pipe2(os.O_CLOEXEC)
    target = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(gone)
            os.read(go, 1)
            code = _write_maps(target, idmap)
        finally:
            os._exit(code)
    os.close(go)
    try:
        kernel.unshare(CLONE_NEWUSER)
    finally:
        os.close(gone)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        tool = "newuidmap" if idmap["tool"] else "/proc/self/uid_map"
        raise OSError(errno.EPERM, "the map of user ids was refused", tool)


def _write_maps(target: int, idmap: dict[str, Any]) -> int:
    for name in ("uid", "gid"):
        ranges = idmap[f"{name}s"]
        if not idmap["tool"]:
            _write(f"/proc/{target}/{name}_map", _map_text(ranges))
            continue
        words = [str(number) for line in ranges for number in line]
        if os.spawnvp(os.P_WAIT, f"new{name}map", [f"new{name}map", str(target), *words]) != 0:
            return 1
    return 0


def _map_text(ranges: list[list[int]]) -> str:
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)


def _write(path: str, text: str) -> None:
    """One write(2), as the kernel wants it for maps (user_namespaces(7))."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
