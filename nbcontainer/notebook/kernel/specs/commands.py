"""`nbcontainer kernel install|freeze|list|remove`: the verbs for kernelspecs."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.grammar import Command, Option, parse
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.run import request_of
from nbcontainer.commands.views import Note, Table
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import UsageError
from nbcontainer.images.archives.loading import stem_of
from nbcontainer.notebook.kernel.specs import kernelspec
from nbcontainer.notebook.kernel.specs.freeze import FREEZE, RUN_WORDS, freeze, run_words
from nbcontainer.oci import reference
from nbcontainer.store import user_files
from nbcontainer.store.layout import default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.engine import Engine
    from nbcontainer.progress import Listener

_OF_RUN = options_without("name", "rm")

INSTALL = Command(
    "kernel install",
    "",
    "Make a kernel for notebooks whose cells run in a container of IMAGE.",
    (
        Option(("--image",), "IMAGE", "the image, as in run"),
        Option(("--name",), "NAME", "the kernel's name, by default made of the image's"),
        Option(("--display-name",), "TEXT", "what a launcher shows, by default the image's name"),
        Option(("--kernel",), "NAME", "run this kernel, which the image must have, instead of a shell"),
        Option(("--notebooks",), "ro|rw", "with --kernel, show the notebook's directory at the same path"),
        Option(("--shell",), "PROGRAM", "the shell, by default bash, or sh where the image has none"),
        Option(("--container",), "NAME", "go on in the container of that name each time, instead of in a fresh one"),
        Option(("--prefix",), "DIR", "install below DIR/share/jupyter, instead of for this user"),
        Option(("--sys-prefix",), "", "install below this Python's prefix"),
        *_OF_RUN,
    ),
)
LIST = Command("kernel list", "", "List the kernels of nbcontainer that Jupyter finds.")
REMOVE = Command("kernel remove", "NAME...", "Remove kernels; images and containers stay.", least=1, most=999)


@dataclass(frozen=True)
class KernelInvocation:
    """One use of a verb. `engine` opens the store: some verbs need none. `listener` gets the progress of long work."""

    engine: Callable[[], Engine]
    words: Words
    listener: Listener | None = None


def _install(call: KernelInvocation) -> Any:
    words = call.words
    image, container = words.one("image"), words.one("container")
    if not image and not container:
        raise UsageError("kernel install: missing image", hint="name it with `--image IMAGE`")
    if reference.is_path(image):
        image = str(reference.host_path(image).absolute())
    run = run_words(image, container, words)
    request = request_of(parse(RUN_WORDS, run))
    engine = call.engine()
    _, found = choose_container(engine, request, call.listener)
    shown = stem_of(reference.host_path(image)) if reference.is_path(image) else image or container
    name = words.one("name") or kernelspec.name_for(shown)
    spec = _document(words, run, shown, _store_to_name(engine), found.config.labels.get(kernelspec.LABEL, ""))
    prefix = sys.prefix if words.has("sys-prefix") else words.one("prefix")
    if prefix:
        user_files.check_path(engine.store, reference.host_path(prefix) / "share" / "jupyter" / "kernels" / name)
    path = kernelspec.install(spec, name, prefix=prefix)
    return Note(f"{name}  {path}")


def _document(words: Words, run: list[str], shown: str, store: str, label: str) -> dict[str, Any]:
    kernel, notebooks = words.one("kernel"), words.one("notebooks")
    if notebooks not in ("", "ro", "rw"):
        raise UsageError(f"invalid value for `--notebooks`: {notebooks!r}", hint="use ro or rw")
    if label and not kernel and not words.has("shell"):
        title = words.one("display-name") or f"{shown} (container)"
        return kernelspec.document_labelled(label, run, title, notebooks=notebooks, store=store)
    if not kernel:
        if notebooks:
            raise UsageError("`--notebooks` requires `--kernel`", hint=f"for a shell, use `-v DIR:DIR:{notebooks}`")
        title = words.one("display-name") or f"{shown} (container)"
        return kernelspec.document(run, title, shell=words.one("shell"), store=store)
    if words.has("shell"):
        raise UsageError("`--shell` and `--kernel` exclude each other", hint="remove one of them")
    title = words.one("display-name") or f"{kernel} in {shown} (container)"
    return kernelspec.document_inside(kernel, run, title, notebooks=notebooks)


def _store_to_name(engine: Engine) -> str:
    """Return the store's path if the kernel would not find it by itself, else an empty string."""
    chosen = "NBCONTAINER_HOME" in os.environ or engine.store.path != default_path().resolve()
    return str(engine.store.path) if chosen else ""


def _list(_: KernelInvocation) -> Any:
    rows = tuple((spec.name, spec.display_name, spec.run, str(spec.path)) for spec in kernelspec.installed())
    return Table(("kernel", "shown as", "runs", "where"), rows, "no kernels")


def _remove(call: KernelInvocation) -> Any:
    return Note("\n".join(f"removed {kernelspec.remove(name)}" for name in call.words.operands))


def _freeze(call: KernelInvocation) -> Any:
    return freeze(call.engine(), call.words, call.listener)


VERBS = {
    "install": (INSTALL, _install),
    "freeze": (FREEZE, _freeze),
    "list": (LIST, _list),
    "remove": (REMOVE, _remove),
}


def overview() -> str:
    """Return the verbs, one a line."""
    return "\n".join(f"  {command.usage}  {command.help}" for command, _ in VERBS.values())


def run(words: Sequence[str], engine: Callable[[], Engine], listener: Listener | None = None) -> Any:
    """Run the command line after `kernel`; return its view. Raises this package's errors."""
    name = words[0] if words else ""
    if name not in VERBS:
        if name in ("", "-h", "--help"):
            return Note(f"usage: nbcontainer kernel VERB ...\n\nverbs:\n{overview()}")
        raise UsageError(f"kernel: unknown verb {shlex.quote(name)}", hint=f"choose one of {' '.join(VERBS)}")
    command, do = VERBS[name]
    parsed = parse(command, words[1:])
    if parsed.has("help"):
        return Note(command.describe("nbcontainer "))
    return do(KernelInvocation(engine, parsed, listener))
