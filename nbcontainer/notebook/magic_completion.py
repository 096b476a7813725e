"""Completion of `%%container`, `%container` and `%commit` in IPython, and so in JupyterLab and the console."""

from __future__ import annotations

import inspect
import os
import re
import types
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from nbcontainer.commands import completion
from nbcontainer.commands.completion import Kind
from nbcontainer.commands.containers import VERBS
from nbcontainer.containers import lookup as containers
from nbcontainer.containers import named_volumes
from nbcontainer.errors import NbcontainerError
from nbcontainer.images.layers import listing
from nbcontainer.oci import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbcontainer.commands.completion import Completion, Proposal
    from nbcontainer.commands.grammar import Command
    from nbcontainer.containers.engine import Engine

_MAGIC = re.compile(r"\s*(?:[^\W\d]\w*\s*=\s*)?(%%container|%container|%commit)\s+(.*)", re.DOTALL)


class StoreNames:
    """The names of a store and of a notebook. Whatever cannot be read now is not proposed."""

    def __init__(self, engine: Engine, namespace: Mapping[str, Any]) -> None:
        self._engine = engine
        self._namespace = namespace

    def images(self) -> list[str]:
        """Return the images of the store and the built-in ones."""
        return [*_quietly(lambda: list(self._engine.store.index.images())), "busybox", reference.HOST]

    def containers(self) -> list[str]:
        """Return the named containers."""
        found = _quietly(lambda: containers.list_all(self._engine)[0])
        return [one.name for one in found if not one.anonymous]

    def volumes(self) -> list[str]:
        """Return the named volumes."""
        return [one.name for one in _quietly(lambda: named_volumes.list_all(self._engine))]

    def variables(self) -> list[str]:
        """Return the notebook's variables that are not hidden."""
        return [name for name in self._namespace if not name.startswith("_")]

    def value(self, variable: str) -> Any:
        """Return the value of a variable; None if it does not exist."""
        return self._namespace.get(variable)

    def environment(self) -> list[str]:
        """Return the names of the notebook's environment variables."""
        return list(os.environ)

    def host_paths(self, beginning: str) -> list[str]:
        """See `nbcontainer.commands.completion.host_paths`."""
        return completion.host_paths(beginning)

    def container_paths(self, image: str, container: str, beginning: str) -> list[str]:
        """Return the paths in an image of the store, or in a named container."""
        folder = beginning.rpartition("/")[0]
        layers = self._engine.store.path / "layers"
        found = _quietly(lambda: listing.directory(layers, self._lowers(image, container), folder))
        return [f"{folder}/{name}{'/' if below else ''}" for name, below in dict(found).items()]

    def _lowers(self, image: str, container: str) -> tuple[str, ...]:
        if container:
            return containers.get(self._engine, container).lowers
        return self._engine.images.lowers(self._engine.store.index.image(reference.parse(image).familiar))


def _quietly(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except (NbcontainerError, OSError):
        return ()


def complete_line(text: str, commands: Mapping[str, Command], names: Callable[[], StoreNames]) -> Completion | None:
    """Return the completion of a line up to the cursor; None for a line that is not one of our magics.

    `commands` are the command of `%%container`, and those of the verbs that are not in VERBS, by these names.
    """
    found = _MAGIC.fullmatch(text)
    if found is None:
        return None
    magic, rest = found[1], found[2]
    if magic == "%%container":
        return completion.complete(commands["%%container"], rest, names())
    if magic == "%commit":
        return completion.complete(VERBS["commit"].command, rest, names())
    verb, space, rest = rest.partition(" ")
    if not space:
        return completion.verbs(verb, {**VERBS, **commands})
    command = commands.get(verb) or (VERBS[verb].command if verb in VERBS else None)
    return None if command is None else completion.complete(command, rest, names())


def _type(proposal: Proposal, names: Callable[[], StoreNames]) -> str:
    """Return the type that a frontend shows beside a proposal: `path`, a variable's as jedi calls it, or `magic`."""
    if proposal.kind == Kind.VARIABLE:
        return type_of(names().value(proposal.text))
    return "path" if proposal.kind == Kind.PATH else "magic"


def type_of(value: object) -> str:
    """Return the type of a variable with this value, as jedi and so IPython call it."""
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        return "module"
    if issubclass(kind, type):
        return "class"
    return "function" if inspect.isroutine(value) else "instance"


def matcher(commands: Mapping[str, Command], names: Callable[[], StoreNames]) -> Callable[[Any], Any]:
    """Return a matcher for IPython's completer (`IPCompleter.custom_matchers`)."""

    @context_matcher()  # type: ignore[untyped-decorator]
    def container_matcher(context: Any) -> dict[str, Any]:
        line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        first = context.cursor_line == 0 or not line.lstrip().startswith("%%")
        found = complete_line(line, commands, names) if first else None
        if found is None or not found.proposals:
            return {"completions": [], "suppress": False}
        completions = [SimpleCompletion(text=one.text, type=_type(one, names)) for one in found.proposals]
        return {"completions": completions, "matched_fragment": found.fragment, "suppress": True}

    matched: Callable[[Any], Any] = container_matcher
    return matched
