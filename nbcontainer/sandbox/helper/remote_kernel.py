"""The kernel of a container's init, for the steps of its plan."""

from __future__ import annotations

import os
import resource
import struct
from typing import TYPE_CHECKING, Any, cast

from nbcontainer.linux import mounts, netdevice, process, seccomp
from nbcontainer.sandbox.helper.operations import Block, Flag, Kind, Operation, Outcome
from nbcontainer.sandbox.helper.remote_calls import STATUS, block_of, error_of
from nbcontainer.sandbox.helper.remote_files import RemoteFiles
from nbcontainer.sandbox.helper.spawning import spawned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

_NODE_NAME = 65  # bytes of each text in struct utsname
_SOCKET_FLAGS = 2 | os.O_CLOEXEC  # SOCK_DGRAM


class RemoteKernel(RemoteFiles):
    """All calls of `Kernel` that the compiled helper can make for a step. It has the same methods."""

    def as_kernel(self) -> Kernel:
        """Return this object as the kernel that steps are applied with."""
        return cast("Kernel", self)

    def mount(self, source: str | None, target: str, fstype: str | None, flags: int, data: str | None) -> None:
        words = [block_of(source), block_of(target), block_of(fstype)]
        self._call("mount", *words, flags, block_of(data), path=target, told="mount")

    def umount2(self, target: str, flags: int) -> None:
        self._call("umount2", block_of(target), flags, path=target, told="umount2")

    def pivot_root(self, new_root: str, put_old: str) -> None:
        self._call("pivot_root", block_of(new_root), block_of(put_old), path=new_root, told="pivot_root")

    def open_tree(self, dirfd: int, path: str, flags: int) -> int:
        return self._descriptor("open_tree", dirfd, block_of(path), flags, path=path, told="open_tree")

    def move_mount(self, from_dirfd: int, from_path: str, to_dirfd: int, to_path: str, flags: int) -> None:
        places = (from_dirfd, block_of(from_path), to_dirfd, block_of(to_path))
        self._call("move_mount", *places, flags, path=to_path, told="move_mount")

    def mount_setattr(
        self, dirfd: int, path: str, flags: int, *, attr_set: int = 0, propagation: int = 0, userns_fd: int = 0
    ) -> None:
        attributes = Block(struct.pack("=4Q", attr_set, 0, propagation, userns_fd))
        self._call("mount_setattr", dirfd, block_of(path), flags, attributes, 32, path=path, told="mount_setattr")

    def fsopen(self, fstype: str) -> int:
        return self._descriptor("fsopen", block_of(fstype), mounts.FSOPEN_CLOEXEC, path=fstype, told="fsopen")

    def fsconfig(self, context: int, key: str, value: str | None) -> None:
        command = mounts.FSCONFIG_SET_FLAG if value is None else mounts.FSCONFIG_SET_STRING
        what = key if value is None else f"{key}={value}"
        self._call("fsconfig", context, command, block_of(key), block_of(value), 0, path=what, told="fsconfig")

    def fsconfig_create(self, context: int) -> None:
        self._call("fsconfig", context, mounts.FSCONFIG_CMD_CREATE, None, None, 0, told="fsconfig")

    def fsmount(self, context: int, attributes: int) -> int:
        return self._descriptor("fsmount", context, mounts.FSMOUNT_CLOEXEC, attributes, told="fsmount")

    def getpid(self) -> int:
        """Return the number of init."""
        return 1

    def getuid(self) -> int:
        return self.state.uid

    def last_capability(self) -> int:
        return process.last_capability()

    def counts_by_namespace(self) -> bool:
        return process.counts_by_namespace()

    def nodename(self) -> str:
        likely = None
        if self.state.name is not None:
            likely = Outcome(0, bytes(_NODE_NAME) + os.fsencode(self.state.name).ljust(_NODE_NAME, b"\0"))
            # From here on, the states of containers with other names are the same, and so are the operations.
            self.state = self.state._replace(name=None)
        operation = Operation(Kind.CALL, output=0, output_size=6 * _NODE_NAME, looked={(_NODE_NAME, _NODE_NAME)})
        outcome = self._call("uname", 0, operation=operation, likely=likely)
        return os.fsdecode(outcome.output[_NODE_NAME : 2 * _NODE_NAME].partition(b"\0")[0])

    def sethostname(self, name: str) -> None:
        raw = os.fsencode(name)
        self._call("sethostname", Block(raw), len(raw))
        self.state = self.state._replace(name=name)

    def prctl(self, option: int, argument: int = 0, second: int = 0) -> int:
        likely = Outcome(seccomp.SECCOMP_MODE_FILTER if option == process.PR_GET_SECCOMP else 0)
        return self._call("prctl", option, argument, second, 0, 0, told="prctl", likely=likely).result

    def drop_bounding(self, keep: int, last: int) -> None:
        for capability in range(last + 1):
            if not keep >> capability & 1:
                self.prctl(process.PR_CAPBSET_DROP, capability)

    def clear_ambient(self) -> None:
        self.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL)

    def capset(self, permitted: int, effective: int, inheritable: int) -> None:
        self._call("capset", *map(Block, process.capability_sets(permitted, effective, inheritable)), told="capset")

    def join_session_keyring(self) -> None:
        operation = Operation(Kind.CALL, flags=Flag.ANY_RESULT)  # the key's number, or an error that the step allows
        self._call("keyctl", process.KEYCTL_JOIN_SESSION_KEYRING, None, told="keyctl", operation=operation)

    def seccomp_set_mode_filter(self, program: bytes, flags: int = 0) -> None:
        filter_ = Block(struct.pack("=H6xQ", len(program) // 8, 0), ((8, Block(program)),))  # struct sock_fprog
        self._call("seccomp", seccomp.SECCOMP_SET_MODE_FILTER, flags, filter_, told="seccomp")

    def getrlimit(self, name: int) -> tuple[int, int]:
        operation = Operation(Kind.CALL, output=3, output_size=16, looked={(0, 16)})
        outcome = self._call("prlimit64", 0, name, None, 0, operation=operation, likely=None)
        soft, hard = (_signed(value) for value in struct.unpack("=2Q", outcome.output))
        return soft, hard

    def setrlimit(self, name: int, limits: tuple[int, int]) -> None:
        given = Block(struct.pack("=2Q", *(limit & 0xFFFFFFFFFFFFFFFF for limit in limits)))
        self._call("prlimit64", 0, name, given, None)

    def setsid(self) -> None:
        self._call("setsid")

    def setgroups(self, groups: Sequence[int]) -> None:
        self._call("setgroups", len(groups), Block(struct.pack(f"={len(groups)}I", *groups)))

    def setresgid(self, real: int, effective: int, saved: int) -> None:
        self._call("setresgid", real, effective, saved)

    def setresuid(self, real: int, effective: int, saved: int) -> None:
        self._call("setresuid", real, effective, saved)
        self.state = self.state._replace(uid=effective)

    def unshare(self, flags: int) -> None:
        self._call("unshare", flags, told="unshare")

    def setns(self, fd: int, nstype: int) -> None:
        self._call("setns", fd, nstype, told="setns")

    def close_all_but(self, keep: tuple[int, ...]) -> None:
        start, kept = 3, self.state.open & 7
        for fd in sorted(fd for fd in set(keep) if fd >= 3):
            kept |= 1 << fd
            if fd > start:
                self._call("close_range", start, fd - 1, 0)
            start = fd + 1
        self._call("close_range", start, 0xFFFFFFFF, 0)
        self._mark(self.state.open & kept)

    def cloexec_from(self, first: int) -> None:
        self._call("close_range", first, 0xFFFFFFFF, 4, told="close_range")

    def raise_interface(self, name: str) -> None:
        probe = self._descriptor("socket", 2, _SOCKET_FLAGS, 0)
        request = struct.pack("16sh22x", name.encode(), 0)
        found = self.preloaded(
            "ioctl", probe, netdevice.SIOCGIFFLAGS, request, Outcome(0, struct.pack("16sh22x", name.encode(), 8))
        )
        flags = struct.unpack("16sh22x", found)[1]
        raised = struct.pack("16sh22x", name.encode(), flags | netdevice.IFF_UP)
        self._call("ioctl", probe, netdevice.SIOCSIFFLAGS, Block(raised))
        self.close(probe)

    def default_signal(self, sig: int) -> None:
        """Have a signal do what it does by default."""
        self._call("rt_sigaction", sig, Block(bytes(32)), None, 8)

    def has_ended(self, pidfd: int) -> bool:
        """Return whether a process has ended (pidfd_open(2))."""
        one = Block(struct.pack("=ihh", pidfd, 1, 0))
        return self._call("ppoll", one, 1, Block(bytes(16)), None, 8).result > 0

    def posix_spawn(
        self,
        path: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        file_actions: Sequence[tuple[Any, ...]] = (),
        setsid: bool = False,
        setsigmask: Sequence[int] = (),
        setsigdef: Sequence[int] = (),
    ) -> int:
        """Start a program as os.posix_spawn does."""
        mask = sum(1 << sig - 1 for sig in setsigmask)
        calls = spawned(path, argv, env, tuple(setsigdef), mask, session=setsid, actions=tuple(file_actions))
        outcome, _ = self._make(Operation(Kind.SPAWN, children=calls), likely=Outcome(2))
        if outcome.result < 0:
            raise error_of(-outcome.result, None, path)
        return outcome.result

    def outlive(self, limit: float | None, shown: Sequence[int], *, blind: bool, awaited: Sequence[int]) -> None:
        """Supervise the program to its end. `shown` are the descriptors of the directories of `DisplayWatch`."""
        milliseconds = 0 if limit is None else max(1, int(limit * 1000))
        first, second = shown or (-1, -1)
        mask = sum(1 << sig - 1 for sig in awaited)
        self.operations.append(Operation(Kind.OUTLIVE, 0, (STATUS, milliseconds, first, second, int(blind), mask)))
        self.outcomes.append(Outcome(0))


def _signed(value: int) -> int:
    return resource.RLIM_INFINITY if value == 0xFFFFFFFFFFFFFFFF else value
