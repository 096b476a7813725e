"""The launcher's own process: a fork server for containers, with one thread and only what it needs loaded.

In the user and mount namespaces that all containers of a notebook live in, it clones inits to order, and ends with the
notebook, its containers with it. Started by `nbcontainer.sandbox.launcher.entry`; it says `ready` or `failed` once, and
otherwise only listens.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource  # also for os.wait4, which would look for it in the container
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.libc import machine
from nbcontainer.linux.mounts import AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH, MS_NODEV, MS_NOSUID
from nbcontainer.linux.namespaces import CLONE_NEWNET
from nbcontainer.linux.process import counts_by_namespace, last_capability, set_command_line, set_name, set_pdeathsig
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.launcher import init, proc_levels
from nbcontainer.sandbox.launcher.notebook_watch import end_with, open_status
from nbcontainer.sandbox.launcher.unsharing import MapGate, enter, refuse
from nbcontainer.sandbox.spec import FORWARDED, ProcLevel
from nbcontainer.sandbox.steps import overlay
from nbcontainer.sandbox.steps.mounted_root import mount_root
from nbcontainer.sandbox.steps.namespaces import OWN_USER, CloneInit
from nbcontainer.sandbox.steps.rights import seccomp
from nbcontainer.sandbox.steps.rootfs import HOST_TREES, LAYERS

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

_IDLE = 50
"""Milliseconds without an order, after which the launcher goes through an init's code: no cell waits for it."""

_ROUNDS = 20
"""How many times, 1 ms each: from 16 executions on, nothing of the interpreter changes any more."""


def main(control: socket.socket, *, entered: bool) -> None:
    """Run until the notebook ends. `control` is the socket to it, whose first message is the settings.

    `entered` says that this process is in namespaces of its own already (`sandbox.launcher.entry`).
    """
    settings = protocol.receive(control)
    if settings is None:
        return
    parent, status = os.pidfd_open(settings["parent"]), open_status(settings["parent"])
    for module in settings["preload"]:
        importlib.import_module(module)
    # From here on nothing is imported, neither from the host nor, after the root is switched, from an image.
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()
    try:
        _raise_limit()
        store = enter(Kernel(), settings, entered=entered)
        level = proc_levels.choose(Kernel(), control, store, settings["idmap"])
        # All of these are known from then on: here once, instead of in every container.
        for capabilities in (DEFAULT_CAPABILITIES, plan.WORK_CAPABILITIES):
            seccomp.program(machine(), capabilities)
        last_capability()
        counts_by_namespace()
    except OSError as error:
        refuse(control, settings, error)
        return
    if settings["die_with_thread"]:
        set_pdeathsig(signal.SIGKILL)
    set_name("nbcontainer")
    set_command_line("nbcontainer")  # a cell reads its init's, and is not to learn where the host has what
    gc.collect()
    gc.freeze()
    gc.disable()
    # Not every notebook may look into this process (proc(5), dumpable): it is handed what it needs of it.
    namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("user", "mnt")]
    protocol.send(control, {"ready": os.getpid(), "proc": level}, [*namespaces, store])
    protocol.close(namespaces)
    try:
        ForkServer(Kernel(), control, parent, store, settings["idmap"], level, status).serve()
    except OSError as error:  # the last message of this process, for a person to read
        os.write(2, f"{error.strerror or error}\n".encode())


class ForkServer:
    """Makes inits to order. Each order is a list of steps to do ahead; the answer comes in the order of the orders."""

    def __init__(
        self,
        kernel: Kernel,
        control: socket.socket,
        parent: int,
        store: int,
        idmap: dict[str, Any],
        level: ProcLevel = ProcLevel.OWN,
        status: int = -1,
    ) -> None:
        self.kernel = kernel
        self.control = control
        self.parent = parent
        self.store = store
        self.idmap = idmap
        self.level = level
        self.status = status
        self.itself = os.pidfd_open(os.getpid())
        self.children: dict[int, int] = {}
        """Pids of inits and helpers, by their pidfds."""
        self.helpers: dict[int, int] = {}
        """Pidfds of helpers, by those of the inits that they are for."""
        self.poll = select.poll()
        self._tells_overlays = False  # whether an overlay that is there was seen to be refused once

    def serve(self) -> None:
        """Serve until the notebook closes its end or is gone. What runs then dies with this process."""
        self.poll.register(self.control, select.POLLIN)
        self.poll.register(self.parent, select.POLLIN)
        rounds = 0
        while True:
            events = self.poll.poll(_patience(rounds))
            if not events:
                rounds += 1
                with contextlib.suppress(OSError):  # no descriptors are left: an order reports that
                    init.specialize(self.itself)
            for fd, _ in events:
                if fd == self.parent:
                    return
                if fd != self.control.fileno():
                    self._reap(fd)
                elif not self._take_order():
                    return

    def _take_order(self) -> bool:
        files: list[int] = []
        order = protocol.receive(self.control, files)
        if order is None:
            return False
        if "show" in order:
            self._show(order["show"], files)
            return True
        if "root" in order:
            self._mount_root(order)
            return True
        if "overlay" in order:
            self._look_for_overlay(order)
            return True
        if "limit" in order:
            self._limit(order["limit"], order["size"], order["directories"])
            return True
        if "help" in order:
            self._help(order, files)
            return True
        if "settle" in order:
            protocol.send(self.control, {"order": order["order"]})
            return True
        if "configure" in order:
            self._configure(order["configure"], files)
            return True
        self._start_init(order)
        return True

    def _start_init(self, order: dict[str, Any]) -> None:
        """Clone an init; the answer has its pid, its pidfd and its channel, or why there is none."""
        try:
            pid, pidfd, channel = self._clone(order["prepare"], prefault=order["prefault"])
            with channel:
                refused = self._refused({"order": order["order"], "pid": pid}, [pidfd, channel.fileno()])
            if refused is not None:
                self._end(pidfd)
                raise refused
        except OSError as error:
            failed = {"step": "CloneInit", "errno": error.errno, "error": error.strerror, "path": ""}
            protocol.send(self.control, {"order": order["order"], "failed": failed})

    def _refused(self, answer: dict[str, Any], files: Sequence[int]) -> OSError | None:
        """Send an answer with descriptors, and return the error if the kernel refuses these.

        It counts the descriptors on their way, in all sockets of a user: also those of containers (unix(7)).
        """
        try:
            protocol.send(self.control, answer, files)
        except OSError as error:
            return error
        return None

    def _end(self, pidfd: int) -> None:
        """Kill a child, and wait for it."""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._reap(pidfd)

    def _show(self, first: int, trees: list[int]) -> None:
        """Put detached mounts of the host's directories at `host/N` of the store, N from `first` on."""
        os.fchdir(self.store)
        try:
            if first == 0:
                self.kernel.mount("tmpfs", HOST_TREES, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
            for number, tree in enumerate(trees, first):
                self.kernel.mkdir(f"{HOST_TREES}/{number}", 0o755)
                self.kernel.move_mount(tree, "", AT_FDCWD, f"{HOST_TREES}/{number}", MOVE_MOUNT_F_EMPTY_PATH)
        except OSError as error:
            # A container that needs one of them says which: it is not there.
            os.write(2, f"{error.strerror}: {error.filename}\n".encode())
        finally:
            os.chdir("/")
            protocol.close(trees)

    def _mount_root(self, order: dict[str, Any]) -> None:
        """Mount the overlay of a root; the answer is what `mount_root` returns, or why there is none."""
        os.fchdir(self.store)
        answer: dict[str, Any] = {"order": order["order"]}
        mounts: tuple[int, ...] = ()
        try:
            mounts = mount_root(self.kernel, tuple(order["root"]), order["upper"], order["work"])
        except OSError as error:
            answer["failed"] = [error.errno, error.strerror or str(error)]
        finally:
            os.chdir("/")
        if (refused := self._refused(answer, mounts)) is not None:
            protocol.send(self.control, {**answer, "failed": [refused.errno, refused.strerror]})
        protocol.close(mounts)

    def _look_for_overlay(self, order: dict[str, Any]) -> None:
        """Answer whether an overlay with a work directory exists, or why that is not known."""
        os.fchdir(self.store)
        answer: dict[str, Any] = {"order": order["order"]}
        try:
            os.chdir(LAYERS)
            lower, upper, work, control = order["overlay"]
            answer["found"] = overlay.exists(self.kernel, lower, upper, work, "" if self._tells_overlays else control)
            self._tells_overlays = self._tells_overlays or not answer["found"]
        except OSError as error:
            answer["failed"] = [error.errno, error.strerror]
        finally:
            os.chdir("/")
        protocol.send(self.control, answer)

    def _limit(self, path: str, size: int, directories: list[list[Any]]) -> None:
        """Mount a tmpfs of `size` bytes at `path` of the store, with directories in it (`DirectoryLike`)."""
        os.fchdir(self.store)
        try:
            options = f"mode=755,size={size},nr_inodes={max(1024, size // 4096)}"
            self.kernel.mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options)
            for name, mode, times, attributes in directories:
                self.kernel.mkdir(f"{path}/{name}", 0o700)
                self.kernel.chmod(f"{path}/{name}", mode)
                for attribute, value in attributes:
                    with contextlib.suppress(OSError):  # tmpfs has none before Linux 6.6
                        os.setxattr(f"{path}/{name}", attribute, bytes.fromhex(value))
                if times is not None:
                    os.utime(f"{path}/{name}", ns=tuple(times))
        except OSError as error:
            os.write(2, f"{error.strerror}: {error.filename}\n".encode())
        finally:
            os.chdir("/")

    def _clone(self, prepare: list[Any], *, prefault: bool) -> tuple[int, int, socket.socket]:
        """A new init at work on `prepare`: its pid, a pidfd that stays this object's, and its channel's other end."""
        (clone,) = plan.decode(prepare[:1])
        assert isinstance(clone, CloneInit)
        theirs, channel = protocol.pair()
        gate = MapGate(self.idmap) if OWN_USER in clone.namespaces else None
        try:
            os.fchdir(self.store)
            # A signal that comes before init has a handler waits, or the kernel would drop it (pid_namespaces(7)).
            before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            begun = time.monotonic_ns()
            try:
                pid = self.kernel.clone(clone.flags())
                if pid == 0:
                    init.main(
                        self.kernel,
                        channel,
                        self.itself,
                        prepare[1:],
                        gate,
                        self.level,
                        begun,
                        prefaults=prefault,
                        notebook=self.status,
                    )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            theirs.close()
            if gate is not None:
                gate.close()
            raise
        finally:
            os.chdir("/")
            channel.close()
        try:
            if gate is not None:
                gate.open_for(self.kernel, pid)
            return pid, self._watch(pid), theirs
        except BaseException:
            theirs.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            if gate is not None:
                gate.close()

    def _help(self, order: dict[str, Any], files: list[int]) -> None:
        """Run a program for an init; the answer is its pidfd, or why there is none: "" for a dead init."""
        owner = next((pidfd for pidfd, pid in self.children.items() if pid == order["help"]), None)
        answer: dict[str, Any] = {"order": order["order"]}
        pidfds: list[int] = []
        try:
            if owner is None:
                answer["failed"] = ""
            elif (pid := os.fork()) == 0:
                self._run_helper(order["path"], order["argv"], files)
            else:
                self.helpers[owner] = self._watch(pid)
                pidfds.append(self.helpers[owner])
        except OSError as error:
            answer["failed"] = error.strerror
        protocol.close(files)
        if (refused := self._refused(answer, pidfds)) is not None:
            for pidfd in pidfds:
                self._end(pidfd)
            protocol.send(self.control, {**answer, "failed": refused.strerror})

    def _run_helper(self, path: str, argv: list[str], files: list[int]) -> NoReturn:
        """A helper's process until it is the program, with `files` and nothing else of this one's."""
        try:
            end_with(self.kernel, self.itself)
            os.fchdir(self.store)
            for number, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(files)) for fd in files]):
                os.dup2(fd, number)
            self.kernel.close_all_but(tuple(range(len(files))))
            for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # those that an interpreter ignores
                signal.signal(ignored, signal.SIG_DFL)
            os.execve(path, argv, {})
        except OSError as error:
            os.write(2, f"{path}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _configure(self, todo: list[Any], files: list[int]) -> None:
        """Apply steps in the network namespace `files[0]`, and say at `files[1]` what failed.

        This process might not be able to come back from there: another one goes, for a thousandth of a second.
        """
        try:
            if (pid := os.fork()) == 0:
                self._enter_network(todo, *files)
            os.waitpid(pid, 0)
        except OSError as error:
            _say_failed(files[1], todo[0][0], error)
        protocol.close(files)

    def _enter_network(self, todo: list[Any], namespace: int, answer: int) -> NoReturn:
        """The other process: says {} where all went well."""
        name = todo[0][0]
        try:
            end_with(self.kernel, self.itself)
            self.kernel.setns(namespace, CLONE_NEWNET)
            for step in plan.decode(todo):
                name = type(step).__name__
                step.apply(self.kernel, ())
            os.write(answer, b"{}")
        except OSError as error:
            _say_failed(answer, name, error)
        finally:
            os._exit(0)

    def _watch(self, pid: int) -> int:
        pidfd = os.pidfd_open(pid)
        self.children[pidfd] = pid
        self.poll.register(pidfd, select.POLLIN)
        return pidfd

    def _reap(self, pidfd: int) -> None:
        """Let go of a child that is dead; the helper of an init dies with it."""
        if (helper := self.helpers.pop(pidfd, None)) is not None:
            signal.pidfd_send_signal(helper, signal.SIGKILL)
        self.helpers = {owner: helper for owner, helper in self.helpers.items() if helper != pidfd}
        self.poll.unregister(pidfd)
        os.waitpid(self.children.pop(pidfd), 0)
        os.close(pidfd)


def _raise_limit() -> None:
    """Let this process open, and have on their way, all files that it may: containers have a lower limit.

    So they cannot have its answers refused; see `SetLimits`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # it is more than the machine's own limit by now (fs.nr_open)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say_failed(fd: int, step: str, error: OSError) -> None:
    failed = {"step": step, "errno": error.errno or 0, "error": error.strerror or str(error)}
    os.write(fd, json.dumps(failed).encode())


def _patience(rounds: int) -> int | None:
    """Return the milliseconds to wait for an order before the next round; None after the last one."""
    if rounds == _ROUNDS:
        return None
    return 0 if rounds else _IDLE
