"""Hints: what a cell lacks or loses by design, and how to have it. At most one of each kind in a notebook.

Hints are made of what this process and the kernel report: the request, the files beside the notebook, counters of the
container's network namespace, and the files of its layer. The output of a container is never searched.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.images.builtin import host
from nbcontainer.notebook import hint_words
from nbcontainer.notebook.layer_files import LayerTree
from nbcontainer.sandbox.networking import Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.notebook.layer_files import LayerFiles

_CELLS_KEPT = 50  # earlier cells whose files are remembered


class Kind(enum.StrEnum):
    """The kinds of hints."""

    NETWORK = "network"
    LOOPBACK = "loopback"
    BESIDE = "beside"
    HOME = "home"
    EARLIER = "earlier"
    IDENTITY = "identity"
    PING = "ping"
    VARIABLE = "variable"
    PROCESSES = "processes"
    WRITTEN = "written"
    WORKDIR = "workdir"
    NEGATION = "negation"


@dataclass(frozen=True)
class CellFacts:
    """One run, for hints: its request, its container (None if it did not start), and what init reported of its end.

    `failed` is whether the cell failed by itself: not by an interrupt and not by a limit.
    """

    request: Request
    container: Container | None = None
    failed: bool = False
    ended: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        """The id of the layer that this cell left; empty if it changed nothing."""
        last = self.container.record.last if self.container is not None else None
        return last.layer if last is not None else ""

    @property
    def body(self) -> str:
        """The text of the cell, or its command."""
        request = self.request
        return " ".join((*request.command, request.script or "")) if request.command else request.script or ""


class Hints:
    """The hints of one notebook: which were given, and which files earlier cells left."""

    def __init__(self) -> None:
        self._given: set[Kind] = set()
        self._earlier: dict[str, list[LayerFiles]] = {}

    def after(self, cell: CellFacts) -> list[str]:
        """Return the new hints after a cell, one line each."""
        if not (cell.failed or (cell.ended and cell.ended.get("killed")) or cell.layer or "$" in cell.body):
            return []
        return [text for kind, text in self._found(cell) if self._is_new(kind)]

    def after_shell_cell(self, request: Request, code: str, counters: Mapping[str, int]) -> list[str]:
        """Return the new hints after a failed cell of a kernel's shell, whose container has these `counters`."""
        found = [*network_hints(request, counters, "kernel install ")]
        if hint_words.has_negation(code):
            found.append((Kind.NEGATION, "`! command` is the shell's negation: write `!command`, or just the command"))
        return [text for kind, text in found if self._is_new(kind)]

    def _is_new(self, kind: Kind) -> bool:
        new = kind not in self._given
        self._given.add(kind)
        return new

    def _found(self, cell: CellFacts) -> Iterator[tuple[Kind, str]]:
        if cell.ended.get("killed"):
            yield Kind.PROCESSES, _processes(int(cell.ended["killed"]))
        if Kind.VARIABLE not in self._given and (text := _variable(cell)):
            yield Kind.VARIABLE, text
        if cell.failed:
            yield from self._of_failure(cell)
        if cell.layer:
            yield from self._of_layer(cell)

    def _of_failure(self, cell: CellFacts) -> Iterator[tuple[Kind, str]]:
        yield from network_hints(cell.request, cell.ended)
        words = hint_words.words(cell.body)
        if text := beside(cell.request, words):
            yield Kind.BESIDE, text
        elif text := in_home(cell.request, words):  # notebooks are mostly in the home directory
            yield Kind.HOME, text
        if cell.ended and "NET_RAW" not in cell.request.options.privileges.capabilities and hint_words.pings(cell.body):
            yield Kind.PING, "some `ping` programs, such as busybox's, need a raw socket: `--cap-add NET_RAW` allows it"
        if cell.request.options.identity is None and hint_words.needs_identity(cell.body):
            yield (
                Kind.IDENTITY,
                "git in a container does not have your name and e-mail address: `--identity` gives them",
            )
        if text := self._in_earlier(cell, words):
            yield Kind.EARLIER, text

    def _in_earlier(self, cell: CellFacts, words: list[str]) -> str:
        """Return a hint if a word names a file that an earlier anonymous cell of the same image wrote."""
        if cell.container is None or not cell.container.anonymous:
            return ""
        for files in reversed(self._earlier.get(cell.container.record.image_digest, ())):
            for word in words:
                if files.have(word):
                    return (
                        f"an earlier cell wrote '{word}', and its container is replaced: give both cells the same "
                        "`--name NAME` to keep files from cell to cell"
                    )
        return ""

    def _of_layer(self, cell: CellFacts) -> Iterator[tuple[Kind, str]]:
        container = cell.container
        assert container is not None
        tree = _tree(container, cell.layer)
        workdir = cell.request.options.process.workdir
        if workdir and tree.is_new_directory(workdir) and (text := _workdir(cell.request, workdir)):
            yield Kind.WORKDIR, text
        if not container.anonymous or cell.request.remove:
            return
        files = tree.files()
        if files.count:
            yield Kind.WRITTEN, _written(files)
        kept = self._earlier.setdefault(container.record.image_digest, [])
        kept.append(files)
        del kept[:-_CELLS_KEPT]


def _tree(container: Container, layer: str) -> LayerTree:
    store = container.workspace.store
    layers = store.path / "layers"
    lowers = container.seen
    on_machine = bool(host.directories(store, lowers[-1]))
    return LayerTree(
        layers / layer / "diff", None if on_machine else tuple(layers / lower / "diff" for lower in lowers)
    )


def network_hints(request: Request, counters: Mapping[str, Any], verb: str = "") -> Iterator[tuple[Kind, str]]:
    """Yield hints from the counters of the namespace (`nbcontainer.linux.procfs.unreached`) of a failed cell.

    `verb` is what the options belong to, if that is not the cell.
    """
    network = request.options.networking.network
    if network == Network.HOST:
        return
    if network == Network.NONE and (counters.get("no_route") or counters.get("no_port")):
        yield Kind.NETWORK, f"the container has no network: `{verb}--network private` lets it reach other machines"
    elif counters.get("refused"):
        text = f"127.0.0.1 is the container itself: `{verb}--network host` lets it reach servers of the host"
        yield Kind.LOOPBACK, text


def beside(request: Request, words: list[str]) -> str:
    """Return a hint if a word names a file beside the notebook, whose directory the container does not have."""
    if request.options.here:
        return ""
    here = hint_words.working_directory()
    if not here or _is_shown(request, here):
        return ""
    found = hint_words.beside(here, words)
    return f"'{found}' is beside the notebook, in a directory that the cell does not see: `--here` shows it" * bool(
        found
    )


def in_home(request: Request, words: list[str]) -> str:
    """Return a hint if a word names a file of the user's home directory, which containers do not have."""
    found = hint_words.in_home(words)
    if not found or _is_shown(request, os.path.realpath(os.path.expanduser(found))):  # noqa: PTH111
        return ""
    return f"'{found}' is in your home directory, which containers do not see: `-v {found}:{found}:ro` shows it"


def _is_shown(request: Request, path: str) -> bool:
    """Return whether a volume shows a path (host)."""
    return any(f"{path}/".startswith(f"{one.source.rstrip('/')}/") for one in request.options.mounts.volumes)


def _variable(cell: CellFacts) -> str:
    name = hint_words.notebook_variable(cell.body, _names(cell.request.options.process.env))
    if name and cell.container is not None and name in _names(cell.container.image().config.env):
        return ""
    return f"the cell has no variable {name}, which the notebook has: `-e {name}` passes it on" if name else ""


def _names(env: Iterable[str]) -> set[str]:
    return {item.partition("=")[0] for item in env}


def _processes(count: int) -> str:
    which = (
        "1 process was still running when the cell ended, and was"
        if count == 1
        else (f"{count} processes were still running when the cell ended, and were")
    )
    return f"{which} ended with it: let the cell `wait` for them, or use them in the same cell"


def _written(files: LayerFiles) -> str:
    if files.count == 1:
        return "this cell wrote 1 file; the next anonymous cell replaces it: `%commit` or `--name` keeps it"
    many = f"more than {files.count:,}" if files.more else f"{files.count:,}"
    return f"this cell wrote {many} files; the next anonymous cell replaces them: `%commit` or `--name` keeps them"


def _workdir(request: Request, workdir: str) -> str:
    """Return a hint if a working directory that the container lacked exists on the host."""
    if not Path(workdir).is_dir() or _is_shown(request, workdir):
        return ""
    way = "--here" if workdir == hint_words.working_directory() else f"-v {workdir}:{workdir}"
    return f"'{workdir}' exists on the host only, and the cell ran in an empty directory: `{way}` shows it"
