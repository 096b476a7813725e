"""An image with this machine's own Python in it, and cells of it that run a test's functions as attackers."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers import run
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.options import run_options
from nbcontainer.images.builtin import busybox
from nbcontainer.linux.syscalls import NUMBERS
from nbcontainer.sandbox import plan
from tests.attacks import inside
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.plan import PlanTemplate
    from nbcontainer.sandbox.spec import Directory, Overlay
    from nbcontainer.sandbox.steps.base import Plan, Step

PYTHON = "/usr/bin/python3"

_LISTING = """
for module in list(sys.modules.values()):
    for name in ("__file__", "__cached__"):
        if place := getattr(module, name, None):
            print(place)
"""


@dataclasses.dataclass(frozen=True)
class Node:
    """One entry of an image: a file's content, a link's target, a pipe, or none of them for a directory."""

    content: bytes | None = None
    link: str = ""
    fifo: bool = False
    mode: int = 0o755
    mtime: int = 0


def python_nodes(program: str = "") -> dict[str, Node]:
    """This test's Python as /usr/bin/python3: what it is, what attacks import, and the libraries of all that.

    What a `program` imports is added.
    """
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    listing = f"{inspect.getsource(inside)}\n__name__ = 'not to be run'\n{program}\n{_LISTING}"
    said = subprocess.run([base, "-I", "-c", listing], capture_output=True, text=True, check=True).stdout
    library_path = Path(sysconfig.get_path("stdlib"))
    home = f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    files = [Path(line) for line in said.splitlines() if Path(line).is_file() and library_path in Path(line).parents]
    placed = {f"{home}/{file.relative_to(library_path)}": file for file in files}
    placed[PYTHON.lstrip("/")] = base
    for loaded in _libraries([base, *(file for file in files if file.suffix == ".so")]):
        usual = loaded.parts[1] in ("lib", "lib64", "usr")
        placed[str(loaded).lstrip("/") if usual else f"usr/lib/{loaded.name}"] = loaded
    return {name: _copy(path) for name, path in placed.items()}


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """The libraries that programs are linked to, by the names that the loader looks for (ldd(1))."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", said)}


def _copy(path: Path) -> Node:
    facts = path.stat()
    return Node(path.read_bytes(), mode=facts.st_mode & 0o777, mtime=int(facts.st_mtime))


def archive(nodes: Mapping[str, Node]) -> bytes:
    """A tar of a root file system with these entries; the directories above them come first."""
    out = io.BytesIO()
    parents = {str(parent): Node() for name in nodes for parent in Path(name).parents if str(parent) != "."}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, node in sorted({**parents, **nodes}.items()):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = node.mode, node.mtime
            if node.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, node.link
            elif node.fifo:
                entry.type = tarfile.FIFOTYPE
            elif node.content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(node.content)
            tar.addfile(entry, io.BytesIO(node.content or b""))
    return out.getvalue()


def busybox_nodes() -> dict[str, Node]:
    """The busybox image's entries, for an image with something else beside them."""
    with tarfile.open(fileobj=io.BytesIO(busybox.busybox()[0])) as tar:
        found = {}
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() else None
            found[entry.name] = Node(content.read() if content else None, entry.linkname, mode=entry.mode)
        return found


def attack_script(function: Callable[..., object], arguments: tuple[object, ...]) -> str:
    """A cell's body that calls `function`, the source of which is all that is taken of the test, and reports."""
    lines = [
        f"#!{PYTHON} -I",
        inspect.getsource(inside),
        f"NUMBERS.update({NUMBERS[os.uname().machine]!r})",
        inspect.getsource(function),
        f"report({function.__name__}(*{arguments!r}))",
    ]
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A cell that attacked: how it ended, and all it wrote."""

    outcome: Outcome
    stdout: bytes
    stderr: bytes

    @property
    def answer(self) -> Any:
        """What the attack returned."""
        assert self.outcome.ok, self.stderr.decode()
        return json.loads(self.stdout.splitlines()[-1])


class Attacker:
    """Runs attacks on an engine. `without` are classes of steps that the plan is run without, to show what they do;

    `change` makes another step of one where they cannot just be left out.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self._build = plan.PlanTemplate.on
        self.busybox = busybox_nodes()
        self.nodes = self.busybox | python_nodes()
        self.image = self.image_of("attacker", {})

    def image_of(self, name: str, nodes: Mapping[str, Node], *, python: bool = True) -> str:
        """An image of the attacker's, with these entries besides or instead: the path of its tar (host)."""
        path = self.folder / f"{name}.tar"
        content = archive((self.nodes if python else self.busybox) | dict(nodes))
        if not path.exists() or path.read_bytes() != content:  # the same file is unpacked once
            path.write_bytes(content)
        return str(path)

    def __call__(
        self,
        function: Callable[..., object],
        *arguments: object,
        without: tuple[type[Step], ...] = (),
        change: Callable[[Step], Step] = lambda step: step,
        image: str = "",
        **options: Any,
    ) -> Any:
        """What the attack returned. `options` are fields of `run_options`."""
        script = attack_script(function, arguments)
        return self.run(script, without=without, change=change, image=image, **options).answer

    @contextlib.contextmanager
    def meanwhile(self, function: Callable[..., object], *arguments: object, **options: Any) -> Iterator[list[Any]]:
        """Runs an attack in another thread, from the "ready" that it writes to the end of the block: its input ends.

        Gives a list that has the attack's answer afterwards.
        """
        ready, answers = threading.Event(), list[Any]()
        read, write = os.pipe()

        def note(data: bytes) -> None:
            if b"ready" in data:
                ready.set()

        def run() -> None:
            try:
                answers.append(self(function, *arguments, remove=True, stdin=read, on_output=note, **options))
            finally:
                ready.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert ready.wait(DEADLINE)
            yield answers
        finally:
            os.close(write)
            thread.join(DEADLINE)
            os.close(read)

    def run(
        self,
        script: str | None,
        *,
        command: tuple[str, ...] = (),
        without: tuple[type[Step], ...] = (),
        change: Callable[[Step], Step] = lambda step: step,
        image: str = "",
        remove: bool = False,
        stdin: int | None = None,
        on_output: Callable[[bytes], None] = lambda _: None,
        **options: Any,
    ) -> Attacked:
        """Runs a cell to its end. With `remove`, its container is not kept as the last one, so that two may run.

        The cell reads the descriptor `stdin`. `on_output` gets what it writes, too.
        """

        def build(template: PlanTemplate, root: Overlay | Directory, name: str = "") -> Plan:
            whole = self._build(template, root, name)
            kept = [
                tuple(change(step) for step in part if type(step) not in without)
                for part in (whole.prepare, whole.setup, whole.enter)
            ]
            return dataclasses.replace(whole, prepare=kept[0], setup=kept[1], enter=kept[2])

        out: list[bytes] = []
        err: list[bytes] = []

        def note(data: bytes) -> None:
            out.append(data)
            on_output(data)

        request = Request(image or self.image, "", command, script, remove, run_options(options))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan.PlanTemplate, "on", build)
            # A container made ahead has an upper that another plan's cannot mount as well.
            patch.setattr(self.engine, "prewarm", lambda *_, **__: None)
            _, outcome = run.run(self.engine, request, Streams(note, err.append, stdin))
        return Attacked(outcome, b"".join(out), b"".join(err))
