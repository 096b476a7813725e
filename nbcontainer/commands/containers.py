"""The verbs of `%container`, `%commit` and the terminal: each takes parsed arguments and returns a view."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from nbcontainer.commands import field_paths
from nbcontainer.commands.command import Verb, count
from nbcontainer.commands.docker_answers import VERB_ANSWERS
from nbcontainer.commands.drawings import LAYERS, MOUNTS, NAMESPACES
from nbcontainer.commands.examples import grouped
from nbcontainer.commands.explain import EXPLAIN
from nbcontainer.commands.grammar import Command, Option, similar
from nbcontainer.commands.images import CHANGE, IMAGE_VERBS, describe
from nbcontainer.commands.several import raise_first, tried
from nbcontainer.commands.standard_files import check_stream
from nbcontainer.commands.verbs.cache_verbs import CACHE
from nbcontainer.commands.verbs.copying_verb import CP
from nbcontainer.commands.verbs.diff_verbs import DIFF
from nbcontainer.commands.verbs.ending_verbs import ENDING_VERBS, end
from nbcontainer.commands.verbs.history_verbs import HISTORY_VERBS
from nbcontainer.commands.verbs.job_verbs import JOB_VERBS
from nbcontainer.commands.verbs.targets import container_of, image_of, neither, present
from nbcontainer.commands.verbs.usage_verbs import USAGE_VERBS
from nbcontainer.commands.verbs.volume_change_verbs import VOLUME_CHANGE_VERBS
from nbcontainer.commands.views import ContainerRow, Document, Lines, Note, listings, size
from nbcontainer.commands.views.listings import DAMAGED, RUNNING, STOPPED
from nbcontainer.commands.volume_verbs import VOLUME
from nbcontainer.containers import lookup as containers
from nbcontainer.containers import named_volumes as volumes
from nbcontainer.containers.active import notebook_name, running_containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import check_export, commit, export
from nbcontainer.containers.pause import wake
from nbcontainer.containers.snapshot import held
from nbcontainer.errors import (
    ContainerBusy,
    ContainerDamaged,
    ContainerError,
    ContainerNotFound,
    ImageNotFound,
    NbcontainerError,
    SandboxError,
    StoreError,
    UsageError,
    VolumeError,
)
from nbcontainer.images import library
from nbcontainer.oci import reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine


def _ps(call: Invocation) -> View:
    engine = call.engine
    running = running_containers(engine.store)
    for one in running.values():
        wake(engine.store, one.pid, one.upper)
    rows = []
    found, damaged = containers.list_all(engine)
    known = {container.name: container for container in found}
    if engine.last is not None:
        known.setdefault(engine.last.name, engine.last)
    for name in sorted(known.keys() | running.keys()):
        record = known[name].record if name in known else None
        facts = running.get(name)
        last = engine.last is not None and name == engine.last.name
        if record is not None and record.session and facts is None and not last:
            continue  # another notebook's last container, or one that is being removed
        rows.append(
            ContainerRow(
                name,
                image=record.image if record else facts.image if facts else "",
                state=RUNNING if facts else STOPPED,
                cells=record.count if record else 0,
                created=record.created if record else facts.started if facts else "",
                command=facts.command if facts else record.last.command if record and record.last else "",
                notebook=facts.notebook if facts else notebook_name() if last else "",
                incomplete=bool(record and record.lost),
            )
        )
    rows += [ContainerRow(name, state=DAMAGED) for name in damaged]
    if call.words.has("quiet"):
        return Lines(tuple(row.name for row in rows))
    return listings.container_list(rows)


def _export(call: Invocation) -> View:
    name = call.words.operands[0]
    target = call.words.one("output")
    if not target:
        raise UsageError("export: missing output file", hint="write `export NAME -o FILE.tar`, or `-o -` for a stream")
    if target == "-":
        check_stream(1, f"export {name} -o -")
    with _layers_of(call.engine, name) as layers:
        written = _export_to(call, layers, "/dev/stdout" if target == "-" else target)
    return None if target == "-" else Note(f"{target}  {size(written)}")


def _export_to(call: Invocation, layers: tuple[str, ...], target: str) -> int:
    with call.tracker(f"export {target}") as tracker:
        return export(call.engine, layers, reference.host_path(target), progress=tracker.part())


@contextlib.contextmanager
def _layers_of(engine: Engine, name: str) -> Iterator[tuple[str, ...]]:
    """Yield the layers of a container, or of an image, from the bottom up: held against `rm` and `rmi`."""
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(present(engine, name))
            digest, layers = container.record.image_digest, container.lowers[::-1]
        except (ContainerNotFound, UsageError):
            try:
                image = engine.images.find(name, pull=library.NEVER)
            except ImageNotFound as error:
                raise neither(name) from error
            digest, layers = image.digest, engine.images.lowers(image)
        stack.enter_context(held(engine, name, digest, layers))
        yield layers


def _commit(call: Invocation) -> View:
    operands = call.words.operands
    if target := call.words.one("output"):
        check_export(call.engine, reference.host_path(target))
    with (
        present(call.engine, operands[0] if len(operands) > 1 else "") as container,
        call.tracker(f"commit {operands[-1]}") as tracker,
    ):
        image = commit(
            container,
            operands[-1],
            message=call.words.one("message"),
            author=call.words.one("author"),
            changes=call.words.all("change"),
            force=call.words.has("force"),
            progress=tracker.part(),
        )
        lines = [describe(image)]
        if target:
            layers = container.lowers[::-1]
            with held(call.engine, container.name, container.record.image_digest, layers):
                written = _export_to(call, layers, target)
            lines.append(f"{target}  {size(written)}")
    return Note("\n".join(lines))


def _remove(call: Invocation, name: str) -> bool:
    """Remove the container of that name; return False if there is none and --force ignores that."""
    try:
        _drop(call, container_of(call.engine, name), name)
    except ContainerDamaged:
        containers.remove_damaged(call.engine, name)
    except ContainerNotFound:
        if name in call.engine.jobs:
            _remove_job(call, name)
            return True
        if not call.words.has("force"):
            raise
        return False
    return True


def _remove_job(call: Invocation, name: str) -> None:
    """Remove a job whose container is not on disk: it has no name, and has changed nothing so far.

    Raises `ContainerBusy` if it runs, unless --force is given.
    """
    job = call.engine.jobs[name]
    if call.words.has("force"):
        with contextlib.suppress(StoreError, SandboxError):
            end(call.engine, name)
    if not job.join(None if call.words.has("force") else 0):
        raise ContainerBusy(f"container '{name}' is running", hint=f"stop it first: `%container stop {name}`")
    try:  # its changes are on disk if it had any at its end
        _drop(call, container_of(call.engine, name), name)
    except ContainerNotFound:
        del call.engine.jobs[name]


def _drop(call: Invocation, container: Container, name: str) -> None:
    if call.words.has("force"):
        with contextlib.suppress(StoreError, SandboxError):  # its last changes are lost, as all of it is now
            end(call.engine, container.name)
    elif container.record.has_unapplied_changes:
        problem = f"container '{name}' has changes to volumes that are not applied"
        hint = f"see `%container changes {name}`, and apply or discard them; `%container rm -f {name}` drops them"
        raise ContainerError(problem, hint=hint)
    container.remove()
    call.engine.jobs.pop(container.name, None)
    if call.engine.last is container or (call.engine.last and call.engine.last.name == name):
        call.engine.last = None


def _rm(call: Invocation) -> View:
    with call.engine.background.held():  # what the containers may share with others is looked at once, for all
        done, errors = tried(call.words.operands, lambda name: _remove(call, name))
    removed = ", ".join(name for name, was_there in done if was_there)
    raise_first(errors, f"removed {removed}" if removed else "")
    return Note(f"removed {removed}" if removed else "nothing to remove")


def _rename(call: Invocation) -> View:
    engine, (old, new) = call.engine, call.words.operands
    container = container_of(engine, old)
    container.rename(new)
    engine.jobs.pop(old, None)
    if engine.last is not None and engine.last.name == old:
        engine.last = container
    return Note(f"{old} is now {new}")


def _inspect(call: Invocation) -> View:
    found = []
    for name in call.words.operands or [""]:
        try:
            found.append(container_of(call.engine, name).as_dict())
        except (ContainerNotFound, UsageError):
            if not name:
                raise
            found.append(_described(call.engine, name))
    if call.words.has("format"):
        return Lines(tuple(field_paths.rendered(one, call.words.one("format")) for one in found))
    return Document(found[0] if len(found) == 1 else found)


def _described(engine: Engine, name: str) -> dict[str, Any]:
    """Return what `inspect` shows of the image, or else of the volume, with that name."""
    try:
        return engine.images.describe(image_of(engine, name))
    except ContainerNotFound:
        with contextlib.suppress(VolumeError, UsageError):
            return volumes.get(engine, name).as_dict()
        raise


def _prune(call: Invocation) -> View:
    return Note(f"removed {count(prune(call.engine), 'unreferenced item')}")


def _doctor(call: Invocation) -> View:
    from nbcontainer.commands.doctor.examination import answer

    return answer(call.words, call.engine)


_OUTPUT = Option(("-o", "--output"), "FILE", "write the merged tree to a file: .tar, .tar.gz or .tar.zst")

COMMIT = Command(
    "commit",
    "[CONTAINER] IMAGE[:TAG]",
    "Make an image of the changes of a container's cells, by default the last container's.",
    (
        _OUTPUT,
        Option(("-m", "--message"), "TEXT", "a comment in the image's history"),
        Option(("-a", "--author"), "NAME", "the image's author"),
        Option(("-p", "--pause"), "", "accepted, as in Docker: a running container is always paused"),
        Option(("-f", "--force"), "", "commit although changes of a cell are lost"),
        CHANGE,
    ),
    least=1,
    most=2,
)

VERBS: dict[str, Verb] = {
    verb.command.name: verb.with_examples.with_json
    for verb in (
        Verb(
            Command(
                "ps",
                "",
                "List this notebook's containers and all named ones.",
                (
                    Option(("-q", "--quiet"), "", "show the names alone"),
                    Option(("-a", "--all"), "", "accepted, as in Docker: stopped containers are always listed"),
                ),
            ),
            _ps,
        ),
        *IMAGE_VERBS,
        Verb(
            Command("export", "CONTAINER|IMAGE", "Write a merged root file system tar.", (_OUTPUT,), least=1, most=1),
            _export,
        ),
        Verb(COMMIT, _commit),
        Verb(
            Command(
                "rm",
                "CONTAINER...",
                "Remove containers; named volumes stay.",
                (
                    Option(
                        ("-f", "--force"),
                        "",
                        "stop it if it runs, drop changes to volumes that are not applied, ignore missing containers",
                    ),
                    Option(("-v", "--volumes"), "", "accepted, as in Docker: its own volumes are always removed"),
                ),
                least=1,
                most=999,
            ),
            _rm,
        ),
        Verb(
            Command("rename", "CONTAINER NEW", "Give a container another name; it must not run.", least=2, most=2),
            _rename,
        ),
        *ENDING_VERBS,
        DIFF,
        *JOB_VERBS,
        *USAGE_VERBS,
        CP,
        *HISTORY_VERBS,
        *VOLUME_CHANGE_VERBS,
        Verb(
            Command(
                "inspect",
                "[CONTAINER|IMAGE|VOLUME...]",
                "Show all details, as JSON.",
                (Option(("-f", "--format"), "PATH.TO.FIELD", "show one value, as in -f Config.Env"),),
                most=999,
            ),
            _inspect,
        ),
        EXPLAIN,
        LAYERS,
        MOUNTS,
        NAMESPACES,
        VOLUME,
        CACHE,
        Verb(Command("prune", "", "Remove data that no image and no container uses, and undone states."), _prune),
        Verb(
            Command(
                "doctor",
                "",
                "Check what the host supports, and show how to fix the rest.",
                (
                    Option(
                        ("--apparmor-profile",), "", "show a profile that allows cells to plain users on Ubuntu 24.04"
                    ),
                ),
            ),
            _doctor,
        ),
    )
}


TERMINAL_VERBS = {name: verb for name, verb in VERBS.items() if verb.in_terminal}
"""The verbs of a terminal: a job belongs to the process that started it."""


def overview(prefix: str, verbs: Mapping[str, Verb] = VERBS) -> str:
    """Return verbs, one a line."""
    commands = [verb.command for verb in verbs.values()]
    width = max(len(command.usage) for command in commands)
    return "\n".join(f"  {prefix}{command.usage:<{width}}  {command.help}" for command in commands)


NEXT = "next: write `%%container busybox` above the script of a cell; `%container VERB --help` shows a verb's options"


def in_groups(prefix: str, *more: Command) -> str:
    """Return the verbs in groups, one a line, and what to do next. `more` are verbs of the caller's own."""
    commands = {command.name: command for command in (*more, *(verb.command for verb in VERBS.values()))}
    width = max(len(name) for name in commands)
    lines = []
    for group, names in grouped([*commands]).items():
        lines += [f"{group}:", *(f"  {prefix}{name:<{width}}  {_first(commands[name].help)}" for name in names), ""]
    return "\n".join((*lines, NEXT))


def _first(text: str) -> str:
    """Return the first sentence of a help text."""
    return text.partition(". ")[0].partition("; ")[0].removesuffix(".")


def unknown(verb: str, program: str = "%container", verbs: Iterable[str] = (*VERBS, "run")) -> NbcontainerError:
    """Return the error for a verb that a program, `%container` or `nbcontainer`, does not have; `verbs` are its own."""
    if verb in VERBS:
        hint = "use it in the notebook that started the job"
        return UsageError(f"{verb!r} works only in a notebook", hint=hint)
    if answer := VERB_ANSWERS.get(verb):
        return UsageError(f"unsupported verb {verb!r}: {answer.problem}", hint=answer.hint)
    near = similar(verb, verbs)
    more = f"to run an image of that name, write `{program} run {verb}`"
    hint = f"did you mean {near}; see `{program} --help`" if near else f"see `{program} --help`; {more}"
    return UsageError(f"unknown verb {verb!r}", hint=hint)
