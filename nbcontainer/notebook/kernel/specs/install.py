"""`nbcontainer kernel install`: makes a kernelspec, and says what its container shares with the host."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.grammar import Command, Option, parse
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.run import request_of
from nbcontainer.commands.views import Note
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import UsageError
from nbcontainer.images.archives.loading import stem_of
from nbcontainer.notebook.kernel.specs import kernelspec
from nbcontainer.notebook.kernel.specs.freeze import RUN_WORDS, run_words
from nbcontainer.notebook.kernel.specs.kernelspec import NOTEBOOKS, Notebooks
from nbcontainer.notebook.kernel.specs.sharing import shared
from nbcontainer.oci import reference
from nbcontainer.sandbox.networking import Network
from nbcontainer.store import user_files
from nbcontainer.store.layout import default_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Listener

_CONTAINER_USER = Option(("-u",), "USER[:GROUP]", "the user in the container, by name or number in the image")

INSTALL = Command(
    "kernel install",
    "",
    "Make a kernel for notebooks whose cells run in a container of IMAGE. Without --image and --container: your Python "
    "in a copy-on-write view of the host, with --network private.",
    (
        Option(("--image",), "IMAGE", "the image, as in run; a file is added to the store"),
        Option(("--name",), "NAME", "the kernel's name, by default made of the image's"),
        Option(("--display-name",), "TEXT", "what a launcher shows, by default the image's name"),
        Option(("--kernel",), "NAME", "run this kernel, which the image must have, instead of a shell"),
        Option(
            ("--notebooks",),
            "rw|ro|none",
            "show the notebook's directory at the same path; by default rw in host, ro in other images",
        ),
        Option(("--shell",), "PROGRAM", "the shell, by default bash, or sh where the image has none"),
        Option(("--container",), "NAME", "continue in the container of that name each time, instead of in a fresh one"),
        Option(("--user",), "", "install for this user, which is the default"),
        Option(("--prefix",), "DIR", "install below DIR/share/jupyter, instead of for this user"),
        Option(("--sys-prefix",), "", "install below this Python's prefix"),
        _CONTAINER_USER,
        *options_without("name", "rm", "user", "here", "explain", "untrusted", "cache"),
    ),
)


@dataclass(frozen=True)
class _Choice:
    """What to install: the arguments of the container's run, its image's name for people, and the settings."""

    run: list[str]
    shown: str
    kernel: str
    notebooks: str
    store: str
    label: str


def install(engine: Callable[[], Engine], words: Words, listener: Listener | None = None) -> Note:
    """Run `kernel install`. Raises this package's errors; then nothing is installed."""
    prefix = _prefix(words)
    _check(words)
    if user := words.options.pop("u", None):
        words.options["user"] = user
    if not words.one("image") and not words.one("container"):
        _choose_default(words)
    opened = engine()
    choice = _choose(words, opened, listener)
    name = words.one("name") or kernelspec.name_for(choice.shown)
    spec = _document(words, choice)
    if words.has("timeout") and kernelspec.provisioned(spec):
        hint = "remove it, or install a kernel for a shell with `--shell`"
        raise UsageError("`--timeout` limits the cells of a shell, and this kernel runs its cells itself", hint=hint)
    logos = kernelspec.resources(choice.kernel) if choice.kernel else kernelspec.LOGOS
    if prefix:
        user_files.check_path(opened.store, reference.host_path(prefix) / "share" / "jupyter" / "kernels" / name)
    path = kernelspec.install(spec, name, prefix=prefix, logos=logos)
    return Note("\n".join((f"{name}  {path}", *shared(choice.run, Notebooks(choice.notebooks), opened.store))))


def _check(words: Words) -> None:
    """Raise `UsageError` for a name that no kernel can have, and for an empty image or container: `$UNSET`."""
    if words.one("name"):
        kernelspec.check_name(words.one("name"))
    for option in ("image", "container"):
        if words.has(option) and not words.one(option):
            raise UsageError(f"invalid value for `--{option}`: ''", hint=f"name one, or remove `--{option}`")


def _prefix(words: Words) -> str:
    """Return the prefix to install below, empty for this user's directory. Removes the flag `--user`."""
    chosen = [f"--{name}" for name in ("user", "prefix", "sys-prefix") if words.has(name)]
    if len(chosen) > 1:
        raise UsageError(f"`{chosen[0]}` and `{chosen[1]}` exclude each other", hint="remove one of them")
    words.options.pop("user", None)
    return sys.prefix if words.has("sys-prefix") else words.one("prefix")


def _choose_default(words: Words) -> None:
    """Choose the data-science kernel: python3 in `host`, with access to other machines."""
    words.options["image"] = [reference.HOST]
    words.options.setdefault("network", [Network.PRIVATE])
    if not words.has("shell"):
        words.options.setdefault("kernel", ["python3"])


def _choose(words: Words, engine: Engine, listener: Listener | None) -> _Choice:
    word, container = words.one("image"), words.one("container")
    given = words.one("notebooks")
    if words.has("notebooks") and given not in NOTEBOOKS:
        raise UsageError(f"invalid value for `--notebooks`: {given!r}", hint="use rw, ro or none")
    of_file = reference.is_path(word)
    request = request_of(parse(RUN_WORDS, run_words(word, container, words)))
    if joined := request.options.networking.joined:
        hint = "use --network private, and publish the port of that container with -p"
        raise UsageError(f"a kernel cannot join the network of container '{joined}', a job of a notebook", hint=hint)
    _, image = choose_container(engine, request, listener)
    return _Choice(
        # A file may be moved or changed later: the store has its image, by this digest.
        run_words(image.digest if of_file else word, container, words),
        stem_of(reference.image_file(word).path) if of_file else word or container,
        words.one("kernel"),
        given or _default_notebooks(image),
        _store_to_name(engine),
        image.config.labels.get(kernelspec.LABEL, ""),
    )


def _default_notebooks(image: Image) -> str:
    return Notebooks.RW if image.name == reference.HOST else Notebooks.RO


def _document(words: Words, choice: _Choice) -> dict[str, Any]:
    run, notebooks = choice.run, choice.notebooks
    title = words.one("display-name") or f"{choice.shown} (container)"
    if choice.label and not choice.kernel and not words.has("shell"):
        return kernelspec.document_labelled(choice.label, run, title, notebooks=notebooks, store=choice.store)
    if not choice.kernel:
        shell = words.one("shell")
        return kernelspec.document(run, title, shell=shell, store=choice.store, notebooks=notebooks)
    if words.has("shell"):
        raise UsageError("`--shell` and `--kernel` exclude each other", hint="remove one of them")
    title = words.one("display-name") or f"{choice.kernel} in {choice.shown} (container)"
    return kernelspec.document_inside(choice.kernel, run, title, notebooks=notebooks)


def _store_to_name(engine: Engine) -> str:
    """Return the store's path if the kernel would not find it by itself, else an empty string."""
    chosen = "NBCONTAINER_HOME" in os.environ or engine.store.path != default_path().resolve()
    return str(engine.store.path) if chosen else ""
