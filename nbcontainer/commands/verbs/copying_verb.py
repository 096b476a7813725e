"""The verb `cp`: files and directories out of a container, and into one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.standard_files import check_stream, not_in_notebook
from nbcontainer.commands.verbs.targets import container_of, present
from nbcontainer.commands.views import Note
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.copying import trees
from nbcontainer.containers.jobs.following import own_job
from nbcontainer.containers.live.exec_client import of_notebook
from nbcontainer.errors import ContainerBusy, UsageError

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.copying.trees import Caller
    from nbcontainer.containers.engine import Engine

_IN_CONTAINER = re.compile(r"([a-zA-Z0-9][a-zA-Z0-9_.-]*):(.*)", re.DOTALL)


def _cp(call: Invocation) -> View:
    source, target = call.words.operands
    inner_source, inner_target = _IN_CONTAINER.fullmatch(source), _IN_CONTAINER.fullmatch(target)
    if "-" in (source, target):
        raise not_in_notebook(f"cp {source} {target}")
    if inner_source and inner_target:
        hint = "copy to a path of the host first, and from there into the other one"
        raise UsageError("cp: one of the two paths must be on the host", hint=hint)
    if bool(inner_source) == bool(inner_target):
        hint = "write `cp CONTAINER:PATH PATH`, or `cp PATH CONTAINER:PATH`"
        if re.match(r"[^/:]+@\d+:", source):
            hint = f"make a container of that state first: `checkout {source.partition(':')[0]} --name NAME`"
        raise UsageError("cp: one of the two paths must be in a container", hint=hint)
    if inner_source is not None:
        return Note(_out(call, inner_source[1], inner_source[2], target))
    assert inner_target is not None
    return Note(_in(call, source, inner_target[1], inner_target[2]))


def copy_stream(call: Invocation) -> Note | None:
    """Copy with a tar on this process's standard input or output in place of `-`; return what was copied, if into."""
    source, target = call.words.operands
    inside = _IN_CONTAINER.fullmatch(target if source == "-" else source)
    if inside is None:
        raise UsageError("cp: one of the two paths must be in a container", hint="write `cp CONTAINER:PATH -`")
    check_stream(0 if source == "-" else 1, f"cp {source} {target}")
    name, path = inside[1], inside[2]
    if source != "-":
        _tar_out(call, name, path)
        return None
    caller = _writable(call.engine, name, f"cp - {name}:{path}")
    entries = trees.receive_tar(caller, 0, path, single_id=call.engine.single_id)
    return Note(f"copied {entries} {'entry' if entries == 1 else 'entries'} of a tar to {name}:{path}")


def _tar_out(call: Invocation, name: str, path: str) -> None:
    engine, follow = call.engine, call.words.has("follow-link")
    if (live := _joined(engine, name)) is not None:
        trees.send_tar(live, path, 1, follow=follow)
        return
    with present(engine, name) as container:
        trees.send_tar(trees.of_stopped(container), path, 1, follow=follow)


def _out(call: Invocation, name: str, path: str, target: str) -> str:
    engine, follow = call.engine, call.words.has("follow-link")
    place = trees.HostPath.of(target)
    if (live := _joined(engine, name)) is not None:
        counts = trees.copy_out(live, path, place, engine.store, follow=follow)
    else:
        with present(engine, name) as container:
            counts = trees.copy_out(trees.of_stopped(container), path, place, engine.store, follow=follow)
    return "; ".join((f"copied {count(counts.files, 'file')} to {place.path}", *left_out(counts.special, counts.links)))


def left_out(special: int, links: int) -> list[str]:
    """Return a phrase for each kind of files that was left out."""
    leads = "leads" if links == 1 else "lead"
    return [
        *([f"{count(special, 'special file')} {_was(special)} left out"] if special else ()),
        *([f"{count(links, 'link')} that {leads} out of the copy {_was(links)} left out"] if links else ()),
    ]


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _in(call: Invocation, source: str, name: str, path: str) -> str:
    caller = _writable(call.engine, name, f"cp {source} {name}:{path}")
    files = trees.copy_in(caller, trees.HostPath.of(source), path, call.engine.store)
    return f"copied {count(files, 'file')} to {name}:{path}"


def _writable(engine: Engine, name: str, what: str) -> Caller:
    """Return what calls a function that writes to a container. `what` is the entry in its history, if it is stopped."""
    caller = _joined(engine, name)
    if caller is None and name in running_containers(engine.store):
        hint = f"wait for it, or stop it first: `%container stop {name}`"
        raise ContainerBusy(f"container '{name}' runs a cell that cannot be joined", hint=hint)
    return caller or trees.into_stopped(container_of(engine, name), what)


def _joined(engine: Engine, name: str) -> Caller | None:
    """Return what calls a function in a running container that can be joined; None if it does not run, or cannot."""
    job = own_job(engine, name)
    if job is not None and (handle := job.handle) is not None:
        return trees.of_running(handle, name)
    running = running_containers(engine.store).get(name)
    return of_notebook(engine, name) if running is not None and running.door else None


CP = Verb(
    Command(
        "cp",
        "CONTAINER:PATH PATH | PATH CONTAINER:PATH",
        "Copy a file or a directory out of a container, running or not, or into one; in a terminal, `-` is a tar.",
        (Option(("-L", "--follow-link"), "", "copy what a link leads to, in place of the link"),),
        least=2,
        most=2,
    ),
    _cp,
)
