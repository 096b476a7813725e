"""`nbcontainer kernel freeze`: makes an image and a kernel from a notebook's container, with what was installed in it.

A label of the image describes the kernel in it, so that `kernel install --image` makes the same one elsewhere.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from nbcontainer.commands.grammar import Command, Option, parse
from nbcontainer.commands.images import describe
from nbcontainer.commands.options.table import RUN_OPTIONS
from nbcontainer.commands.views import Note
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.commit import check_export, commit
from nbcontainer.containers.snapshot import frozen_copy
from nbcontainer.errors import UsageError
from nbcontainer.images.archives.saving import save_archive
from nbcontainer.images.builtin.host import is_of_this_machine
from nbcontainer.notebook.kernel.specs import kernelspec
from nbcontainer.oci import reference
from nbcontainer.progress import Tracker

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.notebook.kernel.specs.kernelspec import Installed
    from nbcontainer.progress import Listener

FREEZE = Command(
    "kernel freeze",
    "KERNEL IMAGE",
    "Make IMAGE from the container of a running notebook of KERNEL, and a kernel for it.",
    (
        Option(("--container",), "NAME", "the container, if several notebooks of that kernel run"),
        Option(("--name",), "NAME", "the new kernel's name, by default made of the image's"),
        Option(("--display-name",), "TEXT", "what a launcher shows, by default the image's name"),
        Option(("-o", "--output"), "FILE", "write the image there too, for `kernel install --image FILE` elsewhere"),
    ),
    least=2,
    most=2,
)

RUN_WORDS = Command("run", options=RUN_OPTIONS, most=1)


def run_words(image: str, container: str, words: Words) -> list[str]:
    """Return the arguments of a run of `image`, in the container of that name if given, with the options in `words`."""
    run = [image] if image else []
    run += ["--name", container] if container else []
    for option in RUN_OPTIONS:
        if option.name not in ("name", "rm"):
            for value in words.all(option.name):
                run += option.words(value)
    return run


def freeze(engine: Engine, words: Words, listener: Listener | None = None) -> Note:
    """Run `kernel freeze`. The notebook is paused for a moment. Raises this package's errors."""
    kernel, word = words.operands
    found = next((spec for spec in kernelspec.installed() if spec.name == kernel), None)
    if found is None:
        raise UsageError(f"no such kernel: '{kernel}'", hint="list kernels with `nbcontainer kernel list`")
    wanted = reference.parse_new(word).familiar
    name = kernelspec.check_name(words.one("name") or kernelspec.name_for(wanted))
    spec = kernelspec.read(found)
    old = parse(RUN_WORDS, shlex.split(found.run))
    container = words.one("container") or _container_of(engine, found, old.one("name"))
    labels = {kernelspec.LABEL: kernelspec.label(spec)}
    target = words.one("output")
    with frozen_copy(engine, container) as copy, Tracker(f"freeze {wanted}", listener) as tracker:
        if target:
            _check_output(engine, copy, target)
        image = commit(copy, wanted, labels=labels, message=f"frozen from {kernel}", progress=tracker.part())
    title = words.one("display-name") or f"{wanted} (container)"
    frozen = kernelspec.with_run(spec, run_words(wanted, "", old), title)
    path = kernelspec.install(frozen, name, logos=str(found.path))
    lines = [describe(image), f"{name}  {path}"]
    if target:
        with Tracker(f"save {wanted}", listener) as tracker:
            save_archive(engine.store, [image], reference.host_path(target), tracker)
        lines.append(f"{target}  nbcontainer kernel install --image {shlex.quote(target)}")
    return Note("\n".join(lines))


def _check_output(engine: Engine, container: Container, target: str) -> None:
    """Raise `UsageError` if no image of the container can be written to the host file `target`."""
    check_export(engine, reference.host_path(target))
    if is_of_this_machine(engine.store, container.image()):
        problem = f"cannot write {target}: the image consists of the host with changes, and is incomplete elsewhere"
        raise UsageError(problem, hint="remove `-o`: the new kernel is for this host")


def _container_of(engine: Engine, kernel: Installed, named: str) -> str:
    """Return the container that a notebook of the kernel runs in, or the named one that all its notebooks use."""
    running = [name for name, cell in running_containers(engine.store).items() if cell.kernel == kernel.run]
    if len(running) > 1:
        names = " ".join(sorted(running))
        raise UsageError(
            f"{len(running)} notebooks of kernel '{kernel.name}' are running: {names}",
            hint="choose one with `--container`",
        )
    if not running and not named:
        hint = "open one, install the packages, and freeze it while it runs"
        raise UsageError(f"no notebook of kernel '{kernel.name}' is running", hint=hint)
    return running[0] if running else named
