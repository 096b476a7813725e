"""Making flattened layers: in the background after a cell, or before a cell that would have too many lowers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.containers.history.chain import History
from nbcontainer.containers.history.flats import WIDTH, Flat, levels
from nbcontainer.errors import NbcontainerError
from nbcontainer.images import sandboxed
from nbcontainer.images.builtin import host
from nbcontainer.images.trash import discard
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.history.state import State, StateId
    from nbcontainer.containers.history.states import States
    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store

MOST_LOWERS = 120
"""With more layers of states than this, the next cell waits until they are flattened. The kernel takes 500."""


class Flattening:
    """Makes the flattened layers of the states of `store`, on the layers `base`; `runner` does it in a sandbox."""

    def __init__(self, store: Store, states: States, runner: Runner, base: tuple[str, ...]) -> None:
        self._base = base
        self._store = store
        self._states = states
        self._runner = runner

    def after(self, state: State) -> None:
        """Make the flattened layers that end with a state, and those that they need. Raises `StoreError`, …"""
        for level in range(1, levels(state.depth) + 1):
            self._flat(state, level)

    def all(self, head: State | None) -> None:
        """Make all flattened layers that a state can use. Raises `StoreError`, `ContainerDamaged`, …"""
        for state in reversed(list(History(self._states, head).changes())):
            if state.layer:
                self.after(state)

    def _flat(self, state: State, level: int) -> Flat:
        """Return the flattened layer of that level that ends with a state; make it if it is missing."""
        if (known := self._states.flats.get(state, level)) is not None:
            return known
        layers, under = self._parts(state, level)
        made = Flat(state.number, level, self._merge(layers, under), under)
        try:
            with self._store.lock():
                if (other := self._states.flats.get(state, level)) is None:
                    self._add(state, made)
                    return made
        except BaseException:
            self._drop(made.layer)
            raise
        self._drop(made.layer)  # another process was faster
        return other

    def _add(self, state: State, made: Flat) -> None:
        if self._states.journals.line(state.id.journal, state.number) is None:
            raise store_error("flatten layers", self._store.path, FileNotFoundError(2, "the container was removed"))
        try:
            self._states.flats.add(state.id.journal, made)
            self._store.layers.finish(made.layer)
        except OSError as error:
            raise store_error("flatten layers", self._store.path, error) from error

    def _parts(self, state: State, level: int) -> tuple[list[str], StateId | None]:
        """Return the layers to merge, the topmost first, and the state under the last of them."""
        layers: list[str] = []
        under: StateId | None = None
        current: State | None = state
        while current is not None and len(layers) < WIDTH:
            if not current.layer:  # a cell whose changes are lost
                under = current.under
            elif level > 1:
                flat = self._flat(current, level - 1)
                layers.append(flat.layer)
                under = flat.under
            else:
                layers.append(current.layer)
                under = current.under
            current = None if under is None else self._states.get(under)
        return layers, under

    def _merge(self, layers: Sequence[str], under: StateId | None) -> str:
        """Return the id of a new layer that has the effect of `layers`, the topmost first. Raises `StoreError`, …"""
        store, new = self._store, self._store.unique()
        try:
            with store.lock(shared=True):
                place = store.layers.begin(new)
        except OSError as error:
            raise store_error("flatten layers", store.path, error) from error
        try:
            self._fill(layers, place, self._below(under))
            parts = dict.fromkeys(part for layer in layers for part in host.directories(store, layer))
            if parts:
                host.write_beside(store, new, list(parts))
        except BaseException as error:
            self._drop(new)
            if isinstance(error, OSError):
                raise store_error("flatten layers", store.path, error) from error
            raise
        return new

    def _below(self, under: StateId | None) -> tuple[str, ...]:
        """Return the layers below a new one, the topmost first."""
        state = None if under is None else self._states.get(under)
        return History(self._states, state).lowers() + self._base[::-1]

    def _fill(self, layers: Sequence[str], place: Path, below: Sequence[str]) -> None:
        store = self._store
        homes = [store.path / "layers" / layer / "diff" for layer in layers]
        if any(home.is_symlink() for home in homes):  # in memory: see `Store.use_memory`
            names = [str(Path(os.readlink(home)).relative_to(store.memory)) for home in homes]  # noqa: PTH115
            home = store.new_directory(store.memory / place.name)
            store.new_directory(home / "diff")
            self._flatten_in(str(store.memory), names, f"{place.name}/diff", below)
            (place / "diff").symlink_to(home / "diff")
            return
        store.new_directory(place / "diff")
        names = [f"{layer}/diff" for layer in layers]
        self._flatten_in("layers", names, f"{place.name}/diff", below)

    def _flatten_in(self, top: str, layers: list[str], target: str, below: Sequence[str]) -> None:
        """Merge layers into `target`, and drop the whiteouts that hide nothing: programs would see them as files."""
        hiding = self._runner.on_directory(sandboxed.flatten, top, layers=layers, target=target)
        if hiding:
            _, there = self._runner.on_layers(sandboxed.look_up, below, paths=[], replaced=hiding)
            if alone := [path for path in hiding if path not in there]:
                self._runner.on_directory(sandboxed.drop_whiteouts, top, target=target, paths=alone)

    def _drop(self, layer: str) -> None:
        with contextlib.suppress(OSError, NbcontainerError):
            discard(self._store, self._runner, [self._store.path / "layers" / layer])
