"""Steps of the cell's own process: what it runs, with which streams and which environment."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.files import TIOCGPTPEER, TIOCSPTLCK, TIOCSWINSZ
from nbcontainer.sandbox.step_failure import FailedStep, failure_in
from nbcontainer.sandbox.steps.base import Chinese, Step, quoted
from nbcontainer.sandbox.steps.devices import DEVICES, SCRIPT
from nbcontainer.sandbox.steps.rights.user import identity
from nbcontainer.sandbox.steps.rootfs import ROOT, MakeWorkdir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

STDIN, STDOUT, STDERR = 0, 1, 2
"""The numbers of the first three travelling descriptors."""

_SIZE = b"".join(number.to_bytes(2, sys.byteorder) for number in (24, 80, 0, 0))
"""Rows and columns of a new terminal, and its unused size in pixels (struct winsize, ioctl_tty(2))."""


CLOSED_ROOT = "the container's root directory is closed to this user: as root, `chmod 755 /` opens it"
"""The advice for EACCES on a path in /dev, whose own directories are open to every user."""


@dataclass(frozen=True)
class WriteScript(Step):
    """The cell's body as a file, never as standard input: a `read` in it must not eat its next line.

    `source` is the number of the travelling descriptor that holds it, which is at its beginning.
    """

    source: int

    phrase: ClassVar[str] = "write the cell's body"
    why: ClassVar[str] = "the interpreter reads the cell's body from a file"
    risk: ClassVar[str] = (
        "nothing; the interpreter would read the body as its input, and a `read` in it would take the next line"
    )
    chinese: ClassVar[Chinese] = Chinese(
        "写入单元格的正文",
        "解释器从文件读取单元格的正文",
        "没有危险，但正文里的 read 会读走下一行",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.ENOSPC: "the body is larger than the 64 MiB that /dev holds: put the data in a volume",
        errno.EACCES: CLOSED_ROOT,
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"write the cell's body to {SCRIPT}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Copy it to the file in /dev that is there for it, and close that to writing."""
        target = kernel.open(SCRIPT, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        while kernel.sendfile(target, files[self.source], None, 1 << 30):
            pass
        kernel.close(target)
        kernel.chmod(SCRIPT, 0o555)


@dataclass(frozen=True)
class OpenTerminal(Step):
    """A terminal of the container's own devpts, for `-t` and `-i`. The notebook gets its other end.

    It is the program's first `streams` streams: all three, or standard input only.
    """

    streams: int = 3

    phrase: ClassVar[str] = "open a terminal"
    why: ClassVar[str] = "programs that need a terminal have one, separate from the notebook's"
    risk: ClassVar[str] = "it could read from and write to the notebook's own terminal"
    chinese: ClassVar[Chinese] = Chinese(
        "打开一个终端",
        "需要终端的程序能找到终端，而且不是笔记本的终端",
        "容器可以读写笔记本自己的终端",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Nothing but the opening: init does it with `open_terminal`, which returns both ends."""
        kernel.open(f"{ROOT}/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def open_terminal(kernel: Kernel, root: str = ROOT) -> tuple[int, int]:
    """Both ends of a new terminal on the container's devpts, controlling end first; the caller closes them.

    `root` is the container's root as this process sees it. The size is 24 by 80 until the notebook sets another: a new
    terminal has none, and a program may ask for it first.

    The other end is opened through the first (TIOCGPTPEER, Linux 4.13), never by a path that an image could have
    planted (CVE-2025-52565).
    """
    control = kernel.open(f"{root}/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:  # these calls fail for anything but a controlling end, which a container could put there later
        kernel.ioctl(control, TIOCSPTLCK, b"\0\0\0\0")
        kernel.ioctl(control, TIOCSWINSZ, _SIZE)
        return control, kernel.ioctl(control, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        kernel.close(control)
        raise


@dataclass(frozen=True)
class ImportModule(Step):
    """Loads the code of a `CallFunction` while the host's files are still there: nothing is imported from an image."""

    module: str

    phrase: ClassVar[str] = "load the module"
    why: ClassVar[str] = "after the root is switched nothing may be looked up any more"
    risk: ClassVar[str] = "files of an image could be loaded as code of this package"
    chinese: ClassVar[Chinese] = Chinese(
        "加载模块 {module}",
        "切换根目录之后不再查找任何代码",
        "镜像中的文件可能被当作本程序的代码加载",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"load the module {quoted(arguments['module'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Import it, from the launcher's memory where it was loaded ahead."""
        importlib.import_module(self.module)


GIT_CONFIG = "/dev/gitconfig"
"""Container path of git's system configuration, if the run brings one."""


@dataclass(frozen=True)
class WriteGitConfig(Step):
    """A system configuration for git, in the container's /dev, so that it is in no layer."""

    text: str

    phrase: ClassVar[str] = "write git's configuration"
    why: ClassVar[str] = "git in the container has the user's name and e-mail address, and nothing else of the home"
    risk: ClassVar[str] = "nothing; git would not know the user's name"
    chinese: ClassVar[Chinese] = Chinese(
        "写入 git 的配置",
        "容器里的 git 知道用户的名字和邮箱，除此之外不知道用户目录里的任何内容",
        "没有危险，但 git 不知道用户的名字",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"write {GIT_CONFIG} with the user's name and e-mail address"

    def shown(self) -> dict[str, Any]:
        """Return its size: the text is the user's."""
        return {"bytes": len(self.text.encode())}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write the new file."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        target = kernel.open(ROOT + GIT_CONFIG, flags, 0o644)
        kernel.write(target, self.text.encode())
        kernel.close(target)


@dataclass(frozen=True)
class ConnectStreams(Step):
    """Standard input, output and error: the first three travelling descriptors, or the terminal for all three.

    An input of nothing is the container's own null device: the notebook's is a file of the host's, whose mode root
    without a user namespace could change.
    """

    phrase: ClassVar[str] = "connect the streams"
    why: ClassVar[str] = "the notebook reads what the cell writes"
    risk: ClassVar[str] = "it could write to files of the notebook"
    chinese: ClassVar[Chinese] = Chinese(
        "连接标准输入、标准输出和标准错误",
        "笔记本读取单元格的输出",
        "容器可以写入笔记本打开的文件",
    )
    advice: ClassVar[Mapping[int, str]] = {errno.EACCES: CLOSED_ROOT}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """dup2(2)."""
        for number in (STDIN, STDOUT, STDERR):
            kernel.dup2(files[number], number)
        found = kernel.fstat(STDIN)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(*DEVICES["null"]):
            null = kernel.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            kernel.dup2(null, STDIN)
            kernel.close(null)


# The first terminal that a session's leader opens becomes its controlling one (credentials(7)). It is opened through
# a descriptor, and not through number 0, which is closed for it.
_CONTROLLING_INPUT = (
    (os.POSIX_SPAWN_DUP2, 0, 3),
    (os.POSIX_SPAWN_OPEN, 0, "/proc/self/fd/3", os.O_RDWR, 0),
    (os.POSIX_SPAWN_CLOSE, 3),
)
_CONTROLLING_TERMINAL = (
    (os.POSIX_SPAWN_OPEN, 0, "/proc/self/fd/1", os.O_RDWR, 0),
    (os.POSIX_SPAWN_DUP2, 0, 1),
    (os.POSIX_SPAWN_DUP2, 0, 2),
)


@dataclass(frozen=True)
class Execute(Step):
    """The last step of a cell: its program.

    `argv[0]` without a slash is looked for in PATH, inside the container. `env` are `NAME=value` strings, `cwd` a
    container path. HOME, where `env` does not have it, is the user's by the image's /etc/passwd. With `terminal`, the
    streams are one, and with `terminal_input`, standard input is. It becomes the session's controlling terminal.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    terminal: bool = False
    terminal_input: bool = False

    phrase: ClassVar[str] = "run"
    why: ClassVar[str] = "the cell runs"
    risk: ClassVar[str] = "nothing; there would be no cell"
    chinese: ClassVar[Chinese] = Chinese(
        "运行 {argv}，工作目录 {cwd}",
        "单元格开始运行",
        "没有危险，但单元格不会运行",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.ENOENT: "the image has no such program: check its name and the image's PATH",
        errno.EACCES: "it is not executable in the image, or a directory above it is closed to this user",
        errno.ENOEXEC: "it is built for another architecture, or is not a program",
        errno.EAGAIN: "too many processes are running: end some, or raise the limit (--pids-limit, --ulimit nproc, or "
        "`ulimit -u`)",
        errno.E2BIG: "the arguments and the environment are too long: put the data in a volume",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        terminal = ", with a terminal" if arguments["terminal"] or arguments.get("terminal_input") else ""
        return f"run {quoted(' '.join(arguments['argv']))} in {quoted(arguments['cwd'])}{terminal}"

    def shown(self) -> dict[str, Any]:
        """Its fields; of the environment the names alone, since values may be secrets and this is written down."""
        return {**super().shown(), "env": [item.partition("=")[0] for item in self.env]}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Start it and throw the pid away: for explaining. Init calls `start`."""
        self.start(kernel)

    def _file_actions(self) -> tuple[tuple[Any, ...], ...]:
        if self.terminal:
            return _CONTROLLING_TERMINAL
        return _CONTROLLING_INPUT if self.terminal_input else ()

    def start(self, kernel: Kernel, spawn: Callable[..., int] | None = None) -> int:
        """chdir(2) and posix_spawn(3), or `spawn` in its place, along PATH: the pid. Raises `OSError`, `FailedStep`.

        The program is what the steps before have made this process, in a session of its own and with the signals as
        the kernel made them. posix_spawn is a vfork(2): no interpreter's memory is copied, or taken down, for it.
        """
        env = dict(item.partition("=")[::2] for item in self.env)
        if "HOME" not in env:
            env["HOME"] = identity(str(kernel.getuid()), kernel.read_text("/etc/passwd"), "")[3]
        try:
            kernel.chdir(self.cwd)
        except OSError as error:
            raise FailedStep({**failure_in(self, error), "about": MakeWorkdir.__name__}) from None
        name = self.argv[0]
        folders = env.get("PATH", "").split(":")
        spawn = kernel.posix_spawn if spawn is None else spawn
        candidates = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in folders]
        denied: OSError | None = None
        for candidate in candidates:
            try:
                if candidate != name:
                    _check_program(kernel, candidate)
                return spawn(
                    candidate,
                    self.argv,
                    env,
                    file_actions=self._file_actions(),
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # those that an interpreter ignores
                )
            except FileNotFoundError as error:
                if found := _missing_part(kernel, candidate):
                    error.filename = found
                    raise
            except NotADirectoryError:
                continue
            except PermissionError as error:
                denied = error
            except OSError as error:
                error.filename = candidate
                raise
        raise denied or OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _check_program(kernel: Kernel, path: str) -> None:
    """Raise `OSError` if the file at `path` cannot be executed.

    A spawn that fails uses up a process number, and the program is to be process 2 (`LinkStreams`).
    """
    mode = kernel.stat(path).st_mode
    if stat.S_ISREG(mode) and not mode & 0o111:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _missing_part(kernel: Kernel, program: str) -> str:
    """What the image lacks to run a program that is there: its interpreter, or its loader; empty where it is not."""
    head = kernel.read_text(program)
    if not head:
        return ""
    if not head.startswith("#!"):
        return f"the loader of {program}"
    words = head[2:].partition("\n")[0].split(" ")
    name = next((word for word in words if word), "")
    return name if name.isprintable() else repr(name)


@dataclass(frozen=True)
class CallFunction(Step):
    """The last step of a work sandbox: a function of this package instead of a program.

    `arguments` is the function's keyword arguments as a JSON object. Applied by init's child, which sends back what
    the function returns.
    """

    module: str
    function: str
    arguments: str = "{}"

    phrase: ClassVar[str] = "call a function of this package"
    why: ClassVar[str] = "untrusted data is handled by a process that can reach nothing else"
    risk: ClassVar[str] = "the notebook's own process would read files that somebody else made"
    chinese: ClassVar[Chinese] = Chinese(
        "调用本程序的函数 {module}.{function}",
        "不可信的数据由一个无法到达其他任何东西的进程处理",
        "笔记本自己的进程会去读取别人制作的文件",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"call {quoted(arguments['module'] + '.' + arguments['function'])}"


@dataclass(frozen=True)
class CloseDescriptors(Step):
    """Nothing but 0, 1 and 2 is open when the cell's program starts (CVE-2024-21626)."""

    phrase: ClassVar[str] = "close the descriptors"
    why: ClassVar[str] = "no descriptor of the host reaches the program"
    risk: ClassVar[str] = "a descriptor that is left open could lead it to a directory of the host (CVE-2024-21626)"
    chinese: ClassVar[Chinese] = Chinese(
        "关闭其余的描述符",
        "程序得不到主机的任何描述符",
        "一个没有关闭的描述符可以通向主机的目录（CVE-2024-21626）",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mark every other descriptor close-on-exec (close_range(2), Linux 5.11): a failed exec can still report."""
        kernel.cloexec_from(3)
