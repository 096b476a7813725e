"""`%container volume create|ls|inspect|rm|prune`: the volumes of the store."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count, group
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.several import raise_first, tried
from nbcontainer.commands.views import Document, Lines, Note, VolumeRow, listings
from nbcontainer.containers import named_volumes as volumes
from nbcontainer.errors import UsageError, VolumeNotFound

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View


def _create(call: Invocation) -> View:
    if (driver := call.words.one("driver", "local")) != "local":
        raise UsageError(
            f"unsupported volume driver '{driver}'", hint="remove it: volumes are directories of the store"
        )
    labels = {}
    for text in call.words.all("label"):
        name, _, value = text.partition("=")
        if not name:
            raise UsageError(f"invalid label {text!r}", hint="write NAME=value, or NAME")
        labels[name] = value
    name = call.words.operands[0] if call.words.operands else secrets.token_hex(16)
    return Note(volumes.create(call.engine, name, labels).name)


def _ls(call: Invocation) -> View:
    found = volumes.list_all(call.engine)
    if call.words.has("quiet"):
        return Lines(tuple(volume.name for volume in found))
    rows = [VolumeRow(volume.name, volumes.in_use(volume), volume.created, dict(volume.labels)) for volume in found]
    return listings.volume_list(rows)


def _inspect(call: Invocation) -> View:
    found = [volumes.get(call.engine, name).as_dict() for name in call.words.operands]
    return Document(found[0] if len(found) == 1 else found)


def _rm(call: Invocation) -> View:
    done, errors = tried(call.words.operands, lambda name: volumes.remove(call.engine, name))
    removed = f"removed {', '.join(name for name, _ in done)}" if done else ""
    if call.words.has("force"):
        errors = [error for error in errors if not isinstance(error, VolumeNotFound)]
    raise_first(errors, removed)
    return Note(removed or "nothing to remove")


def _prune(call: Invocation) -> View:
    removed = volumes.prune(call.engine, caches=not call.words.has("all"))
    if not removed and not call.words.has("all"):
        return Note("removed 0 volumes: named volumes stay without --all, and others end with their containers")
    return Note(f"removed {count(len(removed), 'volume')}" + (f": {', '.join(removed)}" if removed else ""))


_FORCE = Option(("-f", "--force"), "", "accepted, as in Docker: no confirmation is asked for")

VOLUME = group(
    "volume",
    "[ARG...]",
    "Make, list, show and remove named volumes (-v NAME:DST).",
    (
        Verb(
            Command(
                "volume create",
                "[NAME]",
                "Make a volume, with a random name if none is given.",
                (
                    Option(("--label",), "NAME[=VALUE]", "label the volume"),
                    Option(("-d", "--driver"), "local", "accepted, as in Docker"),
                ),
                most=1,
            ),
            _create,
        ),
        Verb(
            Command("volume ls", "", "List volumes.", (Option(("-q", "--quiet"), "", "show the names alone"),)),
            _ls,
        ),
        Verb(Command("volume inspect", "NAME...", "Show volumes as JSON.", least=1, most=999), _inspect),
        Verb(
            Command(
                "volume rm",
                "NAME...",
                "Remove volumes with their files, unless a cell uses them.",
                (Option(("-f", "--force"), "", "ignore volumes that do not exist"),),
                least=1,
                most=999,
            ),
            _rm,
        ),
        Verb(
            Command(
                "volume prune",
                "",
                "Remove caches (--cache-dir) that no cell uses.",
                (Option(("-a", "--all"), "", "remove named volumes, too"), _FORCE),
            ),
            _prune,
        ),
    ),
    aliases={"list": "ls", "remove": "rm"},
)
