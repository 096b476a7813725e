"""All errors of this package. Each states in one line what failed, where, why, and what to do next.

NbcontainerError
├── UsageError            a command or an option is used in a wrong way
├── LinkRefused           a host path leads through a link that a container could have made
├── DirectoryRefused      the notebook's directory is not shown to a container
├── StoreError            the store cannot be used (permissions, space, another version)
├── ImageError            an image cannot be found, read or written
│   ├── ImageNotFound
│   ├── RegistryError     a registry cannot be reached, refuses, or violates the protocol
│   └── HostileArchive    an archive that violates its format or a limit, or is cut off
├── SandboxError          the host cannot set up a container
│   ├── LauncherError     the launcher cannot start, or has ended
│   │   └── ContainerLost a container was killed before its cell began
│   ├── LimitUnavailable  a requested limit cannot be enforced
│   ├── NetworkUnavailable  a requested network or port is not available
│   ├── SetupFailed       one step of the plan failed
│   └── LaboratoryError   the kernel refused a call in a laboratory
├── ContainerError        an operation on a container failed
│   ├── ContainerNotFound
│   ├── ContainerExists
│   ├── ContainerBusy     it runs, here or in another notebook
│   ├── ContainerIncomplete  changes of a cell are lost
│   └── ContainerDamaged  its record cannot be read
├── VolumeError           a volume cannot be used
│   ├── VolumeNotFound
│   ├── VolumeBusy        it cannot be removed: a cell uses it, here or in another notebook
│   └── ChangesRefused    changes to a copy-on-write volume cannot be applied
├── ValueUnavailable      a value cannot be read from a cell's /out, or written to its /in
├── WorkerError           an executor cannot run an item of `map`
│   └── WorkerLost        the worker of an item has ended, or is out of reach
└── CellFailed            the cell ran and ended badly; it holds the outcome
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, NoReturn

from nbcontainer.outcome import Outcome  # noqa: TC001 - typing.get_type_hints reads it
from nbcontainer.rendering.text import visible

FREE_SPACE = "free some space: `%container prune` removes unreferenced data"

ERRNO_ADVICE = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files (ulimit -n)",
    errno.ETOOMANYREFS: "end the container that keeps descriptors in its sockets (unix(7)): see `%container ps`",
    errno.ENOMEM: "free some memory",
    errno.EROFS: "set NBCONTAINER_HOME to a directory on a writable file system",
}
"""By errno: the one thing to do, whatever failed. The store and the steps of a plan add their own."""


_RED, _BOLD, _RESET = "\x1b[31m", "\x1b[1m", "\x1b[0m"
"""Styles of ECMA-48, which JupyterLab and terminals show by their theme.

The hint has no colour: JupyterLab shows errors on light red or dark red, and none of its colours is readable on both.
"""


class NbcontainerError(Exception):
    """Base of all errors that this package raises on purpose.

    `hint` is the one thing to do, without a full stop. It follows the message after a semicolon.

    >>> try:
    ...     result = run("busybox", ["true"], network="wired")
    ... except NbcontainerError as error:
    ...     print(error.message, error.hint, sep=" | ")
    unknown network 'wired' for --network | choose one of none, host, private, or write container:NAME

    `map` returns an error in place of a `Result`. The two are filtered and read alike:

    >>> good, bad = map("busybox", ["cat"], ["text", 5])
    >>> good.ok, bad.ok
    (True, False)
    >>> try:
    ...     bad.text
    ... except NbcontainerError as error:
    ...     print(error.message)
    a command reads text or bytes, not an input of type 'int'
    """

    usual_hint: ClassVar[str] = ""
    """The hint of an error that has none of its own."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        hint = hint or self.usual_hint
        super().__init__(visible(f"{message}; {hint}" if hint else message))
        self.message = message
        self.hint = hint

    @property
    def ok(self) -> bool:
        """False, as of a `Result` that failed."""
        return False

    @property
    def value(self) -> NoReturn:
        """Raise this error, which `map` returned in place of a value. So `hasattr(error, "value")` raises it, too."""
        raise self.with_traceback(None)  # else each read makes the traceback longer

    @property
    def text(self) -> NoReturn:
        """Raise this error, which `map` returned in place of an output. So `hasattr(error, "text")` raises it, too."""
        raise self.with_traceback(None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the attributes: `Exception` would call the class with the message alone, which fails for some.

        An error that cannot be unpickled makes `multiprocessing.Pool` wait forever.
        """
        return _restore, (type(self), self.args, dict(vars(self)))

    def line(self, *, colours: bool = False) -> str:
        """Return the error as one line, with its type. With colours, the escape sequences of a terminal are in it."""
        name = type(self).__name__
        if not colours:
            return f"{name}: {self}"
        hint = f"; {_BOLD}{visible(self.hint)}{_RESET}" if self.hint else ""
        return f"{_RED}{name}{_RESET}: {visible(self.message)}{hint}"

    def _render_traceback_(self) -> list[str]:
        """Return one line for IPython to print instead of a traceback (IPython.core.interactiveshell.showtraceback)."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        return [self.line(colours=shell is not None and str(shell.colors).lower() != "nocolor")]


def _restore(kind: type[NbcontainerError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> NbcontainerError:
    """Return the error that was pickled."""
    error = kind.__new__(kind, *arguments)
    vars(error).update(attributes)
    return error


class UsageError(NbcontainerError):
    """A command, an option or a reference is wrong.

    >>> try:
    ...     result = run("busybox", ["true"], volumes=["data"])
    ... except UsageError as error:
    ...     print(error.message)
    invalid volume 'data': expected SRC:DST[:ro]
    """


class LinkRefused(NbcontainerError):
    """A path on the host leads through a symbolic link that a container could have made.

    >>> try:
    ...     result = run("busybox", ["true"], here="ro")
    ... except LinkRefused as error:
    ...     print(error.hint)
    """


class DirectoryRefused(NbcontainerError):
    """The notebook's directory must not be shown to containers; with `volumes`, a run can show it nonetheless.

    A run with `here` does not raise it: it starts without the directory, and reports the reason on stderr.

    >>> issubclass(DirectoryRefused, NbcontainerError)
    True
    """

    @property
    def notice(self) -> str:
        """The reason and the hint in one line, for a container that starts without the directory."""
        return f"{self.message}: {self.hint}"


class StoreError(NbcontainerError):
    """The store cannot be opened, read or written.

    >>> try:
    ...     result = list_images()
    ... except StoreError as error:
    ...     print(error.hint)
    """


class ImageError(NbcontainerError):
    """An image cannot be read or written.

    >>> try:
    ...     result = load("missing.tar")
    ... except ImageError as error:
    ...     print(error.message)
    no file missing.tar
    """

    usual_hint = "get or save the image again, or use another one"


class ImageNotFound(ImageError):
    """The store has no image of that name, and none can be made.

    >>> try:
    ...     result = find_image("mine", pull="never")
    ... except ImageNotFound as error:
    ...     print(error.message)
    no image 'mine' in the store
    """


class RegistryError(ImageError):
    """A registry cannot be reached, refuses a request, or violates the protocol.

    >>> try:
    ...     result = pull("localhost:1/image")
    ... except RegistryError as error:
    ...     print(error.message)
    cannot reach localhost:1: Connection refused
    """

    usual_hint = "try again later, or use another registry"


class HostileArchive(ImageError):
    """An archive violates its format, tries to leave its root, exceeds a limit, or is cut off.

    >>> written = Path("cut.tar").write_bytes(bytes.fromhex("1f8b0800000000000000"))
    >>> try:
    ...     result = load("cut.tar")
    ... except HostileArchive as error:
    ...     print(error.message)
    the archive is cut off inside its gzip data
    """

    usual_hint = "get or save it again, or use another one"


class SandboxError(NbcontainerError):
    """This machine cannot set up a container.

    >>> try:
    ...     result = run("busybox", ["true"])
    ... except SandboxError as error:
    ...     print(error.hint)
    """


class LauncherError(SandboxError):
    """The launcher cannot start, or has ended.

    >>> try:
    ...     result = run("busybox", ["true"])
    ... except LauncherError as error:
    ...     print(error.hint)
    """


class ContainerLost(LauncherError):
    """A container was killed before its cell began, alone or with its launcher. Nothing of the cell has run.

    >>> try:
    ...     result = run("busybox", ["true"])
    ... except ContainerLost as error:
    ...     print(error.hint)
    """


class LimitUnavailable(SandboxError):
    """A limit cannot be enforced here, so the cell did not start.

    >>> try:
    ...     result = run("busybox", ["true"], memory="64m")
    ... except LimitUnavailable as error:
    ...     advice = error.hint
    """


class NetworkUnavailable(SandboxError):
    """A network, or a port of the host for it, is not available here, so the cell did not start.

    >>> try:
    ...     result = run("busybox", ["true"], network="private")
    ... except NetworkUnavailable as error:
    ...     advice = error.hint
    """


class LaboratoryError(SandboxError):
    """The kernel refused a call in a laboratory (`nbcontainer.lab`); the hint says why, as far as that is known.

    `call` is the name of the call, `errno` the kernel's error, 0 if there is none.

    >>> from nbcontainer import lab
    >>> try:
    ...     lab.pivot_root("/lab", "/lab/old")
    ... except LaboratoryError as error:
    ...     print(error.call, error.errno)
    pivot_root 2
    """

    def __init__(self, message: str, *, call: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.call = call
        self.errno = errno


class SetupFailed(SandboxError):
    """One step of a container's plan failed.

    `step` is the step's name, `errno` the kernel's error (0 if there is none), `path` the path that it concerns.

    >>> try:
    ...     result = run("busybox", ["no-such-program"])
    ... except SetupFailed as error:
    ...     print(error.step, error.path, error.hint, sep=" | ")
    Execute | no-such-program | the image has no such program: check its name and the image's PATH
    """

    def __init__(self, message: str, *, step: str, errno: int = 0, path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno
        self.path = path


class ContainerError(NbcontainerError):
    """An operation on a container failed.

    >>> try:
    ...     result = get("nothing")
    ... except ContainerError as error:
    ...     print(error.message)
    no such container: 'nothing'
    """


class ContainerNotFound(ContainerError):
    """The store has no container of that name.

    >>> try:
    ...     result = get("nothing")
    ... except ContainerNotFound as error:
    ...     print(error.message)
    no such container: 'nothing'
    """


class ContainerExists(ContainerError):
    """A container of that name exists already.

    >>> made = create("busybox", "dev")
    >>> try:
    ...     result = create("busybox", "dev")
    ... except ContainerExists as error:
    ...     print(error.message)
    container 'dev' already exists
    >>> made.remove()
    """


class ContainerBusy(ContainerError):
    """The container runs, here or in another notebook.

    >>> made = create("busybox", "dev")
    >>> with made.use():
    ...     try:
    ...         get("dev").remove()
    ...     except ContainerBusy as error:
    ...         print(error.message)
    container 'dev' is running, here or in another notebook
    >>> made.remove()
    """


class ContainerIncomplete(ContainerError):
    """Changes of a cell in the container did not fit on the disk and are lost.

    >>> try:
    ...     result = commit(create("busybox"), "mine")
    ... except ContainerIncomplete as error:
    ...     print(error.hint)
    """


class ContainerDamaged(ContainerError):
    """The record of the container cannot be read. `list_containers` leaves such a container out.

    >>> made = create("busybox", "dev")
    >>> try:
    ...     dev = get("dev")
    ... except ContainerDamaged as error:
    ...     print(error.hint)
    >>> made.remove()
    """


class VolumeError(NbcontainerError):
    """A volume cannot be used.

    >>> try:
    ...     result = run("busybox", ["true"], volumes=["data:/data"])
    ... except VolumeError as error:
    ...     print(error.hint)
    """


class VolumeNotFound(VolumeError):
    """The store has no named volume of that name.

    `%container volume inspect` and `%container volume rm` raise it. A run makes a volume that does not exist.

    >>> issubclass(VolumeNotFound, VolumeError)
    True
    """


class VolumeBusy(VolumeError):
    """`%container volume rm` cannot remove a named volume: a cell uses it, here or in another notebook.

    >>> issubclass(VolumeBusy, VolumeError)
    True
    """


class ChangesRefused(VolumeError):
    """Changes to a copy-on-write volume cannot be applied: the host's files changed meanwhile, for example.

    >>> with create("busybox") as box:
    ...     try:
    ...         applied = box.apply()
    ...     except ChangesRefused as error:
    ...         print(error.hint)
    run its next cell with -v DIR:/data:cow
    """


class ValueUnavailable(NbcontainerError):
    """A value cannot be read from a cell's `/out`, or written to its `/in`.

    If it is the answer to an item of `map` that ran, `stdout` and `stderr` are what the item wrote.

    >>> try:
    ...     result = run("busybox", ["true"], get=["answer"])
    ... except ValueUnavailable as error:
    ...     print(error.message)
    the cell left no file /out/answer.*
    """

    stdout: bytes = b""
    stderr: bytes = b""


class WorkerError(NbcontainerError):
    """An executor cannot run an item of `map`: its workers lack something, or the executor is closed.

    `index` is the position of the item's input, and `attempts` how often it was started: 0 if no executor took it.

    >>> pool = ThreadPoolExecutor()
    >>> pool.shutdown()
    >>> for found in map("busybox", ["cat"], ["input"], executor=pool):
    ...     print(found.message, found.index)
    the executor is closed (RuntimeError: cannot schedule new futures after shutdown) 0
    """

    index: int = 0
    attempts: int = 1


class WorkerLost(WorkerError):
    """The worker of an item of `map` has ended, or is out of reach. Parts of the item may have run.

    >>> for found in map("busybox", ["cat"], ["input"]):
    ...     if isinstance(found, WorkerLost):
    ...         print(found.index, found.hint)
    """


class CellFailed(NbcontainerError):
    """The cell ran and ended badly. `outcome` says how; `stdout` and `stderr` are what a Python caller's run wrote.

    >>> try:
    ...     result = run("busybox", script="echo problem >&2; exit 3")
    ... except CellFailed as error:
    ...     print(error.message, error.outcome.exit_code, error.stderr)
    exit code 3: problem 3 b'problem\\n'
    """

    outcome: Outcome

    def __init__(
        self, message: str, *, outcome: Outcome, hint: str = "", stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(message, hint=hint)
        self.outcome = outcome
        self.stdout = stdout
        self.stderr = stderr
