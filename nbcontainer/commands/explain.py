"""The verb `explain`: what would be done for a run, without running it."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb
from nbcontainer.commands.docker_answers import RUN_ANSWERS
from nbcontainer.commands.explanation_view import ExplanationView
from nbcontainer.commands.grammar import Command, Option, ValueKind
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.run import request_of
from nbcontainer.containers.preview.plans import plan_of
from nbcontainer.errors import UsageError
from nbcontainer.images import sandboxed
from nbcontainer.images.layers import listing
from nbcontainer.linux.files import read_text
from nbcontainer.linux.process import counts_by_namespace
from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.sandbox.explanation import explain_plan
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.step_failure import FailedStep
from nbcontainer.sandbox.steps.base import Language
from nbcontainer.sandbox.steps.copy_on_write import MountCopyOnWrite
from nbcontainer.sandbox.steps.devices import DEVICES, MASKED, READ_ONLY
from nbcontainer.sandbox.steps.network import RESOLVER
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rootfs import ROOT, STAGE
from nbcontainer.sandbox.steps.volumes import BindVolume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbcontainer.commands.command import Invocation
    from nbcontainer.containers.engine import Engine
    from nbcontainer.sandbox.steps.base import Plan

_FILE = stat.S_IFREG | 0o444
_USERS = ("/etc/passwd", "/etc/group")
_LARGEST = 1 << 20
"""Bytes of a file with users that is read, as in a run."""

LANGUAGE = Option(
    ("--language",),
    "en|zh",
    "explain in English or in Chinese",
    kind=ValueKind.CHOICE,
    choices=tuple(Language),
)


def language_of(word: str) -> Language:
    """Return the language of a word; English for an empty one. Raises `UsageError`."""
    try:
        return Language(word or Language.ENGLISH)
    except ValueError:
        raise UsageError(f"invalid language '{word}'", hint="write en or zh") from None


def _explain(call: Invocation) -> ExplanationView:
    words = call.words
    request = request_of(words, script=None if words.tail else "")
    if not request.image and not request.name:
        raise UsageError("explain: missing image", hint="name one, as in `explain busybox`")
    language = language_of(words.one(LANGUAGE.name))
    plan, ahead = plan_of(call.engine, request, call.listener)
    try:
        return ExplanationView(explain_plan(plan, machine_like(call.engine, plan), ahead), language)
    except FailedStep as error:  # the run would fail with the same one
        raise setup_failed(error.failure) from error


EXPLAIN = Verb(
    Command(
        "explain",
        "IMAGE [COMMAND [ARG...]]",
        "Show what is done for a run, without running it: each step, its system calls and its purpose.",
        (LANGUAGE, *options_without("explain")),
        most=1,
        tail=True,
        answers=RUN_ANSWERS,
    ),
    _explain,
)


def machine_like(engine: Engine, plan: Plan) -> RecordingKernel:
    """Return a kernel that only records, with what a plan finds on this machine and in its image.

    That is the devices and settings, the sources of volumes, the image's users and where its program is.
    """
    nodes = dict(_nodes())
    missing = tuple(f"{STAGE}/{path}" for path in _hidden_paths() if not Path(f"/{path}").exists())
    devices = {f"/dev/{name}": numbers for name, numbers in DEVICES.items()}
    volumes = [step for step in plan if isinstance(step, (BindVolume, MountCopyOnWrite))]
    inodes = {volume.source: (volume.device, volume.inode) for volume in volumes}
    files = [volume for volume in volumes if isinstance(volume, BindVolume) and not volume.directory]
    mounted = [RESOLVER, *(volume.target for volume in files), *(volume.source for volume in files)]
    nodes |= {place: _FILE for path in mounted for place in (path, f"{ROOT}{path}")}
    kernel = RecordingKernel(
        nodes=nodes,
        devices=devices,
        missing=missing,
        inodes=inodes,
        texts=_users(engine, plan),
        getrlimit=resource.getrlimit,
        counts_by_namespace=counts_by_namespace,
    )
    kernel.missing |= set(_missing_programs(engine, plan))
    return kernel


def _nodes() -> Iterator[tuple[str, int]]:
    """Yield paths on the stage with their modes: what this machine has of the paths that are hidden or protected."""
    for path in _hidden_paths():
        for one in (Path(f"/{path}"), Path(f"/{path}").parent):
            if one.exists():
                yield f"{STAGE}{one}", stat.S_IFDIR | 0o755 if one.is_dir() else _FILE


def _hidden_paths() -> Iterator[str]:
    """Yield the paths that are hidden or protected; a `*` is the rest of each name that this machine has there."""
    for path in (*READ_ONLY, *MASKED):
        before, star, after = path.partition("*")
        for one in Path("/").glob(f"{before}*") if star else ():
            yield f"{str(one).lstrip('/')}{after}"
        if not star:
            yield path


def _users(engine: Engine, plan: Plan) -> dict[str, str]:
    """Return the texts of the files with the image's users and groups, as far as they are texts."""
    lowers, shows_host = _root(plan)
    if shows_host:
        return {path: read_text(path) for path in _USERS}
    found = engine.on_layers(sandboxed.texts_of, lowers, paths=list(_USERS), limit=_LARGEST, total=_LARGEST)
    return {path: text for path, (text, _) in found.items()}


def _root(plan: Plan) -> tuple[tuple[str, ...], bool]:
    """Return the layers of a plan's root, the topmost first, and whether it shows this machine's own directories."""
    overlays = [step for step in plan if isinstance(step, MountOverlay)]
    overlay = next(step for step in overlays if step.target == "/")
    lowers = tuple(lower.removesuffix("/diff") for lower in overlay.lowers if lower.endswith("/diff"))
    return lowers, len(overlays) > 1 or not lowers


def _missing_programs(engine: Engine, plan: Plan) -> Iterator[str]:
    """Yield the places in PATH, before the first that has the program, in the layers of the plan's root."""
    execute = plan.steps[-1]
    assert isinstance(execute, Execute)
    program, path = execute.argv[0], dict(item.partition("=")[::2] for item in execute.env).get("PATH", "")
    if "/" in program:
        return
    lowers, shows_host = _root(plan)
    for place in (f"{folder}/{program}" for folder in path.split(":")):
        if _has(engine, lowers, place) or (shows_host and os.path.lexists(place)):
            return
        yield place


def _has(engine: Engine, lowers: Sequence[str], place: str) -> bool:
    folder, _, name = place.rpartition("/")
    return bool(lowers) and name in listing.directory(engine.store.path / "layers", list(lowers), folder)
