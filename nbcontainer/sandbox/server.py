"""The launcher's own process: a fork server for containers, with one thread and only what it needs loaded.

It makes the user and mount namespaces that all containers of a notebook live in, clones inits to order, and ends with
the notebook, its containers with it. Started by `nbcontainer.sandbox.launcher`, as root in its
own user namespace; it says `ready` or `failed` once, and otherwise only listens.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import resource  # noqa: F401 - os.wait4 wants it, and would look for it in the container
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.mounts import MS_REC, MS_SLAVE
from nbcontainer.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER
from nbcontainer.linux.processes import close_all_but, set_name, set_pdeathsig
from nbcontainer.sandbox import init, plan, seccomp, wire
from nbcontainer.sandbox.lockdown import DEFAULT_CAPABILITIES, CloneInit

if TYPE_CHECKING:
    from nbcontainer.sandbox.steps import Step


def main(descriptor: int) -> None:
    """Runs until the notebook ends. `descriptor` is the socket to it, whose first message is the settings."""
    control = socket.socket(fileno=descriptor)
    close_all_but((control.fileno(),))
    settings = wire.receive(control)
    if settings is None:
        return
    parent = os.pidfd_open(settings["parent"])
    root = os.geteuid() == 0
    for module in settings["preload"]:
        importlib.import_module(module)
    # From here on nothing is imported, neither from the host nor, after the root is switched, from an image.
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()
    try:
        store = enter_namespaces(Kernel(), settings)
        for capabilities in (DEFAULT_CAPABILITIES, plan.WORK_CAPABILITIES):
            seccomp.program(os.uname().machine, capabilities)  # here once, instead of in every container
    except OSError as error:
        # A plain user maps its own id by the namespace's right: where that is refused, so is the namespace.
        refused_map = str(error.filename).endswith("map") and (settings["idmap"]["kind"] == "range" or root)
        wire.send(control, {"failed": _in_words(error), "errno": error.errno or 0, "map": refused_map})
        return
    if settings["die_with_thread"]:
        set_pdeathsig(signal.SIGKILL)
    set_name("nbcontainer")
    gc.collect()
    gc.freeze()
    gc.disable()
    # Not every notebook may look into this process (proc(5), dumpable): it is handed what it needs of it.
    namespace = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    wire.send(control, {"ready": os.getpid()}, [namespace])
    os.close(namespace)
    ForkServer(Kernel(), control, parent, store).serve()


def _in_words(error: OSError) -> str:
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


def enter_namespaces(kernel: Kernel, settings: dict[str, Any]) -> int:
    """Makes and enters the user and mount namespaces; an O_PATH descriptor of the store, seen from inside them.

    The store is entered by name before ids change: root's launcher, once mapped, may not go where its path leads.
    The working directory comes along into the new mount namespace (unshare(2)), where a descriptor would not.
    """
    os.chdir(settings["store"])
    idmap = settings["idmap"]
    if idmap["kind"] != "host":
        _enter_user_namespace(kernel, idmap)
    kernel.unshare(CLONE_NEWNS)
    kernel.mount(None, "/", None, MS_REC | MS_SLAVE, None)
    store = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir("/")
    return store


def _enter_user_namespace(kernel: Kernel, idmap: dict[str, Any]) -> None:
    if idmap["kind"] == "single":
        kernel.unshare(CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        for name in ("uid", "gid"):
            _write(f"/proc/self/{name}_map", _map_text(idmap[f"{name}s"]))
    else:
        _map_from_outside(kernel, idmap)
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


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


class ForkServer:
    """Makes inits to order. Each order is a list of steps to do ahead; the answer comes in the order of the orders."""

    def __init__(self, kernel: Kernel, control: socket.socket, parent: int, store: int) -> None:
        self.kernel = kernel
        self.control = control
        self.parent = parent
        self.store = store
        self.itself = os.pidfd_open(os.getpid())
        self.children: dict[int, int] = {}
        self.poll = select.poll()

    def serve(self) -> None:
        """Serves until the notebook closes its end or is gone. What runs then dies with this process."""
        self.poll.register(self.control, select.POLLIN)
        self.poll.register(self.parent, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.parent:
                    return
                if fd != self.control.fileno():
                    self._reap(fd)
                elif not self._take_order():
                    return

    def _take_order(self) -> bool:
        order = wire.receive(self.control)
        if order is None:
            return False
        try:
            pid, pidfd, channel = self._clone(plan.decode(order["prepare"]))
        except OSError as error:
            failed = {"step": "CloneInit", "errno": error.errno, "error": error.strerror, "path": ""}
            wire.send(self.control, {"failed": failed})
            return True
        with channel:
            wire.send(self.control, {"pid": pid}, [pidfd, channel.fileno()])
        return True

    def _clone(self, prepare: tuple[Step, ...]) -> tuple[int, int, socket.socket]:
        """A new init at work on `prepare`: its pid, a pidfd that stays this object's, and its channel's other end."""
        clone = prepare[0]
        assert isinstance(clone, CloneInit)
        theirs, channel = wire.pair()
        try:
            os.fchdir(self.store)
            pid = self.kernel.clone(clone.flags())
            if pid == 0:
                init.main(self.kernel, channel, self.itself, prepare[1:])
        except BaseException:
            theirs.close()
            raise
        finally:
            os.chdir("/")
            channel.close()
        pidfd = os.pidfd_open(pid)
        self.children[pidfd] = pid
        self.poll.register(pidfd, select.POLLIN)
        return pid, pidfd, theirs

    def _reap(self, pidfd: int) -> None:
        self.poll.unregister(pidfd)
        os.waitpid(self.children.pop(pidfd), 0)
        os.close(pidfd)
