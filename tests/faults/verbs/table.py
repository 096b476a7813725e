"""The verbs that are killed: what each needs before, its arguments, and what must hold after."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ContainerNotFound, ImageNotFound, VolumeError
from nbcontainer.notebook.kernel.specs import kernelspec, whole_directories
from tests.faults.checks import Damaged
from tests.running import init_of, marker, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.record import Record

_SIZE = 150_000
"""Bytes of the file that each layer has."""

_LIVE = "echo live > /live; head -c 300000 /dev/urandom > /more"


@dataclass
class Bench:
    """A store in `folder` (host) with something for each verb, its engine, and a registry at `address`."""

    folder: Path
    address: str
    drop_pushed: Callable[[], object]
    engine: Engine = field(init=False)
    _cells: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.folder / "store")

    def verb(self, name: str, *words: str) -> str:
        """Do a verb in this process, and return what it shows."""
        shown = str(VERBS[name].run(Invocation(self.engine, parse(VERBS[name].command, self.filled(words)))))
        self.engine.background.wait()
        return shown

    def filled(self, words: tuple[str, ...]) -> list[str]:
        """Return words with this bench's places in them."""
        places = {"PLACE": str(self.folder), "REGISTRY": self.address}
        for short, text in places.items():
            words = tuple(word.replace(short, text) for word in words)
        return list(words)

    def has_image(self, name: str) -> bool:
        """Whether the store has an image of that name."""
        return name in self.engine.store.index.images()

    def record(self, name: str) -> Record | None:
        """Return the record of a container, None if it does not exist."""
        with contextlib.suppress(ContainerNotFound):
            return containers.get(self.engine, name).record
        return None

    def drop_image(self, name: str) -> None:
        """Remove an image's name, if it is there."""
        with contextlib.suppress(ImageNotFound):
            self.engine.store.index.drop_image(name)

    def drop_container(self, name: str) -> None:
        """Remove a container, if it is there."""
        with contextlib.suppress(ContainerNotFound):
            containers.get(self.engine, name).remove()

    def drop_volume(self, name: str) -> None:
        """Remove a volume, if it is there."""
        with contextlib.suppress(VolumeError):
            self.verb("volume", "rm", name)

    def layers(self, name: str, count: int) -> None:
        """Make a container of `count` cells that each left a layer; the same content each time."""
        self.drop_container(name)
        for number in range(count):
            script = f"seq {number} 9999999 | head -c {_SIZE} > /f{number}; rm -rf /d; mkdir /d; echo > /d/x"
            run_script(self.engine, script, name=name)

    def live(self, name: str) -> None:
        """Run a cell that does not end in the container of that name, unless it runs already."""
        if name in running_containers(self.engine.store):
            return
        mark = marker()
        script = f"{_LIVE}; exec sleep {mark}"
        cell = threading.Thread(target=run_script, args=(self.engine, script), kwargs={"name": name})
        cell.start()
        self._cells.append(cell)
        init_of(mark)

    def end_live(self, name: str) -> None:
        """End the cell that runs in a container, and remove the container."""
        self.verb("stop", "-t", "0", name)
        self.drop_container(name)

    def fill(self) -> None:
        """Make what is there before each round. Containers and images of the store are these, and no more."""
        for place in ("out", "jupyter", "run"):
            (self.folder / place).mkdir(exist_ok=True)
        with tarfile.open(self.folder / "tree.tar", "w") as tar:
            for number in range(30):
                entry = tarfile.TarInfo(f"folder/file{number}")
                entry.size = 5000
                tar.addfile(entry, io.BytesIO(os.urandom(5000)))
        self.layers("away", 3)
        self.verb("commit", "away", "away")
        self.verb("push", "away", "REGISTRY/away")
        self.verb("save", "away", "-o", "PLACE/away.tar")
        self.drop_image("away")
        self.drop_container("away")
        run_script(self.engine, "head -c 100000 /dev/urandom > /first; rm -rf /etc", name="box")
        run_script(self.engine, "head -c 100000 /dev/urandom > /second; rm /first", name="box")
        self.verb("commit", "box", "base")
        self.live("live")
        self.verb("prune")

    def close(self) -> None:
        """End the cells and the engine."""
        for name in list(running_containers(self.engine.store)):
            self.verb("stop", "-t", "0", name)
        for cell in self._cells:
            cell.join()
        self.engine.close()


def _nothing(_: Bench) -> None:
    """Need nothing, check nothing, leave nothing."""


@dataclass(frozen=True)
class VerbAct:
    """One use of the program: `words` are its arguments.

    `ready` makes what it needs; `check` raises `Damaged` if what a killed one left is half done; `undo` removes the
    result, whether there is one or not. With `again` (the default) the same words must work after the kill: not for a
    verb whose work may be done already.
    """

    name: str
    words: tuple[str, ...]
    ready: Callable[[Bench], object] = _nothing
    check: Callable[[Bench], object] = _nothing
    undo: Callable[[Bench], object] = _nothing
    again: bool = True


def _runs(image: str, script: str, says: str) -> Callable[[Bench], object]:
    """Check that an image is not there, or runs and has what it should have."""

    def check(bench: Bench) -> None:
        if bench.has_image(image):
            said = run_script(bench.engine, script, image=image).text
            if said != says:
                raise Damaged(f"{image} says {said!r} in place of {says!r}")

    return check


def _whole(name: str, member: str) -> Callable[[Bench], object]:
    """Check that a file is not there, or is a complete tar with a member; and nothing is beside it."""

    def check(bench: Bench) -> None:
        path = bench.folder / "out" / name
        if path.exists():
            with tarfile.open(path) as tar:
                names = [entry.name.removeprefix("./") for entry in tar]
            if member not in names:
                raise Damaged(f"{name} has only {len(names)} members")
            path.unlink()

    return check


def cells(name: str, *counts: int) -> Callable[[Bench], object]:
    """Check that a container has one of these numbers of cells, 0 for no container, and runs."""

    def check(bench: Bench) -> None:
        record = bench.record(name)
        found = 0 if record is None else record.count
        if found not in counts:
            raise Damaged(f"container {name} has {found} cells")
        if record is not None:
            bench.verb("diff", name)

    return check


def _renamed(bench: Bench) -> None:
    """Check that a container has either its old or its new name, and all of its cells."""
    found = [record for name in ("old", "new") if (record := bench.record(name)) is not None]
    if [record.count for record in found] != [1]:
        raise Damaged(f"the container is there {len(found)} times")
    bench.verb("diff", found[0].name)


def _still_runs(bench: Bench) -> None:
    """Check that the running container goes on: its processes are not left stopped."""
    if "live" not in running_containers(bench.engine.store):
        raise Damaged("the running container has ended")
    if "live" not in bench.verb("diff", "live"):
        raise Damaged("the running container cannot be compared")


def _both(*checks: Callable[[Bench], object]) -> Callable[[Bench], object]:
    def check(bench: Bench) -> None:
        for one in checks:
            one(bench)

    return check


def _drop(*names: str) -> Callable[[Bench], object]:
    def drop(bench: Bench) -> None:
        for name in names:
            bench.drop_image(name)

    return drop


def _drop_files(bench: Bench) -> None:
    """Remove the images that the store has of files."""
    bench.engine.store.index.drop_images([name for name in bench.engine.store.index.images() if "file/" in name])


def gone(*names: str) -> Callable[[Bench], object]:
    def drop(bench: Bench) -> None:
        for name in names:
            bench.drop_container(name)

    return drop


def _load_away(bench: Bench) -> None:
    if not bench.has_image("away"):
        bench.verb("load", "PLACE/away.tar")


def _unreferenced(bench: Bench) -> None:
    _load_away(bench)
    bench.drop_image("away")


def _volume(bench: Bench) -> None:
    run_script(bench.engine, "echo > /f", name="with-volume")
    with contextlib.suppress(VolumeError):
        bench.verb("volume", "create", "vol")


def _unlink(name: str) -> Callable[[Bench], object]:
    return lambda bench: (bench.folder / "out" / name).unlink(missing_ok=True)


def _layout(bench: Bench) -> None:
    """Check that a layout directory has no file whose name says that it is not complete."""
    for path in (bench.folder / "out").rglob("*"):
        if path.is_file() and path.parent.name == "sha256" and path.stat().st_size == 0:
            raise Damaged(f"an empty blob: {path}")


def _kernels(bench: Bench) -> Iterator[Path]:
    yield from (bench.folder / "jupyter").glob("kernels/*")


def _kernel_whole(bench: Bench) -> None:
    for path in _kernels(bench):
        if not (path / "kernel.json").exists() and path.name == "faulty":
            raise Damaged("a kernelspec without kernel.json")


def _install_kernel(bench: Bench) -> None:
    path = bench.folder / "jupyter" / "kernels" / "faulty"
    path.mkdir(parents=True, exist_ok=True)
    (path / "kernel.json").write_text(json.dumps(kernelspec.document(["busybox"], "faulty")))


def _remove_kernels(bench: Bench) -> None:
    """The next installation removes what is left of one that was killed."""
    whole_directories.write(bench.folder / "jupyter" / "kernels" / "other", {"kernel.json": b"{}"}, "kernel.json")
    for path in _kernels(bench):
        if path.name not in ("faulty", "frozen", "other"):
            raise Damaged(f"left beside the kernels: {path.name}")
        shutil.rmtree(path)


_AWAY = _runs("away", "ls / | grep -c '^f[0-9]$'; tail -c 3 /f2 | wc -c", "3\n3")
_MADE = _runs("made", "ls /first /etc 2>/dev/null; cat /second | wc -c", "100000")
_PULLED = "REGISTRY/away"


def _pulled_name(bench: Bench) -> str:
    return f"{bench.address}/away"


def first_acts() -> tuple[VerbAct, ...]:
    """Return the uses of most verbs; those of the others are in `later_acts`."""
    return (
        VerbAct("commit", ("commit", "box", "made"), check=_MADE, undo=_drop("made")),
        VerbAct(
            "commit -o",
            ("commit", "-c", "CMD ls", "box", "made", "-o", "PLACE/out/made.tar.gz"),
            check=_both(_MADE, _whole("made.tar.gz", "second")),
            undo=_both(_drop("made"), _unlink("made.tar.gz")),
        ),
        VerbAct(
            "commit of a running one",
            ("commit", "live", "made"),
            check=_both(_still_runs, _runs("made", "cat /live", "live")),
            undo=_drop("made"),
        ),
        VerbAct(
            "rename",
            ("rename", "old", "new"),
            ready=lambda bench: run_script(bench.engine, "echo > /f", name="old"),
            check=_renamed,
            undo=gone("old", "new"),
            again=False,
        ),
        VerbAct("diff", ("diff", "box")),
        VerbAct("diff of a running one", ("diff", "live"), check=_still_runs),
        VerbAct(
            "export", ("export", "box", "-o", "PLACE/out/e.tar"), check=_whole("e.tar", "second"), undo=_unlink("e.tar")
        ),
        VerbAct(
            "export of a running one",
            ("export", "live", "-o", "PLACE/out/e.tar"),
            check=_both(_whole("e.tar", "live"), _still_runs),
            undo=_unlink("e.tar"),
        ),
        VerbAct(
            "save",
            ("save", "base", "busybox", "-o", "PLACE/out/s.tar"),
            check=_whole("s.tar", "index.json"),
            undo=_unlink("s.tar"),
        ),
        VerbAct(
            "save to a layout",
            ("save", "base", "-o", "PLACE/out/layout/"),
            check=_layout,
            undo=lambda bench: shutil.rmtree(bench.folder / "out" / "layout", ignore_errors=True),
        ),
        VerbAct(
            "undo",
            ("undo", "undoing"),
            ready=lambda bench: bench.layers("undoing", 2),
            check=cells("undoing", 1, 2),
            undo=gone("undoing"),
            again=False,
        ),
        VerbAct(
            "pull",
            ("pull", _PULLED),
            check=lambda bench: _runs(_pulled_name(bench), "ls / | grep -c '^f[0-9]$'", "3")(bench),
            undo=lambda bench: bench.drop_image(_pulled_name(bench)),
        ),
        VerbAct("push", ("push", "base", "REGISTRY/pushed:p"), ready=lambda bench: bench.drop_pushed()),
        VerbAct("load", ("load", "PLACE/away.tar"), check=_AWAY, undo=_drop("away")),
        VerbAct(
            "import",
            ("import", "-c", "CMD ls", "PLACE/tree.tar", "tree"),
            undo=_drop("tree"),
        ),
        VerbAct("tag", ("tag", "base", "made"), check=_MADE, undo=_drop("made")),
        VerbAct("rmi", ("rmi", "away"), ready=_load_away, check=_AWAY, undo=_drop("away"), again=False),
        VerbAct(
            "rm",
            ("rm", "removing"),
            ready=lambda bench: bench.layers("removing", 3),
            check=cells("removing", 0, 3),
            undo=gone("removing"),
            again=False,
        ),
        VerbAct(
            "rm -f",
            ("rm", "-f", "stopping"),
            ready=lambda bench: bench.live("stopping"),
            undo=lambda bench: bench.end_live("stopping") if bench.record("stopping") else None,
            again=False,
        ),
        VerbAct(
            "stop",
            ("stop", "-t", "0", "stopping"),
            ready=lambda bench: bench.live("stopping"),
            undo=lambda bench: bench.end_live("stopping"),
        ),
        VerbAct(
            "restore",
            ("restore", "restoring@1", "/f0", "/f1", "/d"),
            ready=lambda bench: bench.layers("restoring", 2),
            check=cells("restoring", 2, 3),
            undo=gone("restoring"),
            again=False,
        ),
        VerbAct("diff A B", ("diff", "busybox", "box", "--text")),
        VerbAct("prune", ("prune",), ready=_unreferenced),
        VerbAct("verify", ("verify",)),
        VerbAct("df", ("df",)),
        VerbAct("history", ("history", "box")),
        VerbAct("inspect", ("inspect", "base")),
        VerbAct(
            "run",
            ("run", "busybox", "sh", "-c", "echo x > /f; mkdir /d; rm -rf /etc"),
        ),
        VerbAct(
            "run --name",
            ("run", "--name", "running", "base", "sh", "-c", "head -c 100000 /dev/zero > /f; rm /second"),
            check=cells("running", 0, 1),
            undo=gone("running"),
            again=False,
        ),
        VerbAct(
            "run with all options",
            (
                *("run", "--rm", "-v", "vol:/v", "-v", "/anonymous", "-v", "PLACE:/place:ro", "--storage", "10m"),
                *("--tmpfs", "/t", "--hostname", "h", "busybox", "sh", "-c", "echo x > /v/f; echo x > /f"),
            ),
            undo=lambda bench: bench.drop_volume("vol"),
        ),
        VerbAct(
            "run in the image host",
            ("run", "host", "sh", "-c", "rm -rf /etc/passwd; echo > /usr/x; echo > /tmp/y"),
            undo=_drop("host"),
        ),
        VerbAct("volume create", ("volume", "create", "vol"), undo=lambda bench: bench.drop_volume("vol")),
        VerbAct(
            "volume rm",
            ("volume", "rm", "vol"),
            ready=lambda bench: bench.verb("volume", "create", "vol"),
            undo=lambda bench: bench.drop_volume("vol"),
            again=False,
        ),
        VerbAct(
            "volume prune",
            ("volume", "prune", "-a"),
            ready=lambda bench: bench.verb("volume", "create", "vol"),
            undo=lambda bench: bench.drop_volume("vol"),
        ),
        VerbAct(
            "kernel install",
            ("kernel", "install", "--image", "PLACE/away.tar", "--name", "faulty"),
            check=_kernel_whole,
            undo=_both(_remove_kernels, _drop_files),
        ),
        VerbAct(
            "kernel remove",
            ("kernel", "remove", "faulty"),
            ready=_install_kernel,
            check=_kernel_whole,
            undo=_remove_kernels,
            again=False,
        ),
        VerbAct(
            "kernel freeze",
            ("kernel", "freeze", "faulty", "made", "--container", "live", "--name", "frozen"),
            ready=_install_kernel,
            check=_both(_kernel_whole, _still_runs, _runs("made", "cat /live", "live")),
            undo=_both(_remove_kernels, _drop("made")),
        ),
        VerbAct("kernel start", (KERNEL, "-f", "PLACE/run/kernel.json", "--ContainerKernel.run=base")),
    )


KERNEL = "KERNEL"
"""In place of a verb: the process of a kernel, which is killed while it starts."""
