"""What the process of a program does before it is the program, as operations (posix_spawn(3))."""

from __future__ import annotations

import functools
import os
import signal
import struct
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.libc import number
from nbcontainer.linux.mounts import AT_FDCWD
from nbcontainer.sandbox.helper.operations import Block, Flag, Kind, Operation, Outcome, array_block, text_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def spawned(
    path: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    defaults: tuple[int, ...],
    mask: int,
    *,
    session: bool,
    actions: tuple[tuple[Any, ...], ...],
) -> bytes:
    """Return the calls of the process that becomes `path`. `defaults` are signals, `mask` those that are blocked."""
    words = array_block([f"{name}={value}" for name, value in env.items()])
    return _calls(defaults, mask, session, actions) + _call("execve", text_block(path), array_block(argv), words)


@functools.lru_cache(64)
def _calls(defaults: tuple[int, ...], mask: int, session: bool, actions: tuple[tuple[Any, ...], ...]) -> bytes:
    """Return the calls of a program's process before execve(2), as operations."""
    calls = [_call("rt_sigaction", sig, Block(bytes(32)), 0, 8) for sig in defaults]
    calls.append(_call("rt_sigprocmask", signal.SIG_SETMASK, Block(struct.pack("=Q", mask)), 0, 8))
    if session:
        calls.append(_call("setsid", flags=Flag.ANY_RESULT))
    return b"".join((*calls, *map(_file_action, actions)))


def _call(name: str, *arguments: int | Block, expected: int = 0, flags: int = 0) -> bytes:
    return Operation(Kind.CALL, number(name), arguments, Outcome(expected), flags).pack()


def _file_action(action: tuple[Any, ...]) -> bytes:
    """Return a file action of posix_spawn(3) as operations."""
    if action[0] == os.POSIX_SPAWN_CLOSE:
        return _call("close", action[1])
    if action[0] == os.POSIX_SPAWN_DUP2:
        return _call("dup3", action[1], action[2], 0, expected=action[2])
    _, fd, path, flags, mode = action  # the descriptors below are open: the lowest free one is its number
    opened = _call("openat", AT_FDCWD, text_block(path), flags, mode, expected=fd)
    return _call("close", fd) + opened
