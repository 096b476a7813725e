"""The verbs that end what runs in containers, send it signals, start a job again, and show its ports."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.several import raise_first, tried
from nbcontainer.commands.verbs.targets import container_of, not_running
from nbcontainer.commands.views import Lines, Note
from nbcontainer.containers.active import running_containers, signal_running, stop_running
from nbcontainer.containers.jobs.following import own_job
from nbcontainer.containers.jobs.job import Job
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.oci import signals
from nbcontainer.sandbox.spec import FORWARDED

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.engine import Engine

_GRACE = Option(("-t", "--timeout", "--time"), "SECONDS", "kill what still runs after this time, 2 by default")


def _stop(call: Invocation) -> View:
    grace = _grace(call.words.one("time", "2"))

    def stop(name: str) -> bool:
        if name not in running_containers(call.engine.store) and name not in call.engine.jobs:
            container_of(call.engine, name)  # raises if the container does not exist
        return end(call.engine, name, grace)

    done, errors = tried(call.words.operands, stop)
    words = [f"{name} stopped" if ended else f"{name} was not running" for name, ended in done]
    raise_first(errors, ", ".join(words))
    return Note("\n".join(words))


def end(engine: Engine, name: str, grace: float = 2.0) -> bool:
    """End what runs in a container, after `grace` seconds at the latest; return False if nothing does."""
    if (live := engine.live.get(name)) is not None:
        live.stop(grace)
        return True
    return stop_running(engine.store, name, grace)


def _grace(text: str) -> float:
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise UsageError(f"invalid time '{text}' for --time", hint="write seconds, as in 10")
    return float(text)


def _kill(call: Invocation) -> View:
    engine, number = call.engine, _signal(call.words.one("signal", "SIGKILL"))

    def kill(name: str) -> None:
        if name not in running_containers(engine.store):
            raise not_running(engine, name)
        if number != signal.SIGKILL or not _killed_here(engine, name):
            signal_running(engine.store, name, number)

    done, errors = tried(call.words.operands, kill)
    words = [f"{name} got {signal.Signals(number).name}" for name, _ in done]
    raise_first(errors, ", ".join(words))
    return Note("\n".join(words))


def _killed_here(engine: Engine, name: str) -> bool:
    """Kill a container that runs between the cells of this notebook; return False if it does not."""
    live = engine.live.get(name)
    if live is None:
        return False
    live.kill()
    if isinstance(live, Job):
        live.join()
    return True


def _signal(text: str) -> int:
    number = signals.number(text)
    if number is None:
        raise UsageError(f"unknown signal {text!r} for --signal", hint="write a name or a number, as in SIGHUP")
    if number not in (signal.SIGKILL, *FORWARDED):
        names = ", ".join(one.name for one in (signal.SIGKILL, *FORWARDED))
        hint = f"choose one of {names}"
        raise UsageError(f"unsupported signal '{text}' for --signal: init does not forward it", hint=hint)
    return number


def _restart(call: Invocation) -> View:
    grace = _grace(call.words.one("time", "2"))

    def restart(name: str) -> None:
        job = own_job(call.engine, name)
        if job is None:
            container_of(call.engine, name)  # raises if the container does not exist
            hint = "restart it in the notebook that started it, or run its cell again"
            raise ContainerError(f"container '{name}' has no job of this notebook", hint=hint)
        job.restart(grace)

    done, errors = tried(call.words.operands, restart)
    words = [f"{name} restarted" for name, _ in done]
    raise_first(errors, ", ".join(words))
    return Note("\n".join(words))


def _port(call: Invocation) -> View:
    name, *chosen = call.words.operands
    running = running_containers(call.engine.store).get(name)
    if running is None:
        raise not_running(call.engine, name)
    lines = []
    for text in running.ports:
        host, _, inner = text.rpartition(":")
        if not chosen or inner in (chosen[0], f"{chosen[0]}/tcp"):
            lines.append(host if chosen else f"{inner} -> {host}")
    if chosen and not lines:
        hint = f"see `%container port {name}`; the next run can have `-p {chosen[0]}:{chosen[0]}`"
        raise ContainerError(f"container '{name}' does not publish port {chosen[0]}", hint=hint)
    return Lines(tuple(lines))


ENDING_VERBS = (
    Verb(
        Command(
            "stop",
            "CONTAINER...",
            "Stop what runs in containers.",
            (_GRACE,),
            least=1,
            most=999,
        ),
        _stop,
    ),
    Verb(
        Command(
            "kill",
            "CONTAINER...",
            "End what runs in containers at once, or send its program a signal.",
            (Option(("-s", "--signal"), "SIGNAL", "the signal, SIGKILL by default: SIGHUP, for example"),),
            least=1,
            most=999,
        ),
        _kill,
    ),
    Verb(
        Command(
            "restart",
            "CONTAINER...",
            "Stop jobs of this notebook, and start them again in their containers.",
            (_GRACE,),
            least=1,
            most=999,
        ),
        _restart,
        in_terminal=False,
    ),
    Verb(
        Command(
            "port",
            "CONTAINER [PORT]",
            "Show the ports of the host that lead into a running container.",
            least=1,
            most=2,
        ),
        _port,
    ),
)
