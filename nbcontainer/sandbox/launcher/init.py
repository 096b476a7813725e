"""Pid 1 of a container, from a spare that waits for the rest of its plan to the end of everything in the container.

The launcher clones init, which applies the part of the plan for a warm container, and waits. The rest of the plan
makes it a process like the cell itself, and what is last spawns the cell's program as pid 2: so that a cell's start has
no fork of an interpreter in it. Then it reaps, hands signals on, ends what the cell leaves, and says how it ended.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.linux.idle import idle_kernel
from nbcontainer.linux.process import capability_mask, set_name
from nbcontainer.linux.procfs import unreached
from nbcontainer.linux.watched import WatchedKernel
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.launcher import prefault
from nbcontainer.sandbox.launcher.applying import apply_steps, begin_step, end_step, in_words
from nbcontainer.sandbox.launcher.function_calls import answer
from nbcontainer.sandbox.launcher.joining import JoinedProcesses, is_readable, peak_memory
from nbcontainer.sandbox.launcher.notebook_watch import INTERVAL, NotebookWatch, end_with
from nbcontainer.sandbox.launcher.proc_levels import ask_for_proc
from nbcontainer.sandbox.spec import FORWARDED, ProcLevel
from nbcontainer.sandbox.step_failure import failure_in, failure_of
from nbcontainer.sandbox.steps.exchange.control_directory import MakeControlDirectory, open_control_directory
from nbcontainer.sandbox.steps.exchange.display import DisplayWatch
from nbcontainer.sandbox.steps.exchange.values import MountValues
from nbcontainer.sandbox.steps.namespaces import NewSession
from nbcontainer.sandbox.steps.program import CallFunction, Execute, OpenTerminal, open_terminal
from nbcontainer.sandbox.steps.rights.capabilities import CloseInit, DropCapabilities, HardenInit
from nbcontainer.sandbox.steps.rights.user import SetUser
from nbcontainer.sandbox.steps.rootfs import AttachStaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.launcher.unsharing import MapGate
    from nbcontainer.sandbox.steps.base import Step

_PASSWD = "root:x:0:0:root:/root:/bin/sh\n"

# A child's end, a line of `display`, and what is handed on to the cell.
_AWAITED = (signal.SIGCHLD, signal.SIGIO, *FORWARDED)


def main(
    kernel: Kernel,
    channel: socket.socket,
    launcher: int,
    prepare: list[Any],
    gate: MapGate | None = None,
    level: ProcLevel = ProcLevel.OWN,
    cloned: int = 0,
    *,
    prefaults: bool = True,
    notebook: int = -1,
) -> NoReturn:
    """Init's whole life. Ends the process.

    `channel` leads to the notebook, `launcher` is a descriptor of the launcher's process (pidfd_open(2)), `prepare`
    is that part, as `plan.encode` wrote it. `gate` holds this process until its user namespace has maps; None if it is
    in the launcher's. `level` says whether the notebook mounts /proc.
    `cloned` is the time at which the launcher began to clone this process (CLOCK_MONOTONIC, nanoseconds). If
    `prefaults` is false, no time is taken to save the cell some. `notebook` is a descriptor of the notebook's status
    (`open_status`).
    """
    try:
        if gate is not None:
            gate.wait(kernel)
        end_with(kernel, launcher)
        kernel.close_all_but((channel.fileno(), launcher, notebook))
        set_name("nbcontainer-init")
        life = _Init(kernel, channel, launcher, notebook)
        life.live(plan.decode(prepare), cloned, prefaults, asks=level == ProcLevel.NOTEBOOK)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{protocol.INIT_PREFIX}{in_words(error)}\n".encode())
    finally:
        os._exit(0)


def specialize(launcher: int) -> None:
    """Go through the life of a plain init without doing any of it, and read no file: each init has this memory too.

    In the launcher, some times: the interpreter has then specialized this code (PEP 659), and an init copies less.
    """
    ours, theirs = protocol.pair()
    with ours, theirs:
        double = _Init(idle_kernel(_PASSWD), ours, launcher)
        double.done = plan.decode(prefault.PREPARE)
        apply_steps(WatchedKernel(double.kernel).as_kernel(), double.done, ())
        double.prefault(double.kernel)


class _Init:
    """Pid 1 of one container."""

    def __init__(self, kernel: Kernel, channel: socket.socket, launcher: int, notebook: int = -1) -> None:
        self.kernel = kernel
        self.channel = channel
        self.launcher = launcher
        self.notebook = notebook
        self.limit: float | None = None
        self.files: list[int] = []
        self.done: Sequence[Step] = ()
        self.cell = 0
        self.display: DisplayWatch | None = None
        self.owes = False  # whether the directory of `display` is to be handed out, and was refused
        self.joined: JoinedProcesses | None = None
        self.watched: WatchedKernel | None = None
        self.explained = b""  # what it did ahead, ready to be sent

    def live(self, prepare: Sequence[Step], cloned: int, prefaults: bool, *, asks: bool = False) -> None:
        """Apply the part for a warm container, wait for the rest of the plan, apply that, and outlive the cell.

        If `asks` is true, the notebook mounts /proc.
        """
        self.kernel.umask(0o022)
        # They wait to be taken, one by one: handlers would interrupt each other, as deep as a cell has them sent.
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        for sig in FORWARDED:  # whatever the notebook was started with: nohup(1) has it ignore one
            signal.signal(sig, signal.SIG_DFL)
        mounts = ask_for_proc(self.kernel, self.channel) if asks else []
        # Whether the cell is to be explained is not known yet, and these calls are made once.
        self.watched = WatchedKernel(self.kernel, cloned)
        failure = apply_steps(self.watched.as_kernel(), prepare, mounts)
        protocol.close(mounts)
        if failure is None and any(isinstance(step, AttachStaged) for step in prepare):
            with contextlib.suppress(PermissionError):  # the root is closed to the cell's user: the cell reports it
                self.display = DisplayWatch(self.kernel, switched=prefault.switched(prepare))
        self._harden(CloseInit())  # whether the cell may gain privileges, its plan says
        self.done = prepare
        if prefaults and not is_readable(self.channel.fileno()):  # else a cell waits already
            self.prefault(idle_kernel())
        if self._begin(failure):
            status, usage = self._outlive()
            # Facts for hints, before the namespaces go. A cell that ends with 0, and with all its processes, has none.
            facts = unreached() if status else {}
            facts |= _end_everything()
            with contextlib.suppress(OSError):  # the notebook has gone
                self._say_ended(status, usage, facts)

    def prefault(self, idle: Kernel) -> None:
        """Go through all that is left of a cell but its program, with a kernel that does nothing."""
        prefault.look_up_likely(self.kernel, self.done)
        with prefault.plain_request(self.done) as channel:
            double = _Init(idle, channel, self.launcher)
            double._begin(None)
            double._say_ended(0, resource.getrusage(resource.RUSAGE_CHILDREN), {})
            protocol.close(double.files)
        if self.watched is not None:
            self.explained = protocol.encode({"explained": self.watched.take_json()})

    def _begin(self, failure: dict[str, Any] | None) -> bool:
        """Wait for the rest of the plan and start the cell by it; return False if no cell is to be, or can be.

        `failure` is of the part for a warm container.
        """
        request = protocol.receive(self.channel, self.files)
        while request is not None and "setup" not in request:
            if "network" in request:
                self._show_network()  # else it is to wake up by: anything more would slow the notebook down
            request = protocol.receive(self.channel, self.files)
        if request is None:  # the notebook does not need this one, or has gone
            return False
        plain, explain = self.kernel, self.watched if request.get("explain") else None
        if explain is not None:
            if self.explained:  # the notebook reads it meanwhile
                protocol.send_encoded(self.channel, self.explained)
            self.kernel = explain.as_kernel()
        setup, enter = plan.decode(request["setup"]), plan.decode(request["enter"])
        self.limit = request.get("limit")
        network: list[int] = []
        if request.get("joinable"):
            self.joined = JoinedProcesses(self.kernel)
            with contextlib.suppress(OSError):  # an outer /proc has no namespaces
                network = [self.kernel.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)]
        failure = failure or self._set_up(setup) or self._start(enter)
        # What follows is of init's own, and a container may run for days: nothing more is noted.
        self.kernel, self.watched = plain, None
        if failure is not None:
            protocol.send(self.channel, {"failed": failure})
            return False
        if explain is not None:
            protocol.send(self.channel, {"explained": explain.take_json()})
        if request.get("joinable"):
            self._say_began(network)
        self._let_go(enter)
        return True

    def _say_began(self, network: Sequence[int]) -> None:
        """Say that the cell has begun, and hand out its network namespace, unless the kernel refuses the latter.

        It does if other containers have too many descriptors on their way (unix(7)).
        """
        try:
            protocol.send(self.channel, {"began": True}, network)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            protocol.send(self.channel, {"began": True})

    def _show_network(self) -> None:
        """Hand out its network namespace: no other process can open it by this one, which cannot be looked into."""
        namespace = self.kernel.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        protocol.send(self.channel, {"network": True}, [namespace])
        self.kernel.close(namespace)

    def _say_ended(self, status: int, usage: resource.struct_rusage, facts: dict[str, int]) -> None:
        cpu_time = usage.ru_utime + usage.ru_stime
        ended = {"ended": status, "cpu": cpu_time, "peak_memory": peak_memory(usage)}
        protocol.send(self.channel, {**facts, **ended} if facts else ended)

    def _outlive(self) -> tuple[int, resource.struct_rusage]:
        """Reap every child and hand signals to the cell, until its end; return its wait status and resource usage."""
        watch, next_look = NotebookWatch(self.notebook, self.limit), time.monotonic() + INTERVAL
        if self.display is not None and self.display.blind:
            self._take_signal(signal.SIGIO)
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == self.cell:
                return status, usage
            if pid and self.joined is not None and (message := self.joined.ended(pid, status, usage)):
                protocol.send(self.channel, message)
            if (left := next_look - time.monotonic()) <= 0:  # no flood of signals or of orphans delays it
                self._end_if_due(watch)
                left, next_look = INTERVAL, time.monotonic() + INTERVAL
            if pid:
                continue
            for message in () if self.joined is None else self.joined.dead():
                protocol.send(self.channel, message)
            taken = signal.sigtimedwait(_AWAITED, left)
            if taken is not None and taken.si_signo != signal.SIGCHLD:
                with contextlib.suppress(OSError):
                    self._take_signal(taken.si_signo)

    def _end_if_due(self, watch: NotebookWatch) -> None:
        """Do what the notebook would do, if it cannot: send the cell a signal, or kill all processes."""
        if self.joined is not None:
            self.joined.end_late_ones()
        if self.owes:
            self._hand_out()
        number = watch.look()
        with contextlib.suppress(OSError):
            if number == signal.SIGKILL:
                os.kill(-1, number)
            elif number is not None:
                os.killpg(self.cell, number)

    def _take_signal(self, number: int) -> None:
        """Hand a signal to the cell; SIGIO is init's own. Raises `OSError`."""
        if number != signal.SIGIO:
            os.killpg(self.cell, number)
            return
        self._hand_out()
        if self.joined is not None:
            self._take_requests(self.joined)

    def _hand_out(self) -> None:
        """Hand the directory of `display` out, once. If that is refused (unix(7)), the next look tries again."""
        if self.display is None or not self.display.files:
            return
        try:
            protocol.send(self.channel, {"display": True}, [self.display.directory])
        except OSError as error:
            self.owes = error.errno == errno.ETOOMANYREFS  # else the notebook has gone
        else:
            self.owes = False
        if not self.owes:
            self.display.drop()

    def _take_requests(self, joined: JoinedProcesses) -> None:
        """Do what the notebook asks for in a container that other processes can join. Any process may send SIGIO."""
        while is_readable(self.channel.fileno()):
            files: list[int] = []
            request = protocol.receive(self.channel, files)
            if request is None:  # the notebook has gone: the launcher ends this container
                return
            if "signal" in request:
                joined.signal(int(request["join"]), int(request["signal"]))
                continue
            try:
                if "call" in request:
                    joined.call(request, files, self.channel)
                    continue
                control = joined.start(request, files)
                if control is not None:
                    protocol.send(self.channel, {"join": request["join"], "terminal": True}, [control])
                    self.kernel.close(control)
            except Exception as error:
                failed = {"join": request["join"], "failed": failure_of("Execute", error)}
                protocol.send(self.channel, failed)

    def _set_up(self, setup: Sequence[Step]) -> dict[str, Any] | None:
        for step in setup:
            if isinstance(step, OpenTerminal):
                begin_step(self.kernel, step)
                control, terminal = open_terminal(self.kernel)
                end_step(self.kernel)
                protocol.send(self.channel, {"terminal": True}, [control])
                self.kernel.close(control)
                self.files[: step.streams] = [terminal] * step.streams
            elif (failure := apply_steps(self.kernel, (step,), self.files)) is not None:
                return failure
            elif isinstance(step, MakeControlDirectory):
                self.joined = JoinedProcesses(self.kernel)
                if self.display is not None:
                    self.display.drop()
                ends = open_control_directory(self.kernel)
                protocol.send(self.channel, {"control_directory": True}, ends)
                protocol.close(ends)
            elif isinstance(step, MountValues):
                self._exchange(step)
        return None

    def _exchange(self, step: MountValues) -> None:
        """Send descriptors of the values' files, and wait until the notebook has written them. Ends if it is gone."""
        values = step.open_values(self.kernel)
        protocol.send(self.channel, {"values": True}, values)
        protocol.close(values)
        if protocol.receive(self.channel) is None:
            os._exit(0)

    def _start(self, enter: Sequence[Step]) -> dict[str, Any] | None:
        """Start the cell; return None, or what there is to say of the step that failed."""
        last = enter[-1]
        if isinstance(last, CallFunction):
            # What it gives up is its own: init needs no less than the most privileged to end whatever it leaves.
            self.cell = os.fork()
            if self.cell == 0:
                self._call(enter[:-1], last)
            return None
        assert isinstance(last, Execute)
        if (failure := apply_steps(self.kernel, enter[:-1], self.files)) is not None:
            return failure
        if any(isinstance(step, SetUser) for step in enter):
            self._harden(next((step for step in enter if isinstance(step, CloseInit)), HardenInit()))
        try:
            begin_step(self.kernel, last)
            self.cell = last.start(self.kernel)
            end_step(self.kernel)
        except Exception as error:
            return failure_in(last, error)
        return None

    def _harden(self, step: HardenInit) -> None:
        """Let no process look into this one, and have it end with the launcher: a change of user undoes both."""
        end_with(self.kernel, self.launcher)
        step.apply(self.kernel, ())
        if self.display is not None:
            self.display.watch()

    def _let_go(self, enter: Sequence[Step]) -> None:
        """Keep nothing that was for the start, or is the cell's."""
        with contextlib.suppress(OSError):  # the cell may have closed the root, or the container did in an earlier cell
            self.kernel.chdir("/")
        if self.joined is None:
            DropCapabilities(("KILL",)).apply(self.kernel, ())
        else:  # without a capability, init could not give it to a process that it starts (no_new_privs)
            steps = (*self.done, *enter)
            permitted = next(step for step in steps if isinstance(step, DropCapabilities)).mask(self.kernel)
            self.kernel.capset(permitted, permitted & capability_mask(("KILL",)), 0)
            self.joined.capabilities = permitted if self.kernel.getuid() == 0 else 0
        for standard in (0, 1, 2):
            self.kernel.close(standard)
        kept = () if self.display is None else self.display.files
        self.kernel.close_all_but((self.channel.fileno(), self.launcher, self.notebook, *kept))

    def _call(self, enter: Sequence[Step], call: CallFunction) -> NoReturn:
        """The cell that is a function of this package: sends what comes of it. Ends the process."""
        try:
            protocol.close((self.launcher, self.notebook))
            NewSession().apply(self.kernel, ())
            # What this interpreter, and init, changed: the rest is as the kernel made it.
            for sig in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
            failure = apply_steps(self.kernel, enter, self.files)
            protocol.send(
                self.channel, {"failed": failure} if failure else {"answer": answer(call, self.files, self._progress)}
            )
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{protocol.INIT_PREFIX}{in_words(error)}\n".encode())
        finally:
            os._exit(127)

    def _progress(self, done: int) -> None:
        """Report to the notebook how far a function is, in bytes; a full channel loses it rather than waits."""
        with contextlib.suppress(OSError):
            self.channel.sendmsg([json.dumps({"progress": done}).encode()], [], socket.MSG_DONTWAIT)


def _end_everything() -> dict[str, int]:
    """Kill all other processes in the pid namespace and reap them; return what there is to say of that.

    `killed` is how many were still running. `left` says that there are some which this user may not kill, such as a
    setuid program: they end with this process.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGKILL)
    killed, left, until = 0, INTERVAL, time.monotonic() + INTERVAL
    with contextlib.suppress(ChildProcessError):
        while left > 0:
            pid, status = os.waitpid(-1, os.WNOHANG)
            killed += bool(pid) and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            left = until - time.monotonic()
            if not pid and left > 0:
                signal.sigtimedwait((signal.SIGCHLD,), left)
        return {"killed": killed, "left": 1}
    return {"killed": killed} if killed else {}
