"""Removing trees of the store, whoever owns what is in them."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from nbcontainer.errors import NbcontainerError
from nbcontainer.images import sandboxed

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store


def discard(store: Store, runner: Runner, paths: list[Path]) -> None:
    """Removes trees of the store: they are gone by name at once, and as files when this returns.

    What is in them may belong to ids that only exist in a container, so that the files go inside a sandbox. What
    cannot be removed now (no launcher any more, say) stays in `tmp` for a later sweep.
    """
    trash = store.path / "tmp" / store.unique()
    try:
        store.new_directory(trash)
    except OSError:  # no space for one more directory, so all the more they must go
        for path in paths:
            _discard_memory(store, runner, path)
            _discard_tree(store, runner, path)
        return
    for path in paths:
        if _discard_memory(store, runner, path):
            with contextlib.suppress(FileNotFoundError):
                path.rename(trash / path.name)
    _discard_tree(store, runner, trash)


def _discard_memory(store: Store, runner: Runner, path: Path) -> bool:
    """Removes what a layer has in the store's `memory`, which `path` only links to; False where it cannot be, now."""
    done = True
    for link in (*path.glob("work*"), *path.glob("diff*")):
        if link.is_symlink() and (folder := link.readlink()).exists() and folder.parents[1] == store.memory:
            done = _discard_tree(store, runner, folder) and done
            with contextlib.suppress(OSError):  # a layer that was kept has left its work directory behind
                folder.parent.rmdir()
    return done


def _discard_tree(store: Store, runner: Runner, tree: Path) -> bool:
    """Removes a tree; False where it cannot be, now."""
    # By its path in the store: containers' root need not be let through the directories above.
    seen = tree.relative_to(store.path) if tree.is_relative_to(store.path) else tree
    try:
        shutil.rmtree(tree)
    except (OSError, RecursionError):
        try:
            runner.on_directory(sandboxed.remove_here, str(seen))
            tree.rmdir()
        except (OSError, NbcontainerError):
            return False
    return True
