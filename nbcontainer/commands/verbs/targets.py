"""What the operands of verbs name: containers and images."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers import lookup as containers
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.comparing.two_trees import Tree
from nbcontainer.containers.snapshot import frozen_copy, held, held_state
from nbcontainer.errors import ContainerNotFound, ImageNotFound, UsageError
from nbcontainer.images import library
from nbcontainer.oci import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.history.state import State
    from nbcontainer.oci.documents import Image


def image_of(engine: Engine, name: str) -> Image:
    """Return the image of that name, digest or path. Raises `ContainerNotFound` if there is none."""
    if reference.is_path(name):
        return engine.images.find(name, pull=library.NEVER)
    try:
        return engine.store.index.image(name if reference.is_digest(name) else reference.parse(name).familiar)
    except ImageNotFound as error:
        raise neither(name) from error


def neither(name: str) -> ContainerNotFound:
    """Return the error for a name of nothing."""
    hint = "see `%container ps` and `%container images`"
    return ContainerNotFound(f"no such container or image: '{name}'", hint=hint)


def container_of(engine: Engine, name: str = "") -> Container:
    """Return the container of that name, by default the last one of this notebook."""
    last = engine.last
    if last is not None and (not name or name == last.name):
        if last.anonymous:
            return last
        name = last.name
    if not name:
        hint = "run a cell with `%%container` first, or name a container (see `%container ps`)"
        raise ContainerNotFound("no container yet, and none is named", hint=hint)
    return containers.get(engine, name)


def not_running(engine: Engine, name: str) -> ContainerNotFound:
    """Return the error for a container that does not run. Raises `ContainerNotFound` if it does not exist."""
    container_of(engine, name)
    return ContainerNotFound(f"container '{name}' does not run", hint="see `%container ps` for those that run")


def is_state(text: str) -> bool:
    """Return whether a text is written as a state (dev@3). An image's digest has a colon."""
    return "@" in text and ":" not in text.partition("@")[2]


def state_of(engine: Engine, text: str) -> tuple[Container, State | None]:
    """Return the container and the state that `dev@3` names: after its cell 3, or at 0 the image (None).

    `dev` is its present state. Raises `ContainerError` if the state does not exist, `ContainerNotFound`, `UsageError`.
    """
    name, at, number = text.partition("@")
    container = container_of(engine, name)
    if not at:
        return container, container.record.head
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise UsageError(f"invalid state '{text}'", hint="write CONTAINER@N with the number of a cell, as in dev@3")
    return container, container.state(int(number))


@contextlib.contextmanager
def present(engine: Engine, name: str = "") -> Iterator[Container]:
    """Yield a container to read; of one that runs, here or in another notebook, a copy of its present state."""
    name = name or (engine.last.name if engine.last is not None else "")
    if name in running_containers(engine.store):
        with frozen_copy(engine, name) as copy:
            yield copy
    else:
        yield container_of(engine, name)


@contextlib.contextmanager
def tree_of(engine: Engine, text: str) -> Iterator[Tree]:
    """Yield the tree that a container (`dev`: its present state), a state (`dev@3`) or an image names.

    It is held against `rm`, `rmi` and `prune` inside the block. Raises `ContainerNotFound` if there is none,
    `ContainerError` if the container has no such state, `UsageError`.
    """
    with contextlib.ExitStack() as stack:
        if is_state(text):
            yield _tree(text, stack.enter_context(held_state(*state_of(engine, text))))
            return
        try:
            container = stack.enter_context(present(engine, text))
        except (ContainerNotFound, UsageError):
            image = image_of(engine, text)
            lowers = engine.images.lowers(image)
            stack.enter_context(held(engine, text, image.digest, lowers))
            yield Tree(text, lowers, lowers[::-1])
            return
        yield _tree(text, stack.enter_context(held_state(container, container.record.head)))


def _tree(text: str, container: Container) -> Tree:
    return Tree(text or container.name, container.layers, container.lowers, container.record.volumes)
