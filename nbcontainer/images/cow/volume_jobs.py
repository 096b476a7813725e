"""The functions that run inside a sandbox for copy-on-write volumes (see `nbcontainer.images.sandboxed`).

Their descriptors are the host's directory, and the layers' directories from the bottom up. The owners are those of the
container: the directory's mount, or the user namespace, translates them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any, TypedDict

from nbcontainer.images.cow import (
    attributes,
    before,
    below,
    comparing,
    merged,
    placing,
    recovering,
    restored_layer,
    texts,
    two_views,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[int], None]


def note(files: Sequence[int], _: Progress) -> dict[str, list[int] | None]:
    """Return what the host's directory files[0] has at each path that the layer files[1] changes."""
    found: dict[str, list[int] | None] = {}
    for path in merged.merge(files[1:]):
        try:
            facts = below.look(files[0], path)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EACCES):
                raise
            continue
        found[os.fsdecode(path)] = None if facts is None else list(_noted(files[0], path, before.Before.of(facts)))
    return found


def _noted(tree: int, path: bytes, facts: before.Before) -> before.Before:
    """Return the facts of a path, with the attributes of a directory."""
    if facts.is_directory:
        with contextlib.suppress(OSError), below.opened(tree, path, below.DIRECTORY) as folder:
            return facts._replace(attributes=attributes.mark(attributes.kept(folder)))
    return facts


def missing(files: Sequence[int], _: Progress, *, paths: list[str]) -> list[str]:
    """Return those of `paths` (absolute, in the host's directory files[0]) that are not directories there."""
    return [path for path in paths if not below.is_directory(files[0], os.fsencode(path[1:]))]


class HostFacts(TypedDict):
    """The facts about a host's directory that the notebook has: JSON values. `View` has their meanings."""

    notes: list[Any]
    began: int
    mounts: list[str]
    moved_back: dict[str, list[int]]


_NO_FACTS = HostFacts(notes=[], began=0, mounts=[], moved_back={})


def _view(files: Sequence[int], facts: HostFacts) -> comparing.View:
    places = frozenset(os.fsencode(mount) for mount in facts["mounts"])
    entries, noted = merged.merge(files[1:]), before.decode(facts["notes"])
    own = {path: found for path, found in before.decode([facts["moved_back"]]).items() if found is not None}
    return comparing.View(files[0], files[1:], entries, noted, facts["began"], places, own)


def changes(files: Sequence[int], _: Progress, *, facts: HostFacts) -> dict[str, list[Any]]:
    """Return the `changes` as (kind, path, size), and the `conflicts` as (path, reason)."""
    view = _view(files, facts)
    return {
        "changes": [[kind, os.fsdecode(path), size] for kind, path, size in comparing.listed(view)],
        "conflicts": _conflicts(comparing.compare(view).conflicts),
    }


def check(files: Sequence[int], _: Progress, *, facts: HostFacts, force: bool) -> list[list[str]]:
    """Return the conflicts as (path, reason)."""
    return _conflicts(comparing.compare(_view(files, facts), force=force).conflicts)


def contents(files: Sequence[int], _: Progress, *, paths: list[str]) -> list[list[str | None]]:
    """Return (path, text on the host, text in the volume) of those of `paths` that are small text files."""
    entries = merged.merge(files[1:])
    found: list[list[str | None]] = []
    for path in map(os.fsencode, paths):
        pair = texts.both(files[0], files[1:], entries, path)
        if pair is not None:
            found.append([os.fsdecode(path), *pair])
    return found


def _sides(files: Sequence[int], numbers: Sequence[Sequence[int]]) -> tuple[two_views.Side, two_views.Side]:
    """Return two states on the host's directory files[0]; each is the numbers of its layers in files[1:]."""
    old, new = (two_views.Side(files[0], [files[1 + number] for number in side]) for side in numbers)
    return old, new


def differences(files: Sequence[int], _: Progress, *, sides: list[list[int]]) -> list[tuple[Any, ...]]:
    """Return (path, facts in the first state, facts in the second one) of what differs; see `two_views`."""
    return two_views.differences(files[0], *_sides(files, sides))


def two_texts(
    files: Sequence[int], _: Progress, *, sides: list[list[int]], paths: list[str], limit: int, total: int
) -> list[dict[str, tuple[str, str]]]:
    """Return the texts of small files of each state, by path; see `nbcontainer.images.comparison.small_files`."""
    names = [os.fsencode(path[1:]) for path in paths]
    return [side.texts(names, limit, total) for side in _sides(files, sides)]


def restore(
    files: Sequence[int],
    _: Progress,
    *,
    layers: list[str],
    sides: list[list[int]],
    target: str,
    paths: list[str],
) -> dict[str, Any]:
    """Fill the directory `target` as `restored_layer` does; `layers` and `target` are paths relative to the root.

    Return the paths that are `missing` in both states, and whether the new layer has `changes`.
    """
    os.umask(0)
    names = [os.fsencode(path[1:]) for path in paths]
    with contextlib.ExitStack() as stack:
        root = os.open("/", below.DIRECTORY)
        stack.callback(os.close, root)
        fds = [stack.enter_context(below.opened(root, os.fsencode(path), below.DIRECTORY)) for path in layers]
        made = stack.enter_context(below.opened(root, os.fsencode(target), below.DIRECTORY))
        restoring = restored_layer.Restoring(files[0], *_sides([files[0], *fds], sides))
        missing = [f"/{os.fsdecode(path)}" for path in restoring.missing(names)]
        return {"missing": missing, "changes": not missing and restoring.fill(names, made)}


def apply(files: Sequence[int], _: Progress, *, facts: HostFacts, token: str, force: bool) -> dict[str, Any]:
    """Write the changes; return how many were `written`, the `conflicts`, and how many attributes are `lost`.

    If it fails, `failed` has the error as (errno, path). `moved_back` has the facts of what was moved and moved back.
    `recover` is to be called afterwards.
    """
    os.umask(0)
    own: dict[bytes, before.Before] = {}
    view = _view(files, facts)
    failed = None
    try:
        found = placing.apply(view, token.encode(), force=force, stay=True, moved_back=own)
    except OSError as error:
        found, failed = placing.Applied(), [error.errno or 0, os.fsdecode(error.filename or "")]
    return {
        "written": found.written,
        "conflicts": _conflicts(found.conflicts),
        "lost": found.lost,
        "failed": failed,
        "moved_back": _facts(own),
    }


def recover(files: Sequence[int], _: Progress, *, token: str, done: bool = False) -> dict[str, Any]:
    """Remove the staging directory of an `apply`; unless that is `done`, move back what it has moved.

    Return the facts of what was `moved_back`, as `apply` does, and pairs of what is `left` (`recovering.Recovered`).
    """
    view = _view(files, _NO_FACTS)
    found = recovering.recover(view, placing.left_area(view, token.encode()), done=done)
    left = [[os.fsdecode(path), os.fsdecode(place)] for path, place in found.left]
    return {"moved_back": _facts(found.moved_back), "left": left}


def _facts(own: dict[bytes, before.Before]) -> dict[str, list[int]]:
    return {os.fsdecode(path): list(found) for path, found in own.items()}


def _conflicts(found: list[tuple[bytes, str]]) -> list[list[str]]:
    return [[os.fsdecode(path), reason] for path, reason in found]
