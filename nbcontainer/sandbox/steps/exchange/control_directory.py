"""A directory in the container's /dev that the notebook has a descriptor of: how they talk while a program runs.

What is in it is reached by path, so that no descriptor has to be kept open for it, and none is passed on to the
programs of the container.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.files import TIOCGPTN
from nbcontainer.sandbox.steps.base import Chinese, Step, listed
from nbcontainer.sandbox.steps.exchange.display import EXCHANGE
from nbcontainer.sandbox.steps.program import open_terminal
from nbcontainer.sandbox.steps.rootfs import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

KEYBOARD = "keyboard"
"""Name in it of the terminal that the notebook has the other end of."""


@dataclass(frozen=True)
class MakeControlDirectory(Step):
    """Files (name, mode, content), pipes and directories (name, mode) that the container and the notebook share.

    They are in the directory that `OfferDisplay` has made.
    """

    files: tuple[tuple[str, int, str], ...] = ()
    pipes: tuple[str, ...] = ()
    directories: tuple[tuple[str, int], ...] = ()

    phrase: ClassVar[str] = "make the directory that the notebook and the program talk through"
    why: ClassVar[str] = "the notebook and a program that lasts from cell to cell talk through it"
    risk: ClassVar[str] = "nothing; the notebook could not talk to a program that runs across cells"
    chinese: ClassVar[Chinese] = Chinese(
        "创建笔记本与程序通信的目录",
        "笔记本和跨单元格运行的程序通过它通信",
        "没有危险，但笔记本不能与跨单元格运行的程序通信",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        names = [*(name for name, *_ in (*arguments["files"], *arguments["directories"])), *arguments["pipes"]]
        return f"make in the directory {EXCHANGE}: {listed(names)}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make them. Every user of the container may write to the pipes (fifo(7))."""
        top = ROOT + EXCHANGE
        for name, mode in (("", 0o755), *self.directories):
            path = f"{top}/{name}".rstrip("/")
            with contextlib.suppress(FileExistsError):
                kernel.mkdir(path, mode)
            kernel.chmod(path, mode)
        for name in self.pipes:
            kernel.mkfifo(f"{top}/{name}", 0o666)
            kernel.chmod(f"{top}/{name}", 0o666)
        for name, mode, content in self.files:
            target = kernel.open(f"{top}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
            kernel.write(target, content.encode())
            kernel.close(target)
            kernel.chmod(f"{top}/{name}", mode)


def open_control_directory(kernel: Kernel) -> tuple[int, int]:
    """A descriptor of the directory that was made, and the controlling end of a new terminal; the caller closes both.

    The terminal's other end is `keyboard` in the directory, open to every user of the container.
    """
    control, peer = open_terminal(kernel)
    try:
        kernel.fchmod(peer, 0o666)
        number = struct.unpack("I", kernel.ioctl(control, TIOCGPTN, b"\0\0\0\0"))[0]
        kernel.symlink(f"/dev/pts/{number}", f"{ROOT}{EXCHANGE}/{KEYBOARD}")
        return kernel.open(ROOT + EXCHANGE, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), control
    except BaseException:
        kernel.close(control)
        raise
    finally:
        kernel.close(peer)
