"""The verb `explain`: what would be done for a run, without running it."""

from __future__ import annotations

import os
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
from nbcontainer.images.layers import listing
from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.sandbox.explanation import explain_plan
from nbcontainer.sandbox.steps.base import Language
from nbcontainer.sandbox.steps.devices import DEVICES, MASKED, READ_ONLY
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rootfs import STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.commands.command import Invocation
    from nbcontainer.containers.engine import Engine
    from nbcontainer.sandbox.steps.base import Plan

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
    return ExplanationView(explain_plan(plan, machine_like(call.engine, plan), ahead), language)


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
    """Return a kernel that only records, with the devices and settings of this machine and the image's programs."""
    nodes = dict(_nodes())
    missing = tuple(
        f"{STAGE}/{path}" for path in (*READ_ONLY, *MASKED) if "*" not in path and not Path(f"/{path}").exists()
    )
    devices = {f"/dev/{name}": numbers for name, numbers in DEVICES.items()}
    kernel = RecordingKernel(nodes=nodes, devices=devices, missing=missing)
    kernel.missing |= set(_missing_programs(engine, plan))
    return kernel


def _nodes() -> Iterator[tuple[str, int]]:
    """Yield paths on the stage with their modes: what this machine has of the paths that are hidden or protected."""
    for path in (*READ_ONLY, *MASKED):
        before, star, _ = path.partition("*")
        found = [Path(f"/{path}")] if not star else Path(f"/{before}").parent.glob(f"{Path(before).name}*")
        for one in found:
            if one.exists():
                kind = stat.S_IFDIR | 0o755 if one.is_dir() else stat.S_IFREG | 0o444
                yield f"{STAGE}{one}", kind


def _missing_programs(engine: Engine, plan: Plan) -> Iterator[str]:
    """Yield the places in PATH, before the first that has the program, in the layers of the plan's root."""
    execute = plan.steps[-1]
    assert isinstance(execute, Execute)
    program, path = execute.argv[0], dict(item.partition("=")[::2] for item in execute.env).get("PATH", "")
    if "/" in program:
        return
    places = [f"{folder}/{program}" for folder in path.split(":")]
    overlay = next(step for step in plan if isinstance(step, MountOverlay) and step.target == "/")
    lowers = [lower.removesuffix("/diff") for lower in overlay.lowers if lower.endswith("/diff")]
    for place in places:
        if _has(engine, lowers, place):
            return
        yield place


def _has(engine: Engine, lowers: list[str], place: str) -> bool:
    folder, _, name = place.rpartition("/")
    if not lowers:  # the machine's own files
        return os.path.lexists(place)
    return name in listing.directory(engine.store.path / "layers", lowers, folder)
