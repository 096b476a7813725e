"""One laboratory, from the notebook's side: its container, and the requests to the agent in it."""

from __future__ import annotations

import errno
import os
import posixpath
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.preview.plans import plan_of
from nbcontainer.containers.run import run_in
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import LaboratoryError, NbcontainerError, SandboxError
from nbcontainer.lab import agent
from nbcontainer.lab.attacks import SECRET
from nbcontainer.lab.reasons import reason
from nbcontainer.linux.procfs import read_mounts
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.steps.base import Plan, Step
from nbcontainer.sandbox.steps.devices import LinkStreams, MaskPaths, ReadOnlyPaths
from nbcontainer.sandbox.steps.namespaces import CloneInit, SetHostname
from nbcontainer.sandbox.steps.network import StageHosts
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.program import CallFunction, ImportModule
from nbcontainer.sandbox.steps.rootfs import AttachStaged, PivotRoot
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.drawing.mount_tree import MountTree
    from nbcontainer.linux.procfs import Mount
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.spec import Overlay

_DECOY = f"""
mkdir -p /home/alice /image /image/dev /image/home /image/proc /image/sys
for name in bin etc linuxrc mnt opt root run sbin srv tmp usr var; do cp -a /$name /image; done
rm -f /image/etc/mtab; tar -C /image -cf /home/alice/busybox.tar .; rm -rf /image
mkdir -p /root/.ssh /mnt /lab /store
echo {SECRET} > /home/alice/secret.txt
echo 'root:*:decoy' > /etc/shadow; chmod 600 /etc/shadow
echo 'decoy key' > /root/.ssh/id_ed25519; chmod 700 /root /root/.ssh; chmod 600 /root/.ssh/id_ed25519
echo decoy-host > /etc/hostname
"""
"""What makes a busybox look like a host: the archive of a busybox, and files that no container may reach."""

_IMAGE = "cp -a /bin /sbin /usr /etc /tmp /root /var /store/layers/image/diff 2>/dev/null; true"
_OPEN = (MaskPaths, ReadOnlyPaths, LinkStreams)
"""Steps that the laboratory's own container leaves out: where parts of /proc are covered, no new one can be mounted."""

_PATIENCE = 60.0

_OF_THIS_MACHINE = ("volumes", "mounts", "cache_dirs", "here", "identity", "cap_add", "userns")
"""Options of a run that are about this machine, of which a laboratory has nothing."""


class Shown(str):
    """The output of a command in a laboratory, shown as it is. `status` is the exit status of the command."""

    __slots__ = ("status",)
    status: int

    def __new__(cls, text: str, status: int = 0) -> Shown:
        """Return the text with a status."""
        made = super().__new__(cls, text)
        made.status = status
        return made

    def _ipython_display_(self) -> None:
        """Print it: a command without output shows nothing."""
        if shown := repr(self):
            print(shown)

    def __repr__(self) -> str:
        end = "" if not self.status else f"(exit status {self.status})"
        return str(self).rstrip("\n") + ("\n" if end and self else "") + end


@dataclass(frozen=True)
class Trial:
    """A plan that was run in a laboratory: its output, the status of its program, and what failed of it.

    `without` are the steps that were left out, and `script` is what the program ran. `failed` is the step that the
    kernel refused, with its error; empty if all steps were applied.
    """

    output: str
    status: int
    without: tuple[str, ...] = ()
    failed: str = ""
    script: str = ""

    def __repr__(self) -> str:
        left_out = f"without {', '.join(self.without)}" if self.without else "all steps"
        failed = f"\ncannot start: {self.failed}" if self.failed else ""
        return f"[{left_out}; exit status {self.status}]\n{self.output}".rstrip("\n") + failed


def bind_sources(mounts: Sequence[Mount]) -> dict[str, str]:
    """Return which path each bind mount of a file in memory shows, by the path of the mount.

    A file system has its own top at one mount; a mount of another directory of it is a bind mount (MS_BIND, mount(2)).
    """
    tops = {one.device: one.target for one in mounts if one.fstype == "tmpfs" and one.root == "/"}
    binds = [one for one in mounts if one.root != "/" and one.device in tops]
    return {one.target: f"bind of {tops[one.device].rstrip('/')}{one.root}" for one in binds}


class Laboratory:
    """A container whose process applies single steps by request. `close` ends it, and so does the end of the notebook.

    Paths are those in the laboratory; a relative path begins in its own directory. Not thread-safe.
    """

    def __init__(self, engine: Engine) -> None:
        """Start nothing yet."""
        self.engine = engine
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None
        self._running: ContainerHandle | None = None
        self._channel: socket.socket | None = None
        self.upper: WriteLayer | None = None
        self._decoy: Container | None = None

    def ask(self, do: str, *paths: str, **arguments: Any) -> Any:
        """Return the agent's answer to a request; start the laboratory for the first one.

        `paths` are those that the reason of a refusal is about. Raises `LaboratoryError`, with the kernel's reason.
        """
        for given in (*paths, arguments.get("script", "")):
            if not isinstance(given, str):
                hint = "write it as a string, as in 'tiny'"
                raise LaboratoryError(f"{do}: text is expected, not {type(given).__name__}", call=do, hint=hint)
        with self._lock:
            try:
                if self._channel is None:
                    with store_errors("start the laboratory", self.engine.store.path):
                        self._start()
                answer = self._answer(do, arguments)
            except BaseException:  # it could not start, or an interrupt: the answer would come to the next request
                self._end()
                raise
        if answer is None:
            self.close()
            raise LaboratoryError("the laboratory has ended", call=do, hint="the next call starts a new one")
        if "result" in answer:
            return answer["result"]
        raise self._refused(do, paths, answer)

    def _answer(self, do: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the agent answers to a request; None if it has ended."""
        assert self._channel is not None
        try:
            protocol.send(self._channel, {"do": do, "with": arguments})
            return protocol.receive(self._channel)
        except OSError:
            return None

    def _refused(self, do: str, paths: Sequence[str], answer: dict[str, Any]) -> LaboratoryError:
        code, error = int(answer["errno"]), str(answer["error"])
        name = errno.errorcode.get(code, "")
        why = reason(do, code, paths, read_mounts(str(answer["mounts"])), agent.DIRECTORY)
        text = error.rpartition(": ")[2]
        return LaboratoryError(
            f"{do}({', '.join(map(repr, paths))}): {name or 'error'}, {text}", call=do, errno=code, hint=why
        )

    def mounts(self, below: str = "") -> MountTree:
        """Return the mounts that the laboratory sees, or those at and below a path."""
        from nbcontainer.commands.drawings import draw_mounts

        found = read_mounts(self.ask("mounts"))
        top = posixpath.normpath(posixpath.join(agent.DIRECTORY, below)) if below else "/"
        kept = [one for one in found if top == "/" or one.target == top or one.target.startswith(f"{top}/")]
        return draw_mounts(kept, bind_sources(found))

    def plan(self, script: str, **options: Any) -> Plan:
        """Return the plan of a container of busybox in the laboratory's store.

        Raises as `nbcontainer.run` does, and `LaboratoryError` for options that are about this machine.
        """
        for name in _OF_THIS_MACHINE:
            if options.get(name):
                hint = "make files with lab.sh, and mount them with lab.bind; or use %%container"
                raise LaboratoryError(
                    f"the option {name} is about this machine, not the laboratory", call="run", hint=hint
                )
        request = request_of_keywords("busybox", (), script, options)
        found, _ = plan_of(self.engine, request)
        return Plan(*(tuple(map(_in_decoy_store, part)) for part in (found.prepare, found.setup, found.enter)))

    def run(self, steps: Plan, script: str, without: Sequence[str], timeout: float) -> Trial:
        """Run a plan in the decoy store, except for some of its steps."""
        known = {type(step).__name__ for step in steps}
        for name in without:
            if name == CloneInit.__name__:
                hint = "leave out another step: this one makes the process for which the others are"
                raise LaboratoryError("the laboratory itself would be the container", call="run", hint=hint)
            if name not in known:
                several = "write several names as a list, without=['A', 'B']; " if "," in name or " " in name else ""
                hint = f"{several}its steps are {', '.join(sorted(known))}"
                raise LaboratoryError(f"the plan has no step {name}", call="run", hint=hint)
        self.ask("sh", script="rm -rf /store/tmp/up; mkdir -p /store/tmp/up/diff /store/tmp/up/work", timeout=_PATIENCE)
        todo = plan.encode(steps)
        answer = self.ask("run", steps=todo, without=list(without), script=script, timeout=timeout)
        return Trial(str(answer["output"]), int(answer["status"]), tuple(without), str(answer["failed"]), script)

    # Its container

    def _start(self) -> None:
        """Start the container. Raises this package's errors: the caller then ends what has started."""
        engine = self.engine
        self._decoy = self._decoy or self._make_decoy()
        self._launcher = self._launcher or Launcher(engine.store.path, engine.idmap, preload=(agent.__name__,))
        self.upper = WriteLayer(engine.store, engine, self._decoy.lowers)
        self.upper.make()
        ours, theirs = protocol.pair()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            todo = self._own_plan(self.upper.root)
            self._running = self._launcher.submit(todo, [null, null, null, theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(null)
        self._channel = ours
        if self._answer("sh", {"script": _IMAGE, "timeout": _PATIENCE}) is None:
            raise SandboxError(f"the laboratory cannot start{self._why_it_ended()}", hint="see `%container doctor`")

    def _why_it_ended(self) -> str:
        assert self._running is not None
        self._running.wait()
        failed = self._running.failed or {}
        return f": {failed['step']}: {failed['error']}" if failed else ""

    def _make_decoy(self) -> Container:
        """Return a container whose layers look like a host."""
        engine = self.engine
        image = engine.images.find("busybox")
        decoy = containers.create_anonymous(engine, image)
        nowhere = Streams(lambda _: None, lambda _: None)
        outcome = run_in(engine, decoy, image, Request("busybox", script=_DECOY), nowhere)
        if not outcome.ok:
            problem = f"the laboratory's files cannot be made: {outcome.describe()}"
            raise SandboxError(problem, hint="see `%container doctor`")
        return decoy

    def _own_plan(self, root: Overlay) -> Plan:
        """Return the plan of the laboratory's own container: a root, and no limits of what its process may try."""
        assert self._launcher is not None
        prepare = tuple(
            step
            for step in plan.prepare_steps(self._launcher.idmap, more=("SYS_ADMIN",), proc=self._launcher.proc)
            if not isinstance(step, _OPEN)
        )
        overlay = MountOverlay(root.lowers, root.upper, root.work)
        attach = (AttachStaged("proc"), AttachStaged("sys"), AttachStaged("dev"))
        call = CallFunction(agent.__name__, agent.serve.__name__)
        return Plan(
            (*prepare, overlay, *attach),
            (SetHostname("decoy-host"), ImportModule(agent.__name__), PivotRoot()),
            (call,),
        )

    def reset(self) -> None:
        """End the container; the next request starts a new one, with nothing of the last one's mounts and files."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running.close()
        if self.upper is not None and not self.upper.remove():
            self.engine.discard_later([self.upper.path])
        self._channel = self._running = self.upper = None

    def close(self) -> None:
        """End the container, and its launcher. Idempotent."""
        with self._lock:
            self._end()
            launcher, self._launcher = self._launcher, None
            decoy, self._decoy = self._decoy, None
        if launcher is not None:
            launcher.close()
        if decoy is not None:
            try:
                decoy.remove()
            except NbcontainerError:  # the engine is closed: its next start removes it
                return


def _in_decoy_store(step: Step) -> Step:
    """Return a step with the layers of the decoy store in the place of its own."""
    if isinstance(step, MountOverlay):
        return MountOverlay(
            ("../stage/names", "image/diff", "../below"), "../tmp/up/diff", "../tmp/up/work", step.target
        )
    if isinstance(step, StageHosts):
        return StageHosts(("image/diff/etc",))
    return step
