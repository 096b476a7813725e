"""The step that offers `display`: a program of the container that shows data in the notebook.

It makes a file and writes a line to a pipe. Init waits for the first file and sends the notebook a descriptor of the
directory: a cell that shows nothing costs nothing.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.files import read_text
from nbcontainer.sandbox.steps.base import Chinese, Step
from nbcontainer.sandbox.steps.rootfs import ROOT, STAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

EXCHANGE = "/dev/nbcontainer"
"""Container path of the directory through which the notebook and the container's programs talk."""

PROGRAMS = f"{EXCHANGE}/bin"
"""Container path of the programs for this."""

CHANNEL, SHOWN = "channel", "shown"
"""The pipe for lines to the notebook, and the directory of data to show."""

_DISPLAY = read_text(f"{os.path.dirname(__file__)}/display.sh")  # noqa: PTH120 - the launcher loads this file


@dataclass(frozen=True)
class OfferDisplay(Step):
    """The directory in /dev, with the program `display`, its pipe, and a place for the data that it shows."""

    phrase: ClassVar[str] = "offer the program `display`"
    why: ClassVar[str] = "a cell shows pictures and tables in the notebook"
    risk: ClassVar[str] = "nothing; the notebook opens what is there as data that it does not trust"
    chinese: ClassVar[Chinese] = Chinese(
        "提供程序 display",
        "单元格可以在笔记本中显示图片和表格",
        "没有危险，笔记本把其中的内容当作不可信的数据打开",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make it on the stage. Every user of the container may write to the pipe and make files in `shown`."""
        top = STAGE + EXCHANGE
        for path, mode in ((top, 0o755), (STAGE + PROGRAMS, 0o755), (f"{top}/{SHOWN}", 0o1777)):
            kernel.mkdir(path, mode)
        kernel.chmod(f"{top}/{SHOWN}", 0o1777)
        kernel.mkfifo(f"{top}/{CHANNEL}", 0o666)
        kernel.chmod(f"{top}/{CHANNEL}", 0o666)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        target = kernel.open(f"{STAGE}{PROGRAMS}/display", flags, 0o555)
        kernel.write(target, _DISPLAY.encode())
        kernel.close(target)


class DisplayWatch:
    """Init's watch over the directory, once /dev is attached: SIGIO comes for the first file in `shown`.

    A program makes a file there before it opens the pipe, and opening waits until the notebook has opened it (fifo(7)).
    Init does not open the pipe: a program could lock it, and init would wait for the lock as it ends. `files` are the
    open descriptors.
    """

    def __init__(self, kernel: Kernel, *, switched: bool) -> None:
        """Open the directory and its part `shown`. Raises `OSError`.

        `switched` is whether the container's root is that of this process.
        """
        top = EXCHANGE if switched else ROOT + EXCHANGE
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._kernel = kernel
        self.files = [kernel.open(f"{top}/{SHOWN}", flags), kernel.open(top, flags)]
        self.blind = not _notified(kernel, self.files[0])
        """Whether this kernel sends no signals for a directory: it was built without CONFIG_DNOTIFY."""

    def watch(self, kernel: Kernel | None = None) -> None:
        """Have the kernel send this process SIGIO (fcntl(2), F_SETOWN). Again after a change of user.

        `kernel` makes the calls: by default the one that opened the directory.
        """
        kernel = kernel or self._kernel
        if self.files:
            kernel.fcntl(self.files[0], fcntl.F_SETOWN, kernel.getpid())

    @property
    def directory(self) -> int:
        """The directory's descriptor, until it is dropped."""
        return self.files[1]

    def drop(self) -> None:
        """Close both: the notebook has the directory. No signal comes any more. Idempotent."""
        while self.files:
            self._kernel.close(self.files.pop())


def _notified(kernel: Kernel, directory: int) -> bool:
    """Have the kernel send SIGIO for each new file in a directory; return False if it cannot (fcntl(2), F_NOTIFY)."""
    try:
        kernel.fcntl(directory, fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
    except OSError:
        return False
    return True


DRIVER = f"{EXCHANGE}/python"
"""Container path of the program that runs cells in the image's Python."""


@dataclass(frozen=True)
class WriteDriver(Step):
    """The program that runs a Python cell in the image's Python, in /dev, so that it is in no layer."""

    text: str

    phrase: ClassVar[str] = "write the program that runs Python cells"
    why: ClassVar[str] = "the image needs nothing but Python to show values and figures in the notebook"
    risk: ClassVar[str] = "nothing; Python cells could not show values"
    chinese: ClassVar[Chinese] = Chinese(
        "写入运行 Python 单元格的程序",
        "镜像只需要 Python 就能在笔记本中显示值和图",
        "没有危险，但 Python 单元格不能显示值",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments, as text."""
        return f"write {DRIVER}, which runs the cell in the image's Python"

    def shown(self) -> dict[str, Any]:
        """Return its size: the text is this package's."""
        return {"bytes": len(self.text.encode())}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write the new file."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        target = kernel.open(ROOT + DRIVER, flags, 0o444)
        kernel.write(target, self.text.encode())
        kernel.close(target)
