"""The launcher's own namespaces: unshare(2), with id maps that are written from outside.

The kinds of maps are those of `nbcontainer.sandbox.userns.idmap.MapKind`, which is not imported: this module is loaded
before the launcher executes itself once more.
"""

from __future__ import annotations

import errno
import os
from socket import socketpair
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.files import write_once
from nbcontainer.linux.mounts import MS_REC, MS_SLAVE
from nbcontainer.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER
from nbcontainer.linux.process import PR_SET_DUMPABLE
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    import socket

    from nbcontainer.linux.kernel import Kernel


def root_of(idmap: dict[str, Any]) -> int:
    """Return the host uid of the containers' root."""
    return next((int(outside) for inside, outside, _ in idmap["uids"] if inside == 0), 0)


def refuse(control: socket.socket, settings: dict[str, Any], error: OSError) -> None:
    """Report to the notebook why the launcher cannot start."""
    # A plain user maps its own id with the namespace's right: if the map is refused, so is the namespace.
    own_id = settings["idmap"]["kind"] == "single" and root_of(settings["idmap"]) != 0
    refused_map = str(error.filename).endswith("map") and not own_id
    kind = settings["idmap"]["kind"]
    protocol.send(control, {"failed": _in_words(error), "errno": error.errno or 0, "map": refused_map, "kind": kind})


def _in_words(error: OSError) -> str:
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def enter(kernel: Kernel, settings: dict[str, Any], *, entered: bool) -> int:
    """Make this process root of its namespaces. Returns an O_PATH descriptor of the store, opened inside them.

    `entered` means that this is the second run, in namespaces with all ids; those of the containers are below these.

    The store is entered by its path before the ids change: with mapped ids, root's launcher may lack access to the
    path. The working directory moves into the new mount namespace (unshare(2)); a descriptor would not.
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


class MapGate:
    """Holds a clone in a new user namespace until its maps are written. Made by the launcher before it clones.

    The clone calls `wait`, the launcher calls `open_for` and then, always, `close`.
    """

    def __init__(self, idmap: dict[str, Any]) -> None:
        self._idmap = _same(idmap)
        self._ours, self._theirs = socketpair()

    def wait(self, kernel: Kernel) -> None:
        """In the clone: wait until the maps are written, and be dumpable only as long. Raises `OSError`."""
        self._ours.close()
        kernel.prctl(PR_SET_DUMPABLE, 1)
        self._theirs.send(b"r")
        written = self._theirs.recv(1)
        kernel.prctl(PR_SET_DUMPABLE, 0)
        self._theirs.close()
        if not written:
            raise PermissionError(errno.EPERM, "the map of user ids was refused")

    def open_for(self, kernel: Kernel, pid: int) -> None:
        """In the launcher: write the maps of the clone `pid` and let it continue. Raises `OSError`."""
        self._theirs.close()
        if self._ours.recv(1):
            kernel.write_id_maps(pid, self._idmap["uids"], self._idmap["gids"])
            self._ours.send(b"w")

    def close(self) -> None:
        """Close both ends: a clone that still waits fails. Idempotent."""
        self._ours.close()
        self._theirs.close()


def _same(idmap: dict[str, Any]) -> dict[str, Any]:
    """Return the map for a user namespace below one that has `idmap`: the same ids, which the upper root can map."""
    same = {name: [[inside, inside, count] for inside, _, count in idmap[name]] for name in ("uids", "gids")}
    return {**idmap, **same, "tool": False}


def make_namespaces(kernel: Kernel, idmap: dict[str, Any]) -> None:
    """Make the user namespace, if the map has one, and a mount namespace that receives the host's mounts."""
    if idmap["kind"] != "host":
        _make_user_namespace(kernel, idmap)
    kernel.unshare(CLONE_NEWNS)
    kernel.mount(None, "/", None, MS_REC | MS_SLAVE, None)


def _make_user_namespace(kernel: Kernel, idmap: dict[str, Any]) -> None:
    if idmap["kind"] == "single":
        kernel.unshare(CLONE_NEWUSER)
        write_once("/proc/self/setgroups", "deny")
        for name in ("uid", "gid"):
            write_once(f"/proc/self/{name}_map", _map_text(idmap[f"{name}s"]))
    else:
        _map_from_outside(kernel, idmap)


def _map_from_outside(kernel: Kernel, idmap: dict[str, Any]) -> None:
    """Fork a child that stays outside and writes the maps: only there it, or newuidmap, has the privilege."""
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
            write_once(f"/proc/{target}/{name}_map", _map_text(ranges))
            continue
        words = [str(number) for line in ranges for number in line]
        if os.spawnvp(os.P_WAIT, f"new{name}map", [f"new{name}map", str(target), *words]) != 0:
            return 1
    return 0


def _map_text(ranges: list[list[int]]) -> str:
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)
